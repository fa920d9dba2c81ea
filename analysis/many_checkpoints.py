"""Memory of a trajectory over 1,000 checkpoints, and the size of its store.

    python analysis/many_checkpoints.py [CHECKPOINTS]

A network of 178 parameters is saved at every step of its training. All of these checkpoints are
sampled into a store. Peak memory is that of this process and of its largest worker.
"""

import resource
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

import devsort
from devsort.rng import torch_stream

GIB = 2**20  # in KiB, the unit of the operating system


def train(folder: Path, steps: int) -> tuple[nn.Module, tuple[torch.Tensor, torch.Tensor]]:
    """The network and its data; each step is saved as a file in the folder."""
    x = torch.randn(500, 8, generator=torch_stream(0, "data"))
    y = (x[:, :4].sum(1) > 0).long()
    network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        F.cross_entropy(network(x), y).backward()
        optimizer.step()
        torch.save(network.state_dict(), folder / f"step-{step}.pt")
    return network, (x, y)


def peak(who: int) -> float:
    """Peak memory in GiB."""
    return resource.getrusage(who).ru_maxrss / GIB


def main() -> None:
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Path(folder, "checkpoints")
        checkpoints.mkdir()
        network, data = train(checkpoints, steps)
        loss, _ = devsort.module_loss(
            network, lambda m, b: F.cross_entropy(m(b[0]), b[1], reduction="none")
        )
        before, start = peak(resource.RUSAGE_SELF), time.monotonic()
        config = devsort.SamplerConfig(
            n_beta=100, localization=50, num_chains=2, num_draws=20, num_burnin_steps=10
        )
        store = Path(folder, "llc.zarr")
        trajectory = devsort.llc_trajectory(loss, checkpoints, data, config, store=store)
        size = sum(f.stat().st_size for f in store.rglob("*") if f.is_file())
        print(f"{trajectory.sizes['checkpoint']} checkpoints, {time.monotonic() - start:.0f} s")
        print(f"peak {peak(resource.RUSAGE_SELF):.2f} GiB, before sampling {before:.2f} GiB")
        print(f"largest worker {peak(resource.RUSAGE_CHILDREN):.2f} GiB")
        print(f"store {size / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
