"""Run folders: nothing half-written is seen, nothing unverified is read, and every refusal names its remedy."""

import errno
import fcntl
import json
import os
import pickle
import resource
import signal
import struct
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from devsort import __version__
from devsort.artifacts import (
    Run,
    check_provenance,
    checksum,
    identity,
    load_checkpoint,
    load_tensors,
    load_weights,
    open_run,
    provenance,
    read_json,
    remove,
    replacing_folder,
    save_checkpoint,
    save_tensors,
    trained_steps,
    write_atomic,
    write_json,
)
from devsort.errors import UserError

AGAIN = "; run `devsort train x` to make it again"
TENSORS = {"w": torch.arange(6.0).view(2, 3), "b": torch.zeros(2)}
KEPT = "; make room or permissions, then run the same command: finished work is kept"


def told(function, *args) -> str:
    """The one line of the user's error that a call must raise."""
    with pytest.raises(UserError) as e:
        function(*args)
    assert len(str(e.value).splitlines()) == 1
    return str(e.value)


def names(folder: Path) -> list[str]:
    """All paths below a folder, relative to it."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


@contextmanager
def small_disk(limit: int) -> Iterator[None]:
    """Lets no file grow beyond `limit` bytes: a write fails half-way, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


# --- opening a run ---------------------------------------------------------------------------------------------------


def test_a_run_is_its_folder_and_its_config(tiny_run, tiny_config):
    assert tiny_run.config == tiny_config
    assert open_run(str(tiny_run.path), ("train.steps=7",)).config.train.steps == 7
    assert tiny_run.checkpoint(12) == tiny_run.path / "checkpoints" / "step-000000012.safetensors"


@pytest.mark.parametrize("name", ["absent", "a file", "a\0b", "x" * 5000], ids=["absent", "file", "nul", "too long"])
def test_what_is_no_folder_is_named(tmp_path, name):
    (tmp_path / "a file").write_text("")
    shown = str(tmp_path / name).replace("\0", "\\x00")
    message = f"{shown} is no folder; give a run folder that holds a config.yaml, such as runs/baseline"
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


# --- identity and provenance -----------------------------------------------------------------------------------------


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
    assert open_run(tiny_run.path, ("train.seed=0", "task.label_noise=0")).identity() == tiny_run.identity()


@pytest.mark.parametrize(
    "change",
    [{"w": TENSORS["w"] + 1e-7}, {"w": TENSORS["w"].view(3, 2)}, {"w": TENSORS["w"].double()}, {"v": TENSORS["w"]}, {}],
    ids=["value", "shape", "type", "name", "missing"],
)
def test_checksum_sees_names_shapes_types_and_bytes(change):
    rest = {"b": TENSORS["b"]}
    assert checksum(TENSORS) == checksum({"b": TENSORS["b"], "w": TENSORS["w"].clone()})
    assert checksum(TENSORS) == checksum(rest | {"w": TENSORS["w"].T.contiguous().T})  # not of the memory layout
    assert checksum(rest | change) != checksum(TENSORS)


def test_provenance_is_compared_key_by_key(tiny_run):
    made = provenance(tiny_run, "llc", inputs="abc")
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


# --- tensors and checkpoints -----------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "a.safetensors"
    save_tensors(path, TENSORS, {"step": "1"})
    return path


def read(path: Path, step: str = "1"):
    return load_tensors(path, {"step": step}, "devsort train x")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool])
def test_tensors_come_back_bitwise(tmp_path, dtype):
    tensors = {"a": torch.arange(6).view(2, 3).to(dtype), "empty": torch.empty(0, 3), "scalar": torch.tensor(1.5)}
    tensors["transposed"] = tensors["a"].T
    save_tensors(tmp_path / "t.safetensors", tensors, {})
    found = load_tensors(tmp_path / "t.safetensors", {}, "c")
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[k], tensors[k]) and found[k].dtype == tensors[k].dtype for k in tensors)


def test_not_a_number_and_denormals_come_back_bitwise(tmp_path):
    bits = torch.tensor([0x7FC00001, -1, 1, 0x00000FFF], dtype=torch.int32)
    save_tensors(tmp_path / "t.safetensors", {"w": bits.view(torch.float32)}, {})
    assert torch.equal(load_tensors(tmp_path / "t.safetensors", {}, "c")["w"].view(torch.int32), bits)


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
    "shape alone": header({"w": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 8]}}) + bytes(8),
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
    path, fix = tiny_run.checkpoint(5), f"run `devsort train {tiny_run.path} --force` to make it again"
    assert message == f"{path} has config {tiny_run.identity()}, expected {other.identity()}; {fix}"
    tiny_run.checkpoint(5).rename(tiny_run.checkpoint(6))
    assert told(load_checkpoint, tiny_run, 6) == f"{tiny_run.checkpoint(6)} has step 5, expected 6; {fix}"
    assert told(load_checkpoint, tiny_run, 7) == f"{tiny_run.checkpoint(7)} is missing; {fix}"


