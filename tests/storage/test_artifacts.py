"""Run folders.

Nothing half-written is seen, nothing unverified is read, and every refusal names its remedy.
"""

import fcntl
import json
import os
import resource
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from devsort.storage.artifacts import (
    check_provenance,
    checksum,
    identity,
    load_tensors,
    read_json,
    save_tensors,
    write_json,
)
from folders import KEPT, names, told

from devsort import __version__
from devsort.errors import Stale
from devsort.sorting.run import (
    Run,
    load_checkpoint,
    open_run,
    provenance,
    save_checkpoint,
    trained_steps,
)
from devsort.storage.weights import load_weights

AGAIN = "; run `devsort train x` to make it again"
TENSORS = {"w": torch.arange(6.0).view(2, 3), "b": torch.zeros(2)}


# --- opening a run --------------------------------------------------------------------------------
# -------------------


def test_a_run_is_its_folder_and_its_config(tiny_run, tiny_config):
    assert tiny_run.config == tiny_config
    assert open_run(str(tiny_run.path), ("train.steps=7",)).config.train.steps == 7
    assert tiny_run.checkpoint(12) == tiny_run.path / "checkpoints" / "step-000000012.safetensors"


@pytest.mark.parametrize(
    "name", ["absent", "a file", "a\0b", "x" * 5000], ids=["absent", "file", "nul", "too long"]
)
def test_what_is_no_folder_is_named(tmp_path, name):
    (tmp_path / "a file").write_text("")
    shown = str(tmp_path / name).replace("\0", "\\x00")
    message = (
        f"{shown} is no folder; give a run folder that holds a config.yaml, such as runs/baseline"
    )
    assert told(open_run, tmp_path / name) == message


def test_a_foreign_folder_is_named(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"\xff\xd8")
    fix = "name a folder with a config.yaml, such as runs/baseline"
    assert told(open_run, tmp_path) == f"{tmp_path}/config.yaml does not exist; {fix}"


def test_steps_are_those_of_whole_checkpoints(tiny_run):
    assert tiny_run.steps() == []
    for step in (20, 3, 1_000_000_000):
        save_checkpoint(tiny_run, step, TENSORS)
    for stray in (
        "step-abc.safetensors",
        "step-7.safetensors",
        ".tmp-step-000000009.safetensors",
        "step-000000008 (1).safetensors",
    ):
        (tiny_run.checkpoints / stray).write_text("")
    assert tiny_run.steps() == [3, 20, 1_000_000_000]


def test_an_untrained_and_a_half_trained_run_are_named(tiny_run):
    fix = f"run `devsort train {tiny_run.path}` first"
    assert told(trained_steps, tiny_run) == f"{tiny_run.path} has no checkpoints yet; {fix}"
    save_checkpoint(tiny_run, 19, TENSORS)
    assert told(trained_steps, tiny_run) == f"{tiny_run.path} was trained to step 19 of 20; {fix}"
    save_checkpoint(tiny_run, 20, TENSORS)
    assert trained_steps(tiny_run) == [19, 20]


# --- identity and provenance
# -----------------------------------------------------------------------------------------


def test_identity_depends_on_values_and_not_on_the_order_of_keys():
    assert identity({"a": 1, "b": [2]}) == identity({"b": [2], "a": 1})
    assert identity({"a": 1, "b": [2]}) != identity({"a": 1, "b": [3]})
    assert len(identity({})) == 16


@pytest.mark.parametrize("override", ["train.weight_decay=0.1", "task.seed=1", "model.heads=1"])
def test_checkpoints_depend_on_task_model_and_training(tiny_run, override):
    other = open_run(tiny_run.path, (override,))
    assert other.identity() != tiny_run.identity()
    assert other.identity("llc") == tiny_run.identity("llc")


@pytest.mark.parametrize("override", ["llc.max_checkpoints=5", "stages.bootstrap=9", "device=auto"])
def test_checkpoints_depend_on_nothing_else(tiny_run, override):
    other = open_run(tiny_run.path, (override,))
    section = override.replace("=", ".").partition(".")[0]
    assert other.identity() == tiny_run.identity()
    assert other.identity(section) != tiny_run.identity(section)


def test_a_default_written_out_changes_no_identity(tiny_run):
    assert (
        open_run(tiny_run.path, ("train.seed=0", "task.label_noise=0")).identity()
        == tiny_run.identity()
    )


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


