"""What the diagnostics cost: their share of the sampling time at the defaults, on one core.

python analysis/diagnostics_cost.py runs/baseline

Diagnostics are what `Trace` has besides the losses (work, force, distance), the parts of the data,
and the estimate with its standard error, R-hat, ESS and flags. The results are medians over
repeats, in CPU seconds of the sampling thread.
"""

import argparse
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np

from devsort.execution import unheard
from devsort.llc import estimate
from devsort.llc.trajectory import Job
from devsort.sampling import chains
from devsort.sorting import objective
from devsort.sorting.checkpoints import trained_steps
from devsort.sorting.run import open_run
from devsort.sorting.samplers import SortSampler, chance_loss

RESTRICTIONS = ("full", "h0")


@contextmanager
def timed(owner: object, name: str, spent: dict[str, float]):
    """Adds up the CPU seconds of a function."""
    original: Callable = getattr(owner, name)

    def wrapper(*arguments):
        start = time.thread_time()
        try:
            return original(*arguments)
        finally:
            spent[name] = spent.get(name, 0.0) + time.thread_time() - start

    with patch.object(owner, name, wrapper):
        yield


def shares(
    sampler: SortSampler, steps: tuple[int, ...], chance: float
) -> tuple[float, float, float, float]:
    """Seconds for sampling as a whole, for the record, for the parts, and for the estimates."""
    spent: dict[str, float] = {}
    start = time.thread_time()
    with timed(chains._Record, "__call__", spent), timed(objective, "_mean_of", spent):
        results = [sampler(Job(steps, name), unheard) for name in RESTRICTIONS]
    whole = time.thread_time() - start
    start = time.thread_time()
    for traces in results:
        for trace in traces.values():
            estimate(trace, chance_loss=chance)
    return whole, spent["__call__"], spent["_mean_of"], time.thread_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    run = open_run(arguments.run)
    sampler = SortSampler(run)
    steps = tuple(trained_steps(run)[-sampler.stack :])
    turns = [shares(sampler, steps, chance_loss(run)) for _ in range(arguments.repeats)]
    whole, record, parts, estimates = np.median(np.array(turns), 0)
    total = whole + estimates
    print(f"{len(steps)} checkpoints, whole model and one head: {total:.2f} s")
    costs = {"record": record, "parts of the data": parts, "estimates and flags": estimates}
    for name, seconds in {**costs, "all diagnostics": sum(costs.values())}.items():
        print(f"  {name:20} {seconds:6.3f} s  {seconds / total:6.1%}")


if __name__ == "__main__":
    main()
