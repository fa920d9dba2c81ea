"""The cost of relative geometry: CPU milliseconds per step compared with absolute geometry.

Both alternate on the same machine.

python analysis/geometry_cost.py runs/baseline --step 825 --rounds 12
"""

import argparse
import time
from pathlib import Path

import numpy as np
from geometry_tools import ABSOLUTE, RELATIVE, with_sampler

from devsort.execution import one_core
from devsort.sorting.checkpoints import load_checkpoint
from devsort.sorting.objective import Checkpoint
from devsort.sorting.run import open_run
from devsort.sorting.samplers import SortSampler

STEPS = 40
GEOMETRIES = {"absolute": ABSOLUTE, "relative": RELATIVE}
SAME = {"sampling_method": "baoab", "batch_size": 64, "num_burnin_steps": 0, "num_draws": STEPS}


def milliseconds(sampler: SortSampler, checkpoints: dict[int, Checkpoint], name: str) -> float:
    """Median CPU time of a step."""
    ticks: list[float] = []
    sampler.sample(checkpoints, name, lambda _: ticks.append(time.process_time()))
    return 1e3 * float(np.median(np.diff(ticks)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--step", type=int, default=825)
    parser.add_argument("--rounds", type=int, default=12)
    arguments = parser.parse_args()
    run = open_run(arguments.run)
    params = load_checkpoint(run, arguments.step)
    samplers = {
        geometry: SortSampler(with_sampler(run, **changes | SAME))
        for geometry, changes in GEOMETRIES.items()
    }
    for label, count in (("one checkpoint", 1), ("four", 4)):
        for name in ("full", "h0"):
            checkpoints = {i: samplers["absolute"].checkpoint(dict(params)) for i in range(count)}
            with one_core():
                rounds = [
                    [milliseconds(s, checkpoints, name) for s in samplers.values()]
                    for _ in range(arguments.rounds)
                ]
            absolute, relative = np.array(rounds).T
            ratio = relative / absolute
            error = ratio.std(ddof=1) / np.sqrt(len(ratio))
            print(
                f"{label:16} {name:5} absolute {np.median(absolute):.2f} ms  "
                f"relative {np.median(relative):.2f} ms  "
                f"ratio {np.median(ratio):.3f} ± {error:.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
