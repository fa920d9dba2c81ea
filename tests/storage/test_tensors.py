"""Tensors: bitwise as they were saved or refused, and the same tensors are the same bytes."""

import json
import re
import resource
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from folders import told

from devsort.storage.artifact import Origin
from devsort.storage.tensors import checksum, load_tensors, read_metadata, save_tensors
from devsort.storage.weights import load_weights

ORIGIN = Origin("devsort train x", '{"train": {"lr": 0.1}}', "abc", 2, force=False)
AGAIN = "; run `devsort train x` to make it again"
TENSORS = {"w": torch.arange(6.0).view(2, 3), "b": torch.zeros(2)}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "a.safetensors"
    save_tensors(path, TENSORS, ORIGIN, step="1")
    return path


def read(path: Path, step: str = "1") -> dict[str, torch.Tensor]:
    return load_tensors(path, ORIGIN, step=step)


@pytest.mark.parametrize(
    "change",
    [
        {"w": TENSORS["w"] + 1e-7},
        {"w": TENSORS["w"].view(3, 2)},
        {"w": TENSORS["w"].double()},
        {"v": TENSORS["w"]},
        {},
    ],
    ids=["value", "shape", "type", "name", "missing"],
)
def test_checksum_sees_names_shapes_types_and_bytes(change):
    rest = {"b": TENSORS["b"]}
    assert checksum(TENSORS) == checksum({"b": TENSORS["b"], "w": TENSORS["w"].clone()})
    # not of the memory layout
    assert checksum(TENSORS) == checksum(rest | {"w": TENSORS["w"].T.contiguous().T})
    assert checksum(rest | change) != checksum(TENSORS)


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool]
)
def test_tensors_come_back_bitwise(tmp_path, dtype):
    path = tmp_path / "t.safetensors"
    tensors = {
        "a": torch.arange(6).view(2, 3).to(dtype),
        "empty": torch.empty(0, 3),
        "scalar": torch.tensor(1.5),
    }
    tensors["transposed"] = tensors["a"].T
    save_tensors(path, tensors, ORIGIN)
    found = load_tensors(path, ORIGIN)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[k], t) and found[k].dtype == t.dtype for k, t in tensors.items())


def test_not_a_number_and_denormals_come_back_bitwise(tmp_path):
    path = tmp_path / "t.safetensors"
    bits = torch.tensor([0x7FC00001, -1, 1, 0x00000FFF], dtype=torch.int32)
    save_tensors(path, {"w": bits.view(torch.float32)}, ORIGIN)
    assert torch.equal(load_tensors(path, ORIGIN)["w"].view(torch.int32), bits)


SAVE = """
import sys, torch
from pathlib import Path
from devsort.storage.artifact import Origin
from devsort.storage.tensors import save_tensors
tensors = {"w": torch.arange(6.0).view(2, 3), "b": torch.zeros(2)}
origin = Origin("devsort train x", '{"train": {"lr": 0.1}}', "abc", 2, force=False)
save_tensors(Path(sys.argv[1]), tensors, origin, step="1")
"""


def test_the_same_tensors_are_the_same_bytes_also_in_another_process(saved, tmp_path):
    """The library's own order of metadata differs from call to call."""
    again = tmp_path / "again.safetensors"
    for _ in range(5):
        save_tensors(again, dict(reversed(TENSORS.items())), ORIGIN, step="1")
        assert again.read_bytes() == saved.read_bytes()
    again.unlink()
    subprocess.run([sys.executable, "-c", SAVE, again], check=True)
    assert again.read_bytes() == saved.read_bytes()


def test_a_file_says_where_it_comes_from(saved, tmp_path):
    expected = {**ORIGIN.attributes, "step": "1", "checksum": checksum(TENSORS)}
    assert read_metadata(saved) == expected
    assert read_metadata(tmp_path / "absent") == {}
    saved.write_bytes(b"anything else")
    assert read_metadata(saved) == {}


def test_a_file_cut_short_anywhere_is_refused(saved):
    whole = saved.read_bytes()
    for length in range(len(whole)):
        saved.write_bytes(whole[:length])
        message = told(read, saved)
        assert message.startswith(f"{saved} is cut short or damaged (")
        assert message.endswith(AGAIN)


@pytest.mark.parametrize("mask", [0x01, 0x20, 0x80, 0xFF], ids=hex)
def test_a_byte_flipped_anywhere_is_refused(saved, mask):
    """But for the version that wrote the file: any is accepted."""
    whole = saved.read_bytes()
    version = re.search(rb"devsort\":\"[\d.]+", whole).span()
    for i in set(range(len(whole))) - set(range(*version)):
        saved.write_bytes(whole[:i] + bytes([whole[i] ^ mask]) + whole[i + 1 :])
        message = told(read, saved)
        assert message.startswith(str(saved))
        assert message.endswith((AGAIN, ", or" + AGAIN.removeprefix(";")))  # or undo the change


def test_a_changed_weight_is_told_by_the_checksum(saved):
    whole = bytearray(saved.read_bytes())
    whole[-1] ^= 1
    saved.write_bytes(whole)
    assert told(read, saved) == f"{saved} does not match its checksum{AGAIN}"


def test_missing_other_and_foreign_files_are_named(saved, tmp_path):
    absent = tmp_path / "absent.safetensors"
    assert told(read, absent) == f"{absent} is missing{AGAIN}"
    assert told(read, tmp_path) == f"{tmp_path} is missing{AGAIN}"
    assert told(read, saved, "2") == f"{saved} has step 1, expected 2{AGAIN}"
    other = replace(ORIGIN, resolved='{"train": {"lr": 0.2}}')
    changed = "another config (train.lr was 0.1, is 0.2)"
    fix = f"undo the change, as with `--set train.lr=0.1`, or{AGAIN[1:]}"
    assert told(load_tensors, saved, other) == f"{saved} was made from {changed}; {fix}"
    saved.write_bytes(b"PK\x03\x04 a zip file, or anything else")
    assert told(read, saved).startswith(f"{saved} is cut short or damaged (")


def header(value: dict) -> bytes:
    text = json.dumps(value).encode()
    return struct.pack("<Q", len(text)) + text


TERABYTES = {
    "tensor": header({"w": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}),
    "shape alone": header({"w": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 8]}})
    + bytes(8),
    "overflow": header({"w": {"dtype": "F32", "shape": [2**33, 2**33], "data_offsets": [0, 0]}}),
    "header": struct.pack("<Q", 2**62) + b"{}",
    "header below the format's limit": struct.pack("<Q", 90_000_000) + b"{}",
}


@pytest.mark.parametrize("claim", TERABYTES)
@pytest.mark.parametrize("reader", [read, load_weights], ids=["load_tensors", "load_weights"])
def test_a_header_that_claims_terabytes_allocates_nothing(tmp_path, claim, reader):
    path = tmp_path / "w.safetensors"
    path.write_bytes(TERABYTES[claim])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB
    assert told(reader, path).startswith(str(path))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
