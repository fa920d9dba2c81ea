"""Ownership chart.

Which head each number needs, over training, with the scores and events below.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from devsort.charts.style import INK, SCORES, WIDTH, head_colour, look
from devsort.sorting.artifacts import HEADS
from devsort.sorting.heads.step import stored_events
from devsort.sorting.run import Run

if TYPE_CHECKING:
    import xarray as xr

KEY = 1.4  # inches of an entry of the legend
FULL_COLOUR = 4.0  # nats of loss increase at which a head's colour is at its full strength


def of_run(run: Run, width: float = WIDTH) -> Figure:
    """The ownership chart of a run, `width` inches wide."""
    heads = run.read(HEADS)
    return plot(heads, stored_events(heads), width)


@look()
def plot(heads: "xr.Dataset", found: Sequence[dict], width: float = WIDTH) -> Figure:
    """Number × step coloured by the head that is needed, and scores with 95 % bands."""
    figure = Figure(figsize=(width, 4.2), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2.2, 1))
    _ownership(top, heads)
    _scores(bottom, heads, found)
    bottom.set_xlabel("training step")
    return figure


def colours(heads: "xr.Dataset") -> np.ndarray:
    """(checkpoint, number, 3) RGB.

    Each head's colour in its share of the need, paler where less is lost without it.
    """
    increase = np.maximum(heads.loss_increase.transpose("checkpoint", "number", "head").values, 0)
    palette = np.array([to_rgb(head_colour(int(h))) for h in heads["head"].values])
    total = increase.sum(-1, keepdims=True)
    mixed = increase / np.maximum(total, 1e-9) @ palette
    depth = np.minimum(increase.max(-1, keepdims=True) / FULL_COLOUR, 1)
    return depth * mixed + (1 - depth)


def step_edges(steps: np.ndarray) -> np.ndarray:
    """Edges between checkpoints on the log axis: geometric means of neighbours, (C,) → (C + 1,)."""
    log = np.log(np.maximum(steps, 0.5))
    if len(log) == 1:
        return np.exp([log[0] - 0.1, log[0] + 0.1])
    middle = (log[1:] + log[:-1]) / 2
    return np.exp([2 * log[0] - middle[0], *middle, 2 * log[-1] - middle[-1]])


def figure_width(ax: Axes) -> float:
    """The width in inches of the figure of an axis."""
    return float(ax.figure.get_size_inches()[0])


def _ownership(ax: Axes, heads: "xr.Dataset") -> None:
    numbers = heads.number.values
    edges = np.append(numbers, numbers[-1] + 1) - 0.5
    ax.pcolormesh(
        step_edges(heads.checkpoint.values), edges, colours(heads).swapaxes(0, 1), rasterized=True
    )
    ax.set_xscale("log")
    ax.set_ylabel("number to be copied")
    keys = [Patch(color=head_colour(int(h)), label=f"needs head {h}") for h in heads["head"].values]
    keys.append(Patch(facecolor="white", edgecolor=INK, lw=0.4, label="no head is needed"))
    ax.legend(
        handles=keys,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=max(1, min(len(keys), round(figure_width(ax) / KEY))),
        borderaxespad=0.2,
    )


def _scores(ax: Axes, heads: "xr.Dataset", found: Sequence[dict]) -> None:
    steps = heads.checkpoint.values
    for name, (colour, line, label) in SCORES.items():
        interval = heads.score_ci95.sel(score=name).transpose("bound", "checkpoint")
        ax.fill_between(steps, *interval.values, color=colour, alpha=0.25, lw=0)
        ax.plot(steps, heads.scores.sel(score=name), line, color=colour, label=label)
    ax.set_ylim(0, 1)
    ax.set_ylabel("head-mode score")
    ax.legend(loc="upper left", ncols=1)
    for event in found:
        ax.axvspan(*event["ci95"], color=INK, alpha=0.12, lw=0)
        ax.axvline(event["step"], color=INK, lw=0.6, ls=":")
    for level, event in enumerate(found):
        text = event["event"].replace("_", " ")
        ax.annotate(
            text,
            (event["step"], 0.96 - 0.13 * (level % 4)),
            xytext=(3, 0),
            textcoords="offset points",
            fontsize=7,
            va="top",
            bbox={"facecolor": "white", "alpha": 0.7, "lw": 0, "pad": 0.5},
        )