# --- writing ---------------------------------------------------------------------------------------------------------


def test_a_write_replaces_the_whole_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "new" / "folder" / "file"
    write_atomic(path, b"old and longer")
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert names(path.parent) == ["file"]


def test_a_write_that_fails_half_way_keeps_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_atomic(path, b"old")
    with small_disk(4096):
        message = told(write_atomic, path, b"n" * 1_000_000)
    assert message == f"{path} cannot be written (File too large){KEPT}"
    assert path.read_bytes() == b"old"
    assert 0 < (tmp_path / ".tmp-file").stat().st_size <= 4096  # it did fail half-way


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOSPC, "No space left on device"),
        (errno.EACCES, "Permission denied"),
        (errno.EROFS, "Read-only file system"),
    ],
)
def test_a_full_disk_or_refused_permission_is_told(tmp_path, monkeypatch, call, code, reason):
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def fail(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, fail)
    assert told(write_atomic, path, b"new") == f"{path} cannot be written ({reason}){KEPT}"
    assert path.read_bytes() == b"old"


def test_data_are_on_disk_before_the_name_is(tmp_path, monkeypatch):
    order = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda f: (order.append(os.fstat(f).st_size), fsync(f)))
    monkeypatch.setattr(os, "replace", lambda *a: (order.append("replace"), replace(*a)))
    write_atomic(tmp_path / "file", b"12345")
    assert order == [5, "replace"]


def test_json_comes_back_and_damage_is_named(tmp_path):
    path, command = tmp_path / "stages.json", "devsort stages x"
    assert told(read_json, path, command) == f"{path} is missing; run `devsort stages x` first"
    value = {"name": "δ̄", "steps": [1, 2], "llc": 0.1}
    write_json(path, value)
    assert read_json(path, command) == value
    again = "; run `devsort stages x` to make it again"
    for text in (path.read_bytes()[:-3], b"", b"\xff", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}"):
        path.write_bytes(text)
        message = told(read_json, path, command)
        assert message.startswith(f"{path} is cut short or damaged (")
        assert message.endswith(again)
    path.write_text("[1]")
    assert told(read_json, path, command) == f"{path} holds no JSON object{again}"


def fill(folder: Path, text: str) -> None:
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "file").write_text(text)


def test_a_folder_is_replaced_whole(tmp_path):
    path = tmp_path / "llc.zarr"
    for text in ("old", "new"):
        with replacing_folder(path) as folder:
            fill(folder, text)
        assert (path / "inner" / "file").read_text() == text
        assert names(tmp_path) == ["llc.zarr", "llc.zarr/inner", "llc.zarr/inner/file"]


def test_a_folder_stays_as_it_was_if_the_work_fails(tmp_path):
    path = tmp_path / "llc.zarr"
    fill(path, "old")

    def work(error: Exception) -> None:
        with replacing_folder(path) as folder:
            fill(folder, "new")
            raise error

    with pytest.raises(ZeroDivisionError):
        work(ZeroDivisionError())
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert told(work, full) == f"{path} cannot be written (No space left on device){KEPT}"
    assert (path / "inner" / "file").read_text() == "old"
    with replacing_folder(path) as folder:  # what the failures left does not get in
        fill(folder, "new")
    assert names(tmp_path) == ["llc.zarr", "llc.zarr/inner", "llc.zarr/inner/file"]


def test_no_part_of_an_old_folder_is_ever_seen_under_its_name(tmp_path, monkeypatch):
    path = tmp_path / "llc.zarr"
    fill(path, "old")
    seen = []

    def look(call):
        def looked(*args, **kwargs):
            seen.append(names(path) if path.exists() else None)
            return call(*args, **kwargs)

        return looked

    for module, name in ((os, "replace"), (os, "unlink"), (os, "rmdir")):
        monkeypatch.setattr(module, name, look(getattr(module, name)))
    with replacing_folder(path) as folder:
        fill(folder, "new")
    assert len(seen) >= 4
    assert all(found in (None, ["inner", "inner/file"]) for found in seen)


