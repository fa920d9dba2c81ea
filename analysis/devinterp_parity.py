"""Our sampler compared with devinterp's at eight checkpoints, with the same settings.

Prints λ̂ of the whole model with standard errors.

python analysis/devinterp_parity.py runs/baseline --out comparison

Both average the draws after burn-in, and both evaluate the loss of the starting point on the
chain's own minibatches.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from devsort.charts.axes import label, over_steps
from devsort.charts.style import INK, PALETTE, WIDTHS, look, save_figure
from devsort.execution import Advanced, progress, run_jobs
from devsort.llc import estimate
from devsort.llc.trajectory import Job, Sampler
from devsort.sampling import Trace
from devsort.sorting.checkpoints import chosen_steps, trained_steps
from devsort.sorting.run import Run, open_run
from devsort.sorting.samplers import DevinterpSampler, SortSampler, chance_loss

CHECKPOINTS = 8


def trajectory(run: Run, steps: list[int], sampler: Sampler) -> np.ndarray:
    """λ̂ and its standard error at each step, (2, steps)."""
    c, chance = run.config.llc.sampler, chance_loss(run)
    total = len(steps) * c.num_chains * c.num_steps
    with progress(total=total, desc=type(sampler).__name__) as bar:
        count = sampler.processes(bar.total)
        traces = dict(run_jobs(partial(_trace, sampler), steps, count, bar.update))
    estimates = [estimate(traces[step], chance_loss=chance) for step in steps]
    return np.array([[e.llc, e.se] for e in estimates]).T


def _trace(sampler: Sampler, step: int, advanced: Advanced) -> Trace:
    return sampler(Job((step,), "full"), advanced)[step]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, default=Path("comparison"))
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="as in devsort llc"
    )
    arguments = parser.parse_args()
    run = open_run(arguments.run, ("llc.sampler.geometry=absolute", *arguments.set))
    late = [s for s in trained_steps(run) if s >= run.config.llc.first_step]
    steps = chosen_steps(late, CHECKPOINTS)
    ours, theirs = (trajectory(run, steps, kind(run)) for kind in (SortSampler, DevinterpSampler))
    z = (ours[0] - theirs[0]) / np.hypot(ours[1], theirs[1])
    print(f"{'step':>6} {'devsort':>9} {'± SE':>6} {'devinterp':>9} {'± SE':>6} {'z':>6}")
    for i, step in enumerate(steps):
        values = (f"{llc:9.1f} {se:6.1f}" for llc, se in (ours[:, i], theirs[:, i]))
        print(f"{step:6d} {' '.join(values)} {z[i]:6.2f}")
    print("\n".join(str(path) for path in draw(steps, ours, theirs, z, arguments.out)))


@look()
def draw(
    steps: list[int], ours: np.ndarray, theirs: np.ndarray, z: np.ndarray, folder: Path
) -> list[Path]:
    figure = Figure(figsize=(WIDTHS["single"], 3.4), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    for (llc, se), name, colour, marker in (
        (ours, "devsort", INK, "o"),
        (theirs, "devinterp", PALETTE[1], "s"),
    ):
        top.errorbar(
            steps, llc, 2 * se, color=colour, marker=marker, ms=3, lw=1, capsize=2, label=name
        )
    bottom.axhspan(-2, 2, color="0.93", lw=0)
    bottom.axhline(0, color="0.6", lw=0.6)
    bottom.plot(steps, z, color=INK, marker="o", ms=3, lw=0)
    over_steps(bottom, "log", steps[0] / 1.2, steps[-1] * 1.2)
    label(top.yaxis, "linear", *top.get_ylim())
    top.set_ylabel("LLC (± 2 SE)")
    bottom.set(xlabel="training step", ylabel="difference\n(combined SE)", ylim=(-4, 4))
    top.legend()
    figure.align_ylabels()
    return save_figure(figure, folder, "devinterp-parity")


if __name__ == "__main__":
    main()
