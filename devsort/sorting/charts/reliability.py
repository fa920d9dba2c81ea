"""Reliability diagrams.

What ablating a head, or all of it but its suppression, does to the network's confidence.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure

from devsort.charts.axes import number
from devsort.charts.style import BOTH, INK, PALETTE, WIDTH, look, save_figure
from devsort.sorting.heads.function import Condition, Function

FEWEST = 10  # answers that a bin must hold to be drawn; the calibration error counts all bins
PANEL, LETTER = 1.1, 0.058  # inches of a diagram, at least, and of a letter of its title
TITLES = {
    "whole": "whole",
    "ablated": "head ablated",
    "suppression": "suppression alone",
    "rest": "no suppression",
    "without_own": "none of the answer",
    "without_competitors": "none of others",
}


def draw(
    function: Function,
    folder: Path,
    name: str = "reliability",
    kinds: Sequence[str] = BOTH,
    width: float = WIDTH,
) -> list[Path]:
    """Draws the reliability diagrams of one head's function, `width` inches wide, into a folder.

    Returns:
        The files written.
    """
    return save_figure(plot(function, width), folder, name, kinds)


@look()
def plot(function: Function, width: float = WIDTH) -> Figure:
    """One diagram for each condition, with the share of answers in each bin below."""
    conditions = list(function.conditions.items())
    columns = min(len(conditions), int(width / PANEL))
    blocks, letters = -(-len(conditions) // columns), int(0.8 * width / columns / LETTER)
    figure = Figure(figsize=(width, 2.1 * blocks + 0.3), layout="constrained")
    ratios = (3, 1) * blocks
    axes = figure.subplots(2 * blocks, columns, sharex=True, squeeze=False, height_ratios=ratios)
    for ax in axes.flat:
        ax.axis("off")
    for i, (name, condition) in enumerate(conditions):
        top, bottom = axes[2 * (i // columns) :, i % columns][:2]
        _reliability(top, condition)
        _counts(bottom, condition)
        error = f"ECE {condition.reliability.error:.4f}"
        title = fill(TITLES[name], letters)
        top.set_title(f"{title}\nloss {condition.loss:.3f} nats\n{error}", fontsize=7)
        if i % columns == 0:
            top.set_ylabel(f"head {function.head}\naccuracy")
            bottom.set_ylabel("share of\nanswers")
        top.tick_params(labelleft=i % columns == 0)
        bottom.tick_params(labelleft=i % columns == 0)
    figure.align_ylabels(axes[:, 0])
    figure.supxlabel("confidence (probability of the likeliest number)", fontsize=8)
    return figure


def values(function: Function) -> list[Mapping[str, float | str]]:
    """The numbers beside the diagrams, one row per condition."""
    return [{"condition": name, **c.values} for name, c in function.conditions.items()]


def _reliability(ax: Axes, condition: Condition) -> None:
    r = condition.reliability
    ax.plot([0, 1], [0, 1], color=INK, lw=0.6, ls=":")
    shown = r.count >= FEWEST
    size = 4 + 40 * np.sqrt(r.count[shown] / r.count.sum())
    ax.plot(r.confidence[shown], r.accuracy[shown], color=PALETTE[0], lw=0.8)
    ax.scatter(
        r.confidence[shown], r.accuracy[shown], s=size, color=PALETTE[0], zorder=3, clip_on=False
    )
    ax.axis("on")
    ax.set_xlim(0, 1.03)
    ax.set_ylim(0, 1.03)
    _unit(ax.yaxis)


def _counts(ax: Axes, condition: Condition) -> None:
    count = condition.reliability.count
    edges = np.linspace(0, 1, len(count) + 1)
    ax.bar(
        edges[:-1],
        count / count.sum(),
        width=1 / len(count),
        align="edge",
        color=PALETTE[0],
        alpha=0.5,
    )
    ax.axis("on")
    ax.set_yscale("log")
    ax.set_ylim(1e-5, 2)
    ax.yaxis.set_ticks([1e-4, 1e-2, 1], map(number, (1e-4, 1e-2, 1)), minor=False)
    ax.minorticks_off()
    _unit(ax.xaxis)


def _unit(axis: Axis) -> None:
    """Ticks of a share."""
    axis.set_ticks([0, 0.5, 1], ["0", "0.5", "1"])
