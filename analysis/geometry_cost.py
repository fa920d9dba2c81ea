"""What relative geometry costs: milliseconds of processor time a step beside absolute, in turns on
the same machine.

python analysis/geometry_cost.py runs/baseline --step 825 --rounds 12
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from devsort.artifacts import Run, load_checkpoint, open_run
from devsort.llc.workers import Worker, settings

STEPS = 40


def with_sampler(run: Run, **changes: object) -> Run:
    """The run with other sampler settings and no parts of the data."""
    sampler = settings(run).model_copy(update=changes)
    llc = run.config.llc.model_copy(update={"sampler": sampler, "parts": ()})
    return replace(run, config=run.config.model_copy(update={"llc": llc}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--step", type=int, default=825)
    parser.add_argument("--rounds", type=int, default=12)
    arguments = parser.parse_args()
    run = open_run(arguments.run)
    params = load_checkpoint(run, arguments.step)
    lanes = {"one checkpoint": {0: params}, "four": {i: dict(params) for i in range(4)}}
    for (told, stacked), name in ((x, n) for x in lanes.items() for n in ("full", "h0")):
        workers = {
            geometry: Worker(with_sampler(run, geometry=geometry, num_draws=STEPS), (name,))
            for geometry in ("absolute", "relative")
        }
        spent: dict[str, list[float]] = {geometry: [] for geometry in workers}
        for _ in range(arguments.rounds):
            for geometry, worker in workers.items():
                ticks: list[float] = []
                worker(stacked, lambda _, ticks=ticks: ticks.append(time.process_time()))
                spent[geometry].append(float(np.median(np.diff(ticks))))
        best = {geometry: 1e3 * np.median(times) for geometry, times in spent.items()}
        ratio = np.array(spent["relative"]) / np.array(spent["absolute"])
        error = ratio.std(ddof=1) / np.sqrt(len(ratio))
        print(
            f"{told:16} {name:5} absolute {best['absolute']:.2f} ms  "
            f"relative {best['relative']:.2f} ms  ratio {np.median(ratio):.3f} ± {error:.3f}"
        )


if __name__ == "__main__":
    main()
