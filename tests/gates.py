"""A small regression with a known LLC at every checkpoint, as a module and as a folder."""

from pathlib import Path

import torch
from torch import nn

from devsort.rng import short_torch_stream
from devsort.sampling import SamplerConfig, module_loss

STEPS = (1, 10, 100, 300)
X = torch.randn(64, 4, generator=short_torch_stream(0, "networks"))
CONFIG = SamplerConfig(
    geometry="absolute",
    n_beta=100,
    lr=2e-3,
    localization=1,
    num_chains=4,
    num_draws=60,
    num_burnin_steps=20,
    batch_size=16,
)


def network(step: int) -> nn.Module:
    """Inputs of which more are used the later it is: each that is not used is a flat direction."""
    used = STEPS.index(step) + 1
    module = nn.Sequential(Gate(used), nn.Linear(4, 1, bias=False))
    nn.init.ones_(module[1].weight)
    return module


class Gate(nn.Module):
    """Lets the first inputs through; a buffer says how many."""

    def __init__(self, used: int) -> None:
        super().__init__()
        self.register_buffer("open", (torch.arange(4) < used).float())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.open


def square(model, batch):
    """The loss of each example; it is zero at every checkpoint."""
    gate = model[0].open
    return (model(batch) - (batch * gate).sum(1, keepdim=True))[:, 0].square()


def loss():
    """As `llc_trajectory` takes it."""
    return module_loss(network(1), square)[0]


def save(folder: Path, prefix: str = "") -> Path:
    """All checkpoints."""
    folder.mkdir(parents=True)
    for step in STEPS:
        state = {prefix + name: t for name, t in network(step).state_dict().items()}
        torch.save(state, folder / f"step-{step}.pt")
    return folder
