"""What the diagnostics cost: their share of the sampling time at the defaults, on one core.

python analysis/diagnostics_cost.py runs/baseline

Diagnostics are what `Trace` holds beyond the losses (work, force, distance), the parts of the data,
and the estimate with its standard error, R-hat, ESS and flags. Medians over repeats, in CPU seconds
of the sampling thread.
"""

import argparse
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
from devsort.sorting.workers import Worker, chance_context, settings

from devsort.llc import estimate
from devsort.sampling import sgld, sorting
from devsort.sorting.run import load_checkpoint, open_run, trained_steps


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


def shares(worker: Worker, checkpoints: dict, context) -> tuple[float, float, float, float]:
    """Seconds of all sampling, of the record, of the parts, and of the estimates."""
    spent: dict[str, float] = {}
    start = time.thread_time()
    with timed(sgld._Record, "__call__", spent), timed(sorting, "_mean_of", spent):
        traces = worker(checkpoints, lambda _: None)
    whole = time.thread_time() - start
    start = time.thread_time()
    for row in traces.values():
        for trace in row:
            estimate(trace, context)
    return whole, spent["__call__"], spent["_mean_of"], time.thread_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    run = open_run(arguments.run)
    worker = Worker(run, ("full", "h0"))
    steps = trained_steps(run)[-worker.checkpoints :]
    checkpoints = {step: load_checkpoint(run, step) for step in steps}
    context = chance_context(run, settings(run))
    turns = [shares(worker, checkpoints, context) for _ in range(arguments.repeats)]
    whole, record, parts, estimates = np.median(np.array(turns), 0)
    total = whole + estimates
    print(f"{len(steps)} checkpoints, whole model and one head: {total:.2f} s")
    for name, seconds in (
        ("record", record),
        ("parts of the data", parts),
        ("estimates and flags", estimates),
    ):
        print(f"  {name:20} {seconds:6.3f} s  {seconds / total:6.1%}")
    print(
        f"  {'all diagnostics':20} {record + parts + estimates:6.3f} s  {(record + parts + estimates) / total:6.1%}"
    )


if __name__ == "__main__":
    main()
