"""OV and QK of every head over training, as a GIF, with the step and the LLC beside them.

python analysis/circuit_movie.py runs/baseline
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.figure import Figure

from devsort.charts.axes import over_steps, over_values
from devsort.charts.style import DIVERGING, FULL, INK, look
from devsort.errors import UserError
from devsort.sorting.artifacts import LLC
from devsort.sorting.charts import circuits
from devsort.sorting.checkpoints import trained_steps
from devsort.sorting.run import open_run
from devsort.storage.files import writing

SECONDS = 12  # of the movie


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument(
        "--frames", type=int, default=60, help="checkpoints shown, spread over log step"
    )
    arguments = parser.parse_args()
    run = open_run(arguments.run)
    steps = spread(np.array(trained_steps(run)), arguments.frames)
    path = run.figures / "circuits.gif"
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        render(steps, circuits.matrices(run, steps), trajectory(run), path)
    print(path)


def spread(saved, count):
    """At most `count` of the saved steps, spread evenly over log step."""
    wanted = np.geomspace(max(saved[0], 1), saved[-1], count)
    return sorted({int(saved[np.abs(np.log(np.maximum(saved, 1) / w)).argmin()]) for w in wanted})


def trajectory(run):
    """Steps, LLC and 95 % interval of the whole model.

    None if `devsort llc` has not finished.
    """
    try:
        full = run.read(LLC).sel(restriction="full")
    except UserError as e:
        print(f"without the LLC: {e}", file=sys.stderr)
        return None
    low, high = full.ci95.transpose("bound", "checkpoint").values
    return full.checkpoint.values, full.llc.values, low, high


@look()
def render(steps, frames, llc, path):
    """Draws the first frame, then changes its images."""
    heads = len(frames[0]["OV"])
    figure = Figure(figsize=(1.9 * heads + 2.4, 4), layout="constrained")
    axes = figure.subplots(2, heads + (llc is not None), squeeze=False)
    images = draw_circuits(figure, axes, frames)
    marker = None if llc is None else curve(axes, llc, steps[0])
    title = figure.suptitle(f"step {steps[0]:>6}", fontsize=9)

    def show(i):
        for (kind, head), image in images.items():
            image.set_data(frames[i][kind][head])
        title.set_text(f"step {steps[i]:>6}")
        if marker is not None:
            marker.set_xdata([max(steps[i], 1)] * 2)

    movie = FuncAnimation(figure, show, frames=len(steps))
    movie.save(path, PillowWriter(fps=max(len(steps) / SECONDS, 1)), dpi=110)


def draw_circuits(figure, axes, frames):
    """Draws the first frame: (kind, head) → image, with one colour scale for all frames."""
    heads, images = len(frames[0]["OV"]), {}
    limits = {
        kind: np.percentile(np.abs([f[kind] for f in frames]), circuits.CLIP)
        for kind in ("OV", "QK")
    }
    for row, kind in zip(axes, ("OV", "QK"), strict=True):
        for head in range(heads):
            style = {
                "cmap": DIVERGING,
                "vmin": -limits[kind],
                "vmax": limits[kind],
                "aspect": "auto",
            }
            images[kind, head] = row[head].imshow(
                frames[0][kind][head], interpolation="nearest", origin="lower", **style
            )
            row[head].set_title(f"head {head} {kind}")
            row[head].set_xlabel("number of the logit" if kind == "OV" else "number in the list")
            row[head].set_ylabel("attended number" if kind == "OV" else "current number")
        unit = "logits" if kind == "OV" else "score (nats)"
        figure.colorbar(images[kind, heads - 1], ax=row[heads - 1], label=unit, fraction=0.06)
    return images


def curve(axes, llc, step):
    """The LLC over the whole right column, with a line at the current step."""
    grid = axes[0, -1].get_gridspec()
    for ax in axes[:, -1]:
        ax.remove()
    ax = axes[0, 0].figure.add_subplot(grid[:, -1])
    x, y, low, high = llc
    ax.fill_between(x, low, high, color=FULL, alpha=0.2, lw=0)
    ax.plot(x, y, color=FULL)
    over_steps(ax, "log", x[0], x[-1])
    over_values(ax, [y], [low, high])
    ax.set_xlabel("training step")
    ax.set_ylabel("LLC")
    return ax.axvline(max(step, 1), color=INK, lw=1, ls="--")


if __name__ == "__main__":
    main()
