"""One network, its checkpoints in every form that training scripts leave: the same trajectory.

Lightning is no dependency: its file here has the entries that Lightning 2.6 writes, with the
hyper-parameters of a script. The folders of Hugging Face have the files that the Trainer of
transformers 5.23 writes.
"""

import argparse
import random
import warnings
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch
from folders import told
from safetensors.torch import save_file
from torch import Tensor, nn

import devsort
from devsort.rng import short_torch_stream
from devsort.sampling import SamplerConfig, module_loss

STEPS = (2, 10, 50)
X = torch.randn(7, 3, generator=short_torch_stream(0, "guises"))  # fewer than a batch
OPTIONS = devsort.Options(device="cpu", processes=1)
CONFIG = SamplerConfig(
    geometry="absolute", lr=1e-4, num_chains=2, num_draws=4, num_burnin_steps=1, batch_size=8
)


class Net(nn.Module):
    """Tied weights, a frozen layer, a buffer, dropout and batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = nn.Linear(3, 3, bias=False), nn.Linear(3, 3)
        self.decode.weight = self.encode.weight
        self.first = nn.Linear(3, 3).requires_grad_(False)
        self.norm, self.drop = nn.BatchNorm1d(3), nn.Dropout(0.5)
        self.register_buffer("shift", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.drop(self.norm(self.encode(self.first(x)))) + self.shift)


def network(step: int) -> Net:
    """The network of a step, in training mode."""
    rng = short_torch_stream(step, "guises")
    module = Net()
    with torch.no_grad():
        for t in [*module.parameters(), *module.buffers()]:
            if t.is_floating_point():
                t.copy_(torch.rand(t.shape, generator=rng) + 0.2)
    return module.train()


def squares(model: Net, batch: dict[str, Tensor]) -> Tensor:
    """The loss of each example."""
    return model(batch["x"]).square().mean(1)


def trajectory(checkpoints):
    with warnings.catch_warnings(action="ignore"):
        loss, _ = module_loss(network(1), squares)
        return devsort.llc_trajectory(loss, checkpoints, {"x": X}, CONFIG, options=OPTIONS)


def same(found, expected) -> bool:
    """Whether the draws and what follows from them are the same."""
    names = ["loss", "distance", "llc"]
    return found[names].equals(expected[names])


@pytest.fixture(scope="module")
def expected():
    return trajectory({step: network(step).state_dict() for step in STEPS})


def untied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As safetensors keep tied weights: under one name."""
    return {name: t for name, t in state.items() if name != "decode.weight"}


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: t for name, t in state.items()}


def safetensors(folder: Path, step: int, state: dict[str, Tensor]) -> None:
    save_file(untied(state), folder / f"model_step{step:05d}.safetensors")


def plain(folder: Path, step: int, state: dict[str, Tensor]) -> None:
    torch.save(state, folder / f"ckpt_{step}.pth")


def trainer(folder: Path, step: int, state: dict[str, Tensor]) -> None:
    own = folder / f"checkpoint-{step}"
    own.mkdir()
    save_file(untied(state), own / "model.safetensors", {"format": "pt"})
    for name in ("config.json", "generation_config.json", "trainer_state.json"):
        (own / name).write_text("{}")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        torch.save({"state": {}, "python": random.getstate()}, own / name)
    for place in (own, folder):
        torch.save(argparse.Namespace(learning_rate=1e-3), place / "training_args.bin")


def lightning(folder: Path, step: int, state: dict[str, Tensor]) -> None:
    saved = {
        "epoch": step // 10,
        "global_step": step,
        "pytorch-lightning_version": "2.6.6",
        "state_dict": prefixed(state, "net."),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 1}}}},
        "callbacks": {"ModelCheckpoint{}": {"monitor": None, "kth_value": torch.tensor(torch.inf)}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": []}],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": {"lr": 0.01, "args": argparse.Namespace(data=Path("data"))},
    }
    torch.save(saved, folder / f"epoch={step // 10}-step={step}.ckpt")
    torch.save(saved, folder / "last.ckpt")


def parallel(folder: Path, step: int, state: dict[str, Tensor]) -> None:
    saved = {"model": prefixed(state, "module."), "optimizer": {"state": {}}, "step": step}
    torch.save(saved, folder / f"step-{step}.pt")


