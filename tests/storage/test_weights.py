"""Weights of strangers.

Nothing in the file is executed, and no claim in it costs memory or time.
"""

import argparse
import os
import pickle
import shlex
import shutil
import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from folders import told
from safetensors.torch import save_file

from devsort.errors import UserError
from devsort.storage.weights import load_weights, under_names

TENSORS = {"w": torch.arange(6.0).view(2, 3), "b": torch.zeros(2)}


class Exploit:
    """An object whose unpickling runs a shell command."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
@pytest.mark.parametrize(
    "write", [torch.save, lambda o, p: p.write_bytes(pickle.dumps(o))], ids=["zip", "bare pickle"]
)
def test_a_malicious_pickle_is_refused_and_does_not_run(tmp_path, suffix, write):
    path, canary = tmp_path / f"w{suffix}", tmp_path / "canary"
    write({"embed.W_E": torch.zeros(2), "x": Exploit(canary)}, path)
    told_of = {torch.save: f"{path} holds more than tensors, or is no weight file; "}
    message = told_of.get(write, f"{path} is a pickle, which can run code; ")
    with warnings.catch_warnings(action="error"):
        assert told(load_weights, path).startswith(message)
    assert not canary.exists()
    pickle.loads(pickle.dumps(Exploit(canary)))  # noqa: S301  our own
    assert canary.exists()  # the exploit works where it is obeyed


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_weights_of_both_kinds_come_back_as_float32(tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    state = {
        "a": torch.tensor([1.5, -2.0]).half(),
        "b": torch.tensor([0.1]).double(),
        "mask": torch.ones(2).bool(),
    }
    if suffix == ".pt":
        torch.save(state, path)
    else:
        save_file(state, path)
    found = load_weights(path)
    assert found["a"].tolist() == [1.5, -2.0]
    assert [found[k].dtype for k in ("a", "b", "mask")] == [
        torch.float32,
        torch.float32,
        torch.bool,
    ]
    kept = load_weights(path, as_saved=True)
    assert {k: t.dtype for k, t in kept.items()} == {k: t.dtype for k, t in state.items()}


NOT_PLAIN = {
    "a list": [torch.zeros(1)],
    "a tensor": torch.zeros(1),
    "nested twice": {"model": {"weights": {"w": torch.zeros(1)}}},
    "nothing": {},
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
    expected = (
        f"{path} does not hold a plain mapping of names to tensors; save `model.state_dict()`"
    )
    assert told(load_weights, path) == expected


CHECKPOINTS = {
    "beside numbers": {"model_state_dict": TENSORS, "epoch": 3, "loss": 0.5},
    "beside an optimiser": {
        "state_dict": TENSORS,
        "optimizer": {"state": {0: {"step": torch.zeros(())}}, "param_groups": [{"lr": 0.1}]},
    },
    "alone": {"model": TENSORS},
    "Lightning": {"pytorch-lightning_version": "2.0", "state_dict": TENSORS, "callbacks": {}},
}


@pytest.mark.parametrize("case", CHECKPOINTS)
def test_the_one_state_dict_of_a_checkpoint_is_taken(tmp_path, case):
    path = tmp_path / "w.ckpt"
    torch.save(CHECKPOINTS[case], path)
    found = load_weights(path)
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[k], v) for k, v in TENSORS.items())


def test_several_state_dicts_are_refused_by_name(tmp_path):
    path = tmp_path / "w.pt"
    torch.save({"model": TENSORS, "ema": TENSORS}, path)
    fix = "save the one that is meant"
    assert told(load_weights, path) == f"{path} holds several state dicts (model, ema); {fix}"


@pytest.mark.parametrize("name", ["w.bin", "w.ckpt", "w.pth.tar", "weights", "w.safetensors"])
def test_a_file_is_what_its_bytes_say(tmp_path, name):
    torch.save(TENSORS, tmp_path / name)
    assert load_weights(str(tmp_path / name)).keys() == TENSORS.keys()
    save_file(TENSORS, tmp_path / "x")
    (tmp_path / "x").replace(tmp_path / name)
    assert load_weights(tmp_path / name).keys() == TENSORS.keys()


@pytest.mark.parametrize("start", [b"\x80", b"PK"])
def test_a_safetensors_file_is_one_whatever_the_length_of_its_header(tmp_path, start):
    """It begins with that length, whose bytes can be those that a pickle or an archive has."""
    path = tmp_path / "w"
    save_file({"x": torch.ones(2)}, path)
    short = int.from_bytes(path.read_bytes()[:8], "little")
    longer = int.from_bytes(start, "little") - short
    save_file({"x" * (1 + longer): torch.ones(2)}, path)
    assert path.read_bytes().startswith(start)
    assert [v.tolist() for v in load_weights(path).values()] == [[1, 1]]


def legacy(value, path):
    torch.save(value, path, _use_new_zipfile_serialization=False)


def bare(value, path):
    path.write_bytes(pickle.dumps(value))


@pytest.mark.parametrize(
    ("write", "what"),
    [
        (legacy, "was written by a torch.save before 1.6, or in its old form"),
        (bare, "is a pickle, which can run code"),
    ],
)
def test_old_files_name_the_command_that_saves_them_anew(tmp_path, write, what):
    path = tmp_path / "it's old.pt"
    write(TENSORS, path)
    message = told(load_weights, path)
    begin = f"{path} {what}; if you trust it, save it anew: python -c "
    assert message.startswith(begin)
    _, code = shlex.split("-c " + message.removeprefix(begin))
    exec(code, {})  # noqa: S102  the very command that is named
    assert load_weights(path.with_suffix(".new.pt")).keys() == TENSORS.keys()


def test_complex_weights_are_refused(tmp_path):
    path = tmp_path / "w.pt"
    torch.save({"w": torch.zeros(2, dtype=torch.complex64)}, path)
    assert told(load_weights, path) == f"{path}: w is complex; give real weights"


NAMES = {
    "plain": "{}",
    "compiled": "_orig_mod.{}",
    "parallel": "module.{}",
    "both": "module._orig_mod.{}",
    "a part of something": "model.net.{}",
    "sharded": "_fsdp_wrapped_module.{}",
}


@pytest.mark.parametrize("case", NAMES)
def test_what_wrappers_put_before_names_is_taken_off(tmp_path, case):
    state = {NAMES[case].format(name): torch.zeros(1) for name in ("a.w", "b")}
    assert under_names(state, "a.w", tmp_path).keys() == {"a.w", "b"}


def test_a_network_that_is_there_twice_is_refused(tmp_path):
    state = {"net.a.w": torch.zeros(1), "ema.a.w": torch.zeros(1)}
    message = f"{tmp_path} holds two networks (net.a.w, ema.a.w); save one of them"
    assert told(under_names, state, "a.w", tmp_path) == message
    state = {"net.a.w": torch.zeros(1), "net.b": torch.zeros(1), "b": torch.ones(1)}
    message = f"{tmp_path} holds names that differ in 'net.' alone; save one of them"
    assert told(under_names, state, "a.w", tmp_path) == message


def test_files_that_are_no_weights_are_named(tmp_path):
    fix = "give a .safetensors file, or one of torch.save"
    assert told(load_weights, tmp_path / "w.pt") == f"{tmp_path}/w.pt is missing; {fix}"
    assert (
        told(load_weights, tmp_path / ("x" * 5000))
        == f"{tmp_path / ('x' * 5000)} is missing; {fix}"
    )
    for name in ("w.ckpt", "weights"):
        (tmp_path / name).write_text("")
        assert told(load_weights, tmp_path / name) == f"{tmp_path / name} is no weight file; {fix}"
    assert told(load_weights, tmp_path) == f"{tmp_path} is a folder; {fix}"
    (tmp_path / "pointer.bin").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:")
    pointer = f"{tmp_path}/pointer.bin is a pointer of Git LFS; "
    pointer += "fetch the weights with git lfs pull"
    assert told(load_weights, tmp_path / "pointer.bin") == pointer
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
        save_file(TENSORS, path)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    for _ in range(300):
        mutated = whole.copy()
        mutated[rng.integers(len(whole), size=3)] = rng.integers(256, size=3)
        path.write_bytes(mutated[: rng.integers(len(whole) // 2, 2 * len(whole))].tobytes())
        try:
            assert all(isinstance(v, torch.Tensor) for v in load_weights(path).values())
        except UserError as e:
            assert len(str(e).splitlines()) == 1


class Arguments(argparse.Namespace):
    """Settings of a script, which no reader of weights knows."""


class AttributeDict(dict):
    """A dict whose entries are attributes, as Lightning kept hyper-parameters."""


BESIDE = {
    "a namespace": argparse.Namespace(lr=0.1, data=Path("data")),
    "a class of the script": Arguments(lr=0.1),
    "a dict of its own": AttributeDict(lr=0.1, layers=[1, 2]),
    "a dict with defaults": defaultdict(list, {"lr": [0.1]}),
    "numbers of numpy": {"best": np.float64(0.1), "curve": np.arange(3.0)},
    "a function": {"activation": torch.nn.functional.gelu},
    "a module": torch.nn.Linear(2, 2),
}


@pytest.mark.parametrize("kind", BESIDE)
def test_objects_beside_the_state_dict_are_passed_over(tmp_path, kind):
    path, trusted = tmp_path / "w.ckpt", torch.serialization.get_safe_globals()
    torch.save({"state_dict": TENSORS, "hyper_parameters": BESIDE[kind]}, path)
    found = load_weights(path)
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[k], v) for k, v in TENSORS.items())
    assert set(torch.serialization.get_safe_globals()) == set(trusted)


class Silent:
    """An object whose unpickling leaves a file, by a function that is in no list of bad ones."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return shutil.copy, (__file__, str(self.canary))


def test_a_function_beside_the_state_dict_is_not_called(tmp_path):
    path, canary = tmp_path / "w.pt", tmp_path / "canary"
    torch.save({"state_dict": TENSORS, "x": Silent(canary)}, path)
    assert load_weights(path).keys() == TENSORS.keys() and not canary.exists()
    pickle.loads(pickle.dumps(Silent(canary)))  # noqa: S301  our own
    assert canary.exists()  # it is called where it is obeyed


def test_a_whole_module_is_refused_with_what_to_save(tmp_path):
    path = tmp_path / "w.pt"
    torch.save(torch.nn.Linear(2, 2), path)
    what = f"{path} does not hold a plain mapping of names to tensors"
    assert told(load_weights, path) == f"{what}; save `model.state_dict()`"
