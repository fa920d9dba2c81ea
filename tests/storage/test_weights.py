"""Weights of strangers.

Nothing in the file is executed, and no claim in it costs memory or time.
"""

import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from folders import told
from safetensors.torch import save_file

from devsort.errors import UserError
from devsort.storage.weights import load_weights

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
    message = f"{path} holds more than tensors, or is no weight file; save `model.state_dict()`"
    with warnings.catch_warnings(action="error"):
        assert told(load_weights, path) == message
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
    expected = (
        f"{path} does not hold a plain mapping of names to tensors; save `model.state_dict()`"
    )
    assert told(load_weights, path) == expected


def test_files_that_are_no_weights_are_named(tmp_path):
    fix = "give a .safetensors or .pt file"
    assert told(load_weights, tmp_path / "w.pt") == f"{tmp_path}/w.pt is missing; {fix}"
    assert (
        told(load_weights, tmp_path / ("x" * 5000))
        == f"{tmp_path / ('x' * 5000)} is missing; {fix}"
    )
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
