"""Our sampler beside devinterp's at eight checkpoints, same settings: λ̂ of the whole model with standard errors.

python analysis/devinterp_parity.py runs/baseline --out comparison

Both average the draws after burn-in, and both take the loss of the starting point on the chain's own minibatches.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from devsort.artifacts import Run, open_run
from devsort.charts.style import INK, PALETTE, save_figure, use_style
from devsort.llc import load_llc, run_llc

CHECKPOINTS = 8


def reference(run: Run) -> Run:
    """The run restricted to the whole model at eight checkpoints; parts of the data are ours alone."""
    llc = run.config.llc.model_copy(update={"max_checkpoints": CHECKPOINTS, "restrictions": ("full",), "parts": ()})
    return replace(run, config=run.config.model_copy(update={"llc": llc}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, default=Path("comparison"))
    arguments = parser.parse_args()
    run = reference(open_run(arguments.run))
    run_llc(run, sampler="devinterp")
    theirs = load_llc(run, "devinterp").sel(restriction="full")
    ours = load_llc(open_run(arguments.run)).sel(restriction="full")
    steps = theirs["checkpoint"].values
    ours = ours.sel(checkpoint=steps, method="nearest")
    difference = ours["llc"].values - theirs["llc"].values
    combined = np.hypot(ours["se"].values, theirs["se"].values)
    print(f"{'step':>6} {'devsort':>9} {'± SE':>6} {'devinterp':>9} {'± SE':>6} {'z':>6}")
    for i, step in enumerate(steps):
        own, their = (f"{float(d['llc'][i]):9.1f} {float(d['se'][i]):6.1f}" for d in (ours, theirs))
        print(f"{step:6d} {own} {their} {difference[i] / combined[i]:6.2f}")
    draw(steps, ours, theirs, arguments.out)


def draw(steps: np.ndarray, ours, theirs, folder: Path) -> None:
    use_style()
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(4.5, 3.6), sharex=True, height_ratios=(2, 1))
    for data, label, colour, marker in ((ours, "devsort", INK, "o"), (theirs, "devinterp", PALETTE[1], "s")):
        top.errorbar(
            steps, data["llc"], 2 * data["se"], color=colour, marker=marker, ms=3, lw=1, capsize=2, label=label
        )
    combined = np.hypot(ours["se"].values, theirs["se"].values)
    bottom.axhspan(-2, 2, color="0.93", lw=0)
    bottom.axhline(0, color="0.6", lw=0.6)
    bottom.plot(steps, (ours["llc"].values - theirs["llc"].values) / combined, color=INK, marker="o", ms=3, lw=0)
    top.set(xscale="log", ylabel="LLC (± 2 SE)")
    bottom.set(xlabel="training step", ylabel="difference\n(combined SE)", ylim=(-4, 4))
    top.legend()
    figure.align_ylabels()
    print("\n".join(str(p) for p in save_figure(figure, folder, "devinterp-parity")))


if __name__ == "__main__":
    main()
