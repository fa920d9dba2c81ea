"""Our sampler beside devinterp's at eight checkpoints, same settings: λ̂ of the whole model with
standard errors.

python analysis/devinterp_parity.py runs/baseline --out comparison

Both average the draws after burn-in, and both take the loss of the starting point on the chain's
own minibatches.
"""

import argparse
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from devsort.sorting.workers import ReferenceWorker, Worker, chance_context, settings

from devsort.charts.style import INK, PALETTE, save_figure, use_style
from devsort.execution.jobs import Advanced, run_jobs
from devsort.execution.progress import progress
from devsort.llc import estimate
from devsort.sampling.trace import Trace
from devsort.sorting.llc import chosen_steps
from devsort.sorting.run import Run, load_checkpoint, open_run, trained_steps

CHECKPOINTS = 8


def trajectory(run: Run, steps: list[int], worker: Worker | ReferenceWorker) -> np.ndarray:
    """λ̂ and its standard error at each step, (2, steps)."""
    context = chance_context(run, settings(run))
    sampler = run.config.llc.sampler
    with progress(
        total=len(steps) * sampler.num_chains * sampler.num_steps, desc=type(worker).__name__
    ) as bar:
        count = worker.processes(bar.total)
        traces = dict(run_jobs(partial(_trace, run, worker), steps, count, bar.update))
    return np.array([[e.llc, e.se] for e in (estimate(traces[step], context) for step in steps)]).T


def _trace(run: Run, worker: Worker | ReferenceWorker, step: int, advanced: Advanced) -> Trace:
    return worker({step: load_checkpoint(run, step)}, advanced)[step][0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, default=Path("comparison"))
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="as in devsort llc"
    )
    arguments = parser.parse_args()
    run = open_run(arguments.run, tuple(arguments.set))
    steps = chosen_steps(
        [s for s in trained_steps(run) if s >= run.config.llc.first_step], CHECKPOINTS
    )
    ours, theirs = (
        trajectory(run, steps, kind(run, ("full",))) for kind in (Worker, ReferenceWorker)
    )
    z = (ours[0] - theirs[0]) / np.hypot(ours[1], theirs[1])
    print(f"{'step':>6} {'devsort':>9} {'± SE':>6} {'devinterp':>9} {'± SE':>6} {'z':>6}")
    for i, step in enumerate(steps):
        print(
            f"{step:6d} {ours[0, i]:9.1f} {ours[1, i]:6.1f} {theirs[0, i]:9.1f} {theirs[1, i]:6.1f} {z[i]:6.2f}"
        )
    print("\n".join(str(path) for path in draw(steps, ours, theirs, z, arguments.out)))


def draw(
    steps: list[int], ours: np.ndarray, theirs: np.ndarray, z: np.ndarray, folder: Path
) -> list[Path]:
    use_style()
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(4.5, 3.6), sharex=True, height_ratios=(2, 1)
    )
    for (llc, se), label, colour, marker in (
        (ours, "devsort", INK, "o"),
        (theirs, "devinterp", PALETTE[1], "s"),
    ):
        top.errorbar(
            steps, llc, 2 * se, color=colour, marker=marker, ms=3, lw=1, capsize=2, label=label
        )
    bottom.axhspan(-2, 2, color="0.93", lw=0)
    bottom.axhline(0, color="0.6", lw=0.6)
    bottom.plot(steps, z, color=INK, marker="o", ms=3, lw=0)
    top.set(xscale="log", ylabel="LLC (nats, ± 2 SE)")
    bottom.set(xlabel="training step", ylabel="difference\n(combined SE)", ylim=(-4, 4))
    top.legend()
    figure.align_ylabels()
    return save_figure(figure, folder, "devinterp-parity")


if __name__ == "__main__":
    main()