def test_remove_takes_files_folders_links_and_nothing(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    fill(target, "kept")
    link.symlink_to(target)
    remove(link)
    assert names(tmp_path) == ["target", "target/inner", "target/inner/file"]
    remove(target)
    (tmp_path / "file").write_text("")
    remove(tmp_path / "file")
    remove(tmp_path / "absent")
    assert names(tmp_path) == []


# --- the lock --------------------------------------------------------------------------------------------------------


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
from devsort.artifacts import open_run
with open_run(sys.argv[1]).lock():
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
def test_a_lock_is_seen_by_other_processes_and_ends_with_its_own_however_it_ends(tiny_run):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tiny_run.path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        message = told(tiny_run.lock().__enter__)
        assert message == f"{tiny_run.path} is in use by process {other.pid}; wait for it, or stop that process"
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
    assert message == f"{tiny_run.path} is in use by another process; wait for it, or stop that process"


def test_the_lock_clears_what_killed_writers_left(tiny_run):
    save_checkpoint(tiny_run, 5, TENSORS)
    before = names(tiny_run.path)
    fill(tiny_run.path / ".tmp-llc.zarr" / ".tmp-inside", "half")
    (tiny_run.checkpoints / ".tmp-step-000000006.safetensors").write_text("half")
    with tiny_run.lock():
        assert names(tiny_run.path) == sorted([".lock", *before])


def test_a_folder_that_cannot_be_locked_is_named(tiny_run):
    gone = Run(tiny_run.path / "gone", tiny_run.config)
    assert told(gone.lock().__enter__) == f"{gone.path}/.lock cannot be written (No such file or directory){KEPT}"


# --- weights of strangers --------------------------------------------------------------------------------------------


class Exploit:
    """An object whose unpickling runs a shell command."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
@pytest.mark.parametrize("write", [torch.save, lambda o, p: p.write_bytes(pickle.dumps(o))], ids=["zip", "bare pickle"])
def test_a_malicious_pickle_is_refused_and_does_not_run(tmp_path, suffix, write):
    path, canary = tmp_path / f"w{suffix}", tmp_path / "canary"
    write({"embed.W_E": torch.zeros(2), "x": Exploit(canary)}, path)
    message = f"{path} holds more than tensors, or is no weight file; save `model.state_dict()`"
    with warnings.catch_warnings(action="error"):
        assert told(load_weights, path) == message
    assert not canary.exists()
    pickle.loads(pickle.dumps(Exploit(canary)))
    assert canary.exists()  # the exploit works where it is obeyed


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_weights_of_both_kinds_come_back_as_float32(tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    state = {"a": torch.tensor([1.5, -2.0]).half(), "b": torch.tensor([0.1]).double(), "mask": torch.ones(2).bool()}
    if suffix == ".pt":
        torch.save(state, path)
    else:
        save_tensors(path, state, {})
    found = load_weights(path)
    assert found["a"].tolist() == [1.5, -2.0]
    assert [found[k].dtype for k in ("a", "b", "mask")] == [torch.float32, torch.float32, torch.bool]


NOT_PLAIN = {
    "a list": [torch.zeros(1)],
    "a tensor": torch.zeros(1),
    "nested": {"model": {"w": torch.zeros(1)}},
    "a number": {"w": torch.zeros(1), "step": 3},
    "sparse": {"w": torch.eye(3).to_sparse()},
    "no data": {"w": torch.zeros(3, device="meta")},
    "terabytes by stride 0": {"w": torch.zeros(1).expand(10**6, 10**6)},
    "terabytes by stride 0, half": {"w": torch.zeros(1).half().expand(10**6, 10**6)},
}


@pytest.mark.parametrize("case", NOT_PLAIN)
def test_what_is_no_plain_state_dict_is_refused(tmp_path, case):
    path = tmp_path / "w.pt"
    torch.save(NOT_PLAIN[case], path)
    expected = f"{path} does not hold a plain mapping of names to tensors; save `model.state_dict()`"
    assert told(load_weights, path) == expected


def test_files_that_are_no_weights_are_named(tmp_path):
    fix = "give a .safetensors or .pt file"
    assert told(load_weights, tmp_path / "w.pt") == f"{tmp_path}/w.pt is missing; {fix}"
    assert told(load_weights, tmp_path / ("x" * 5000)) == f"{tmp_path / ('x' * 5000)} is missing; {fix}"
    for name, ending in (("w.ckpt", ".ckpt"), ("weights", "nothing")):
        (tmp_path / name).write_text("")
        assert told(load_weights, tmp_path / name) == f"{tmp_path / name} ends in {ending}; {fix}"
    for suffix in (".pt", ".safetensors"):
        for content in (b"", b"hello", bytes(1000)):
            (tmp_path / f"w{suffix}").write_bytes(content)
            assert told(load_weights, tmp_path / f"w{suffix}").startswith(f"{tmp_path}/w{suffix} ")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_mutated_weight_file_loads_or_is_refused_in_one_line(tmp_path, suffix):
    path, rng = tmp_path / f"w{suffix}", np.random.default_rng(0)
    if suffix == ".pt":
        torch.save(TENSORS, path)
    else:
        save_tensors(path, TENSORS, {})
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    for _ in range(300):
        mutated = whole.copy()
        mutated[rng.integers(len(whole), size=3)] = rng.integers(256, size=3)
        path.write_bytes(mutated[: rng.integers(len(whole) // 2, 2 * len(whole))].tobytes())
        try:
            assert all(isinstance(v, torch.Tensor) for v in load_weights(path).values())
        except UserError as e:
            assert len(str(e).splitlines()) == 1


def test_a_run_folder_with_a_tag_in_its_config_runs_nothing(tmp_path):
    canary = tmp_path / "canary"
    (tmp_path / "config.yaml").write_text(f"device: !!python/object/apply:os.system ['touch {canary}']")
    assert told(open_run, tmp_path).startswith(f"{tmp_path}/config.yaml is not valid YAML (")
    assert not canary.exists()