def compiled(folder: Path, step: int, state: dict[str, Tensor]) -> None:
    torch.save(prefixed(state, "_orig_mod."), folder / f"{step:06d}.bin")


FOLDERS = (safetensors, plain, trainer, lightning, parallel, compiled)


@pytest.mark.parametrize("write", FOLDERS, ids=lambda write: write.__name__)
def test_every_folder_gives_the_same_trajectory(tmp_path, expected, write):
    for step in STEPS:
        write(tmp_path, step, network(step).state_dict())
    assert same(trajectory(tmp_path), expected)


def wrapped(step: int) -> dict:
    return {"model_state_dict": prefixed(network(step).state_dict(), "module._orig_mod.")}


IN_MEMORY = {
    "modules": lambda: {step: network(step) for step in STEPS},
    "a function that gives a module": lambda: (STEPS, network),
    "a function that gives a script's dict": lambda: (np.array(STEPS), wrapped),
}


@pytest.mark.parametrize("kind", IN_MEMORY)
def test_what_is_in_memory_gives_the_same_trajectory(expected, kind):
    assert same(trajectory(IN_MEMORY[kind]()), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_checkpoints_of_sixteen_bits_are_sampled_in_float32_and_that_is_said(tmp_path, dtype):
    rounded = {}
    for step in STEPS:
        state = network(step).state_dict()
        half = {n: t.to(dtype) if t.is_floating_point() else t for n, t in state.items()}
        save_file(untied(half), tmp_path / f"step-{step}.safetensors")
        rounded[step] = {n: t.float() if t.is_floating_point() else t for n, t in half.items()}
    found, note = trajectory(tmp_path), f"weights of type {str(dtype)[6:]} are sampled in float32"
    assert note in found.attrs["notes"]
    assert same(found, trajectory(rounded))


def test_what_is_said_of_a_trajectory(expected):
    """Evaluation mode; frozen weights do not count: 3·3 tied, a bias, and the norm's two."""
    mode = "the module is sampled in evaluation mode: no dropout, running statistics"
    assert expected.attrs["notes"][0] == mode and np.isfinite(expected.llc).all()
    assert (expected.dimension == 9 + 3 + 6).all()


def test_nothing_of_the_users_is_changed(tmp_path):
    """From the checkpoints to the chart: modes, gradients, values, generators and matplotlib."""
    module = network(1)
    module.norm.eval()
    for p in module.parameters():
        p.grad = torch.ones_like(p)
    states = {step: network(step).state_dict() for step in STEPS}

    def everything() -> list:
        tensors = [*module.state_dict().values(), *(p.grad for p in module.parameters())]
        tensors += [t for state in states.values() for t in state.values()] + [X]
        legacy = np.random.get_state()  # noqa: NPY002  it is read alone
        shown = {k: str(v) for k, v in dict.items(mpl.rcParams)}
        modes = [m.training for m in module.modules()]
        free = [p.requires_grad for p in module.parameters()]
        drawn = [torch.get_rng_state().tolist(), legacy[1].tolist(), random.getstate()]
        return [[t.tolist() for t in tensors], modes, free, drawn, shown, torch.is_grad_enabled()]

    before = everything()
    with warnings.catch_warnings(action="ignore"):
        loss, _ = module_loss(module, squares)
        found = devsort.llc_trajectory(loss, states, {"x": X}, CONFIG, options=OPTIONS)
        devsort.stage_chart(found, devsort.find_stages(found), tmp_path / "stages.png")
    assert everything() == before


def test_two_runs_of_lightning_in_one_folder_are_refused(tmp_path):
    """Beside a file that is there, Lightning writes one with `-v1`."""
    for name in ("epoch=0-step=8.ckpt", "epoch=0-step=8-v1.ckpt"):
        torch.save(network(8).state_dict(), tmp_path / name)
    what = "epoch=0-step=8-v1.ckpt and epoch=0-step=8.ckpt are both step 8"
    assert (
        told(trajectory, tmp_path)
        == f"{what}; give a mapping of steps to files, {{100: 'a.pt', …}}"
    )
