"""CPU seconds on one core for an LLC to within one percent, ours and devinterp's.

python analysis/draw_cost.py                     # 20 minutes
python analysis/draw_cost.py --point baseline-6000-full-absolute

Each sampler runs at points whose LLC is known from slow samplers (devsort/sorting/trained.json),
with several step and batch sizes. The cheapest setting whose bias is below 1 % (within its own
error) counts. An LLC costs

    seconds per chain-step × ((spread / 1 %)² × relaxation + chains × burn-in)

with the spread of a draw relative to the mean, the relaxation (integrated autocorrelation time in
steps), and a burn-in of 5 relaxations for each of 4 chains. devinterp's chain equals our SGLD step
for step (tests/sorting/test_devinterp.py), so it has the relaxation and bias of our SGLD. The time
of its steps is measured next to ours, on the same core. In relative geometry devinterp samples a
module whose parameters are the weights in units of their scales.
"""

import argparse
import time
from dataclasses import dataclass, replace

import numpy as np

from devsort.bench.costs import BURN_IN, CHAINS, TARGET, by_devinterp, relaxation, spread
from devsort.execution import one_core, torch_threads
from devsort.llc import estimate, settle
from devsort.sampling.config import SamplerConfig
from devsort.sorting.trained import Point, known, sampled

POINTS = ("baseline-6000-full-relative", "baseline-6000-full-absolute")
STEP = {"absolute": 1.3e-5, "relative": 4e-3}
LENGTH = {  # of a run at the step above; a smaller step takes more of them
    "relative": {
        "sgld": {"num_chains": 4, "num_burnin_steps": 400, "num_draws": 600},
        "baoab": {"num_chains": 8, "num_burnin_steps": 100, "num_draws": 300},
    },
    "absolute": {
        "sgld": {"num_chains": 4, "num_burnin_steps": 600, "num_draws": 900},
        "baoab": {"num_chains": 8, "num_burnin_steps": 400, "num_draws": 500},
    },
}
CANDIDATES = {  # method, factor of the step, batch, momentum
    "relative": [
        *(("sgld", f, b, 0.0) for f, b in ((1, 32), (1, 128), (1, 256), (0.5, 128))),
        *(("baoab", f, b, 0.7) for f, b in ((1, 64), (1, 128), (0.5, 64), (2, 128))),
    ],
    "absolute": [
        *(("sgld", f, b, 0.0) for f, b in ((1, 32), (1, 128), (1, 256), (0.5, 128), (0.25, 128))),
        *(("baoab", 1, b, 0.7) for b in (64, 128, 256, 384, 512)),
        *(("baoab", f, b, c) for f, b, c in ((0.5, 256, 0.7), (1, 256, 0.4))),
    ],
}
TIMED = 40  # devinterp steps that are timed


@dataclass(frozen=True)
class Cost:
    """A setting of a sampler at a point; `seconds` is the time of one chain-step."""

    name: str
    batch: int
    bias: float
    error: float
    spread: float
    relaxation: float
    seconds: float

    @property
    def draws(self) -> float:
        """Independent draws per CPU second."""
        return 1 / (self.relaxation * self.seconds)

    @property
    def cpu(self) -> float:
        """CPU seconds of an LLC with a standard error of TARGET."""
        steps = (self.spread / TARGET) ** 2 * self.relaxation
        return self.seconds * (steps + CHAINS * BURN_IN * self.relaxation)


def measure(point: Point, row: dict, method: str, factor: float, batch: int, c: float) -> Cost:
    """Bias, spread, relaxation and time of one setting."""
    lr = STEP[point.geometry] * factor
    changes = {"sampling_method": method, "lr": lr, "batch_size": batch, "momentum": c}
    start = time.process_time()
    trace = sampled(point, **length(point.geometry, method, factor) | changes)
    seconds = (time.process_time() - start) / (len(trace.loss) * trace.config.num_steps)
    result = estimate(trace)
    return Cost(
        name=f"{method}, ε {lr:.1e}, c {c}",
        batch=batch,
        bias=result.llc / row["llc"] - 1,
        error=float(np.hypot(result.se, row["se"]) / row["llc"]),
        spread=spread(trace),
        relaxation=relaxation(trace),
        seconds=seconds,
    )


def length(geometry: str, method: str, factor: float) -> dict[str, int]:
    """Number of chains and steps; chains of a smaller step relax more slowly."""
    found = dict(LENGTH[geometry][method])
    for name in ("num_burnin_steps", "num_draws"):
        found[name] = round(found[name] / min(1, factor))
    return found


def devinterp_seconds(point: Point, batch: int) -> float:
    """Median CPU seconds of a devinterp chain-step at this checkpoint, without start-up."""
    steps = {"num_chains": 1, "num_burnin_steps": 0, "num_draws": TIMED}
    return by_devinterp(
        point, SamplerConfig(geometry=point.geometry, batch_size=batch, **steps), 0
    )[1]


def line(cost: Cost, who: str) -> None:
    print(
        f"  {who:10} {cost.name:22} batch {cost.batch:3}  bias {cost.bias:+6.1%} ± {cost.error:.1%}"
        f"  spread {cost.spread:5.1%}  relaxation {cost.relaxation:6.1f}"
        f"  ms/step {1e3 * cost.seconds:5.1f}  draws/s {cost.draws:7.2f}  CPU s {cost.cpu:8.1f}",
        flush=True,
    )


def cheapest(costs: list[Cost]) -> Cost | None:
    """The cheapest of those whose bias is below 1 %, within its error."""
    unbiased = [cost for cost in costs if abs(cost.bias) <= TARGET + cost.error]
    return min(unbiased, key=lambda cost: cost.cpu, default=None)


def compare(point: Point, row: dict) -> None:
    """Prints all settings at a point, and the cheapest of each sampler."""
    print(f"{point.name}: {row['llc']:.1f} ± {row['se']:.1f}", flush=True)
    costs_of: dict[str, list[Cost]] = {"sgld": [], "baoab": [], "devinterp": []}
    for method, factor, batch, c in CANDIDATES[point.geometry]:
        cost = measure(point, row, method, factor, batch, c)
        costs_of[method].append(cost)
        line(cost, "devsort")
        if method == "sgld":
            cost = replace(cost, seconds=devinterp_seconds(point, batch))
            costs_of["devinterp"].append(cost)
            line(cost, "devinterp")
    print("  cheapest with a bias below 1 %:")
    for who, costs in costs_of.items():
        if best := cheapest(costs):
            line(best, who)
        elif costs:
            print(f"  {who:10} none of them")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--point", action="append")
    args = parser.parse_args()
    settle.ROUNDS = 0  # no additional burn-in
    with torch_threads(1), one_core():
        for point, row in known():
            if point.name in (args.point or POINTS):
                compare(point, row)


if __name__ == "__main__":
    main()