def test_provenance_is_compared_key_by_key(tiny_run):
    made = provenance(tiny_run, "llc", inputs="abc")
    resolved = made.pop("resolved")
    assert json.loads(resolved) == {"llc": tiny_run.config.llc.model_dump(mode="json")}
    assert made == {"devsort": __version__, "config": tiny_run.identity("llc"), "inputs": "abc"}
    path, command = tiny_run.llc, "devsort llc x"
    check_provenance(made | {"devsort": "0.0.1"}, made, path, command)
    again = "; run `devsort llc x` to make it again"
    assert (
        told(check_provenance, made | {"config": "0"}, made, path, command)
        == f"{path} was made from another config{again}"
    )
    assert (
        told(check_provenance, made | {"inputs": "0"}, made, path, command)
        == f"{path} was made from other inputs{again}"
    )
    assert (
        told(check_provenance, {}, made, path, command)
        == f"{path} was made from another config and other inputs{again}"
    )


@pytest.mark.parametrize(
    ("overrides", "changes"),
    [
        (("train.lr=0.5",), " (train.lr was 0.001, is 0.5)"),
        (("train.betas=[0.5, 0.9]", "model.heads=1"),
         " (model.heads was 2, is 1; train.betas was [0.9, 0.999], is [0.5, 0.9])"),
        (("task.seed=1", "model.heads=1", "train.seed=1", "train.lr=0.5"),
         " (task.seed was 0, is 1; model.heads was 2, is 1; train.lr was 0.001, is 0.5; and 1 more)"),
    ],
)  # fmt: skip
def test_what_changed_in_the_config_is_told(tiny_run, overrides, changes):
    made, now = provenance(tiny_run), provenance(open_run(tiny_run.path, overrides))
    with pytest.raises(Stale) as e:
        check_provenance(made, now, tiny_run.llc, "c")
    assert (
        str(e.value)
        == f"{tiny_run.llc} was made from another config{changes}; run `c` to make it again"
    )
    for unknown in ({}, {"resolved": "["}, {"resolved": "[1]"}, {"resolved": 3}, {"resolved": "3"}):
        message = told(
            check_provenance, {**made, "resolved": None, **unknown}, now, tiny_run.llc, "c"
        )
        assert message == f"{tiny_run.llc} was made from another config; run `c` to make it again"


# --- tensors and checkpoints
# -----------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "a.safetensors"
    save_tensors(path, TENSORS, {"step": "1"})
    return path


def read(path: Path, step: str = "1"):
    return load_tensors(path, {"step": step}, "devsort train x")


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool]
)
def test_tensors_come_back_bitwise(tmp_path, dtype):
    tensors = {
        "a": torch.arange(6).view(2, 3).to(dtype),
        "empty": torch.empty(0, 3),
        "scalar": torch.tensor(1.5),
    }
    tensors["transposed"] = tensors["a"].T
    save_tensors(tmp_path / "t.safetensors", tensors, {})
    found = load_tensors(tmp_path / "t.safetensors", {}, "c")
    assert found.keys() == tensors.keys()
    assert all(
        torch.equal(found[k], tensors[k]) and found[k].dtype == tensors[k].dtype for k in tensors
    )


def test_not_a_number_and_denormals_come_back_bitwise(tmp_path):
    bits = torch.tensor([0x7FC00001, -1, 1, 0x00000FFF], dtype=torch.int32)
    save_tensors(tmp_path / "t.safetensors", {"w": bits.view(torch.float32)}, {})
    assert torch.equal(
        load_tensors(tmp_path / "t.safetensors", {}, "c")["w"].view(torch.int32), bits
    )


def test_a_file_cut_short_anywhere_is_refused(saved):
    whole = saved.read_bytes()
    for length in range(len(whole)):
        saved.write_bytes(whole[:length])
        message = told(read, saved)
        assert message.startswith(f"{saved} is cut short or damaged (")
        assert message.endswith(AGAIN)


@pytest.mark.parametrize("mask", [0x01, 0x20, 0x80, 0xFF], ids=hex)
def test_a_byte_flipped_anywhere_is_refused(saved, mask):
    whole = saved.read_bytes()
    for i in range(len(whole)):
        saved.write_bytes(whole[:i] + bytes([whole[i] ^ mask]) + whole[i + 1 :])
        message = told(read, saved)
        assert message.startswith(str(saved))
        assert message.endswith(AGAIN)


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


