"""Relaxation and R-hat of both geometries, with the same sampler.

python analysis/geometry_relaxation.py runs

SGLD at each geometry's default step size and localization, minibatches of 64 lists, 8 chains of 150
steps of burn-in and 400 draws from w*. τ is the relaxation time in steps: the integrated
autocorrelation time, draws over effective draws.
"""

import argparse
from pathlib import Path

from geometry_tools import ABSOLUTE, RELATIVE, traces, with_sampler

from devsort.llc import estimate
from devsort.sorting.checkpoints import load_checkpoint
from devsort.sorting.run import open_run

POINTS = (("baseline", 91), ("baseline", 825), ("baseline", 6000), ("no-decay", 6000))
SAME = {
    "sampling_method": "sgld",
    "batch_size": 64,
    "num_chains": 8,
    "num_burnin_steps": 150,
    "num_draws": 400,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, help="folder with the runs `baseline` and `no-decay`")
    folder = parser.parse_args().runs
    print("run, step       geometry  λ̂                τ  R-hat  flags")
    for name, step in POINTS:
        run = open_run(folder / name)
        params = {step: load_checkpoint(run, step)}
        for geometry, defaults in (("absolute", ABSOLUTE), ("relative", RELATIVE)):
            e = estimate(traces(with_sampler(run, **defaults | SAME), params)[step])
            relaxation = SAME["num_chains"] * SAME["num_draws"] / e.ess
            print(
                f"{name:9s}{step:5d}  {geometry}  {e.llc:7.1f} ± {e.se:4.1f}  {relaxation:6.1f}  "
                f"{e.rhat:.3f}  {', '.join(e.flags)}",
                flush=True,
            )


if __name__ == "__main__":
    main()
