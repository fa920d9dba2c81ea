"""Reliability diagrams.

What ablating a head, or all of it but its suppression, does to the network's confidence.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from devsort.charts.style import INK, PALETTE, WIDTH, look, save_figure
from devsort.sorting.heads.function import Condition, Function

FEWEST = 10  # answers that a bin must hold to be drawn; the calibration error counts all bins
TITLES = {
    "whole": "whole",
    "ablated": "head ablated",
    "suppression": "suppression alone",
    "rest": "no suppression",
    "without_own": "none of the answer",
    "without_competitors": "none of others",
}


def draw(function: Function, folder: Path, name: str = "reliability") -> list[Path]:
    """Draws the reliability diagrams of one head's function into a folder.

    Returns:
        The files written.
    """
    return save_figure(plot(function), folder, name)


@look()
def plot(function: Function) -> Figure:
    """One diagram for each condition, with the share of answers in each bin below."""
    figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
    columns = len(function.conditions)
    axes = figure.subplots(2, columns, sharex=True, sharey="row", height_ratios=(3, 1))
    for (top, bottom), (name, condition) in zip(axes.T, function.conditions.items(), strict=True):
        _reliability(top, condition)
        _counts(bottom, condition)
        top.set_title(
            f"{TITLES[name]}\nloss {condition.loss:.3f} nats\nECE {condition.reliability.error:.4f}"
        )
    axes[0, 0].set_ylabel(f"head {function.head}\naccuracy")
    axes[1, 0].set_ylabel("share of\nanswers")
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
    ax.set_xlim(0, 1.03)
    ax.set_ylim(0, 1.03)


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
    ax.set_yscale("log")
    ax.set_ylim(1e-5, 2)