def test_a_checkpoint_comes_back_for_its_own_config_alone(tiny_run):
    save_checkpoint(tiny_run, 5, TENSORS)
    assert torch.equal(load_checkpoint(tiny_run, 5)["w"], TENSORS["w"])
    other = open_run(tiny_run.path, ("train.lr=0.5",))
    message = told(load_checkpoint, other, 5)
    path, fix = tiny_run.checkpoint(5), f"run `devsort train {tiny_run.path}` to make it again"
    force = f"run `devsort train {tiny_run.path} --force` to make it again"
    assert message == f"{path} was made from another config (train.lr was 0.001, is 0.5); {force}"
    tiny_run.checkpoint(5).rename(tiny_run.checkpoint(6))
    assert (
        told(load_checkpoint, tiny_run, 6)
        == f"{tiny_run.checkpoint(6)} has step 5, expected 6; {fix}"
    )
    assert told(load_checkpoint, tiny_run, 7) == f"{tiny_run.checkpoint(7)} is missing; {fix}"


# --- JSON and the lock
# ----------------------------------------------------------------------------------------------


def test_json_comes_back_and_damage_is_named(tmp_path):
    path, command = tmp_path / "stages.json", "devsort stages x"
    assert told(read_json, path, command) == f"{path} is missing; run `devsort stages x` first"
    value = {"name": "δ̄", "steps": [1, 2], "llc": 0.1}
    write_json(path, value)
    assert read_json(path, command) == value
    again = "; run `devsort stages x` to make it again"
    for text in (
        path.read_bytes()[:-3],
        b"",
        b"\xff",
        b"[" * 100_000,
        b'{"a": ' + b"9" * 5000 + b"}",
    ):
        path.write_bytes(text)
        message = told(read_json, path, command)
        assert message.startswith(f"{path} is cut short or damaged (")
        assert message.endswith(again)
    path.write_text("[1]")
    assert told(read_json, path, command) == f"{path} holds no JSON object{again}"


def fill(folder: Path, text: str) -> None:
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "file").write_text(text)


def test_a_second_writer_is_told_who_holds_the_folder(tiny_run):
    def second():
        with tiny_run.lock():
            raise AssertionError("two writers")

    with tiny_run.lock():
        holder = f"{tiny_run.path} is in use by process {os.getpid()}"
        assert told(second) == f"{holder}; wait for it, or stop that process"
    with tiny_run.lock():
        pass


HOLD = """
import sys, time
from devsort.sorting.run import open_run
with open_run(sys.argv[1]).lock():
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
def test_a_lock_is_seen_by_other_processes_and_ends_with_its_own_however_it_ends(tiny_run):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tiny_run.path)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        message = told(tiny_run.lock().__enter__)
        assert (
            message
            == f"{tiny_run.path} is in use by process {other.pid}; wait for it, or stop that process"
        )
        other.kill()
    with tiny_run.lock():
        assert (tiny_run.path / ".lock").read_text() == f"process {os.getpid()}"


def test_a_stale_lock_file_is_no_lock(tiny_run):
    (tiny_run.path / ".lock").write_text("process 999999999 with a long name")
    with tiny_run.lock():
        assert (tiny_run.path / ".lock").read_text() == f"process {os.getpid()}"


def test_a_holder_without_a_name_is_another_process(tiny_run):
    with open(tiny_run.path / ".lock", "w") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        message = told(tiny_run.lock().__enter__)
    assert (
        message
        == f"{tiny_run.path} is in use by another process; wait for it, or stop that process"
    )


def test_the_lock_clears_what_killed_writers_left(tiny_run):
    save_checkpoint(tiny_run, 5, TENSORS)
    before = names(tiny_run.path)
    fill(tiny_run.path / ".tmp-llc.zarr" / ".tmp-inside", "half")
    (tiny_run.checkpoints / ".tmp-step-000000006.safetensors").write_text("half")
    with tiny_run.lock():
        assert names(tiny_run.path) == sorted([".lock", *before])


def test_a_folder_that_cannot_be_locked_is_named(tiny_run):
    gone = Run(tiny_run.path / "gone", tiny_run.config)
    assert (
        told(gone.lock().__enter__)
        == f"{gone.path}/.lock cannot be written (No such file or directory){KEPT}"
    )


def test_a_run_folder_with_a_tag_in_its_config_runs_nothing(tmp_path):
    canary = tmp_path / "canary"
    (tmp_path / "config.yaml").write_text(
        f"device: !!python/object/apply:os.system ['touch {canary}']"
    )
    assert told(open_run, tmp_path).startswith(f"{tmp_path}/config.yaml is not valid YAML (")
    assert not canary.exists()
