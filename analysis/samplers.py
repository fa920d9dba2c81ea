"""Samplers compared on trained networks: bias, relaxation, and the cost of an independent draw.

python analysis/samplers.py                       # the table of docs/sampling.md, 15 minutes
python analysis/samplers.py --sampler baoab-32 --point baseline-6000-full-relative

Every sampler estimates the LLC at points whose LLC is known from slow samplers
(devsort/sorting/trained.json), from w* and with the same number of chain-steps. `bias` is relative
to the known value, with the errors of both; `heat` is what the estimate subtracted; `relaxation` is
the integrated autocorrelation time of nβ (L − L(w*)) in steps; `draws/s` are independent draws per
CPU second on one core.

One sampler is not part of devsort: microcanonical Langevin dynamics (Robnik & Seljak 2023, arXiv
2303.18221), without a Metropolis test. `python analysis/samplers.py --check` compares it with
closed forms.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from devsort.llc import estimate, settle
from devsort.sampling import SamplerConfig, sample
from devsort.sampling.methods import METHODS
from devsort.sorting.trained import Point, known, sampled

MICROCANONICAL = "microcanonical"
RELATIVE = {
    "sgld-32": {"sampling_method": "sgld", "batch_size": 32},
    "sgld-64": {"sampling_method": "sgld", "batch_size": 64},
    "leimkuhler-matthews-64": {"momentum": 0.0, "batch_size": 64},
    "baoab-32": {"batch_size": 32},
    "baoab-64": {"batch_size": 64},
    "baoab-128": {"batch_size": 128},
    "microcanonical-64": {"sampling_method": MICROCANONICAL, "batch_size": 64},
    "microcanonical-128": {"sampling_method": MICROCANONICAL, "batch_size": 128},
}
POINTS = (
    "baseline-91-full-relative",
    "baseline-825-full-relative",
    "baseline-6000-full-relative",
    "no-decay-6000-full-relative",
)
LENGTH = {"num_chains": 8, "num_burnin_steps": 100, "num_draws": 300}
CHECK = {"num_chains": 50, "num_burnin_steps": 1000, "num_draws": 2000}
ZERO = {"w": torch.zeros(200)}


class Microcanonical:
    """Langevin dynamics at constant speed: dw = u dt, du = −(1 − u uᵀ) G/(d − 1) dt, |u| = 1.

    A step is a kick, half a drift, a partial refreshment of the direction, half a drift, as in
    BAOAB. Step size and momentum mean the same: a weight moves by sqrt(ε) per step on average, and
    the share c of the direction is kept. The heat of minibatches is not measured.
    """

    def __init__(self, config: SamplerConfig, like: Tensor) -> None:
        self.d, c = like.shape[1], config.momentum
        self.length = math.sqrt(config.lr * self.d)
        self.refresh = math.sqrt((1 / c**2 - 1) / self.d)
        self.u: Tensor | None = None

    def step(self, w: Tensor, force: Tensor, noise: Tensor) -> None:
        """See `sampling.methods.Method`."""
        if self.u is None:
            self.u = direction(noise)
        size = torch.linalg.vector_norm(force, dim=1, keepdim=True).clamp_min(1e-30)  # (G, 1)
        downhill, turn = force / -size, self.length * size / (self.d - 1)
        along = (self.u * downhill).sum(1, keepdim=True)
        self.u += downhill * (torch.sinh(turn) + along * (torch.cosh(turn) - 1))
        self.u = direction(self.u)
        w.add_(self.u, alpha=self.length / 2)
        self.u = direction(self.u + self.refresh * noise)
        w.add_(self.u, alpha=self.length / 2)


def direction(v: Tensor) -> Tensor:
    """v / |v| of each lane."""
    return v / torch.linalg.vector_norm(v, dim=1, keepdim=True)


@contextmanager
def method(changes: dict) -> Iterator[dict]:
    """The settings of a sampler, in whose place BAOAB's is taken if devsort does not know it."""
    if changes.get("sampling_method") != MICROCANONICAL:
        yield changes
        return
    METHODS["baoab"], own = Microcanonical, METHODS["baoab"]
    try:
        yield changes | {"sampling_method": "baoab"}
    finally:
        METHODS["baoab"] = own


def check() -> None:
    """Microcanonical chains on Gaussians of 200 dimensions, whose λ̂ is ½ Σ nβ h / (nβ h + γ)."""
    h = torch.logspace(-2, 0, 200)
    exact = float((100 * h / (100 * h + 1)).sum() / 2)
    for lr in (1e-3, 4e-3):
        with method({"sampling_method": MICROCANONICAL, "lr": lr}) as changes:
            own = SamplerConfig(geometry="absolute", n_beta=100, localization=1, **changes, **CHECK)
            trace = sample(lambda p: (h * p["w"].square()).sum() / 2, ZERO, config=own)
        e = estimate(replace(trace, heating=trace.heating[:, :0]))
        print(f"ε {lr}: {e.llc:.2f} ± {e.se:.2f}, exact {exact:.2f}")


def compare(point: Point, row: dict, changes: dict) -> dict:
    """The result of a sampler at a point."""
    start = time.process_time()
    with method(changes) as own:
        trace = sampled(point, **LENGTH | own)
    if own is not changes:
        trace = replace(trace, heating=trace.heating[:, :0])
    seconds = time.process_time() - start
    e, draws = estimate(trace), trace.rise.size
    return {
        "llc": e.llc,
        "se": e.se,
        "bias": e.llc / row["llc"] - 1,
        "bias_se": math.hypot(e.se, row["se"]) / row["llc"],
        "heat": e.heat / row["llc"],
        "relaxation": draws / e.ess,
        "spread": float(np.std(trace.config.n_beta * trace.rise)) / e.llc,
        "rhat": e.rhat,
        "draws_per_second": e.ess / seconds * (trace.config.num_steps / trace.config.num_draws),
        "burnin": trace.config.num_burnin_steps,
        "flags": list(e.flags),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sampler", action="append", choices=RELATIVE)
    parser.add_argument("--point", action="append")
    parser.add_argument("--set", action="append", default=[], metavar="JSON")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--check", action="store_true", help="the microcanonical sampler alone")
    args = parser.parse_args()
    if args.check:
        return check()
    settle.ROUNDS = 0  # no additional burn-in
    chosen = {name: RELATIVE[name] for name in args.sampler or RELATIVE}
    chosen |= {text: json.loads(text) for text in args.set}
    rows = []
    for point, row in known():
        if point.name not in (args.point or POINTS):
            continue
        for name, changes in chosen.items():
            line = {"point": point.name, "sampler": name} | compare(point, row, changes)
            rows.append(line)
            print(
                f"{point.name:30} {name:24} {line['llc']:7.1f} ± {line['se']:4.1f}"
                f"  bias {line['bias']:+6.1%} ± {line['bias_se']:.1%}  heat {line['heat']:5.1%}"
                f"  relaxation {line['relaxation']:5.1f}  draws/s {line['draws_per_second']:6.1f}"
                f"  R-hat {line['rhat']:.3f}  {' '.join(line['flags'])}",
                flush=True,
            )
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
