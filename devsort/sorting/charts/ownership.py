"""Ownership chart: both modes over training.

Which head each number needs, which head lowers it and by how much, and the scores and events below.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from devsort.charts.axes import over_scores, over_steps
from devsort.charts.style import INK, SCORES, WIDTH, head_colour, look
from devsort.sorting.artifacts import HEADS
from devsort.sorting.heads.step import stored_events
from devsort.sorting.run import Run

if TYPE_CHECKING:
    import xarray as xr

KEY = 1.4  # inches of an entry of the legend
FULL_COLOUR = 4.0  # nats of loss increase at which a head's colour is at its full strength
FULL_RATIO = 0.25  # share of what the copier adds at which a lowering head's colour is full
# of each map: what full colour means, what a head's colour means, and what white means
NEEDS = (
    f"full colour: its loss rises by {FULL_COLOUR:g} nats",
    "number needs {}",
    "no head is needed",
)
LOWERS = (f"full colour: takes off {FULL_RATIO:.0%} of the copy", "{} lowers it", "not lowered")


def of_run(run: Run, width: float = WIDTH) -> Figure:
    """The ownership chart of a run, `width` inches wide."""
    heads = run.read(HEADS)
    return plot(heads, stored_events(heads), width)


@look()
def plot(heads: "xr.Dataset", found: Sequence[dict], width: float = WIDTH) -> Figure:
    """Number × step by the head that is needed, by the head that lowers, and scores with 95 %."""
    figure = Figure(figsize=(width, 6.0), layout="constrained")
    top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=(2, 2, 1.2))
    edges = step_edges(heads.checkpoint.values)
    over_steps(bottom, "log", edges[0], edges[-1])
    _map(top, heads, colours(heads))
    _key(top, heads, NEEDS)
    _map(middle, heads, lowering(heads))
    _outline(middle, heads)
    line = Line2D([], [], color=INK, lw=0.7, label="suppresses, by the rule")
    _key(middle, heads, LOWERS, [line])
    _scores(bottom, heads, found)
    bottom.set_xlabel("training step")
    return figure


def colours(heads: "xr.Dataset") -> np.ndarray:
    """(checkpoint, number, 3) RGB.

    Each head's colour in its share of the need, paler where less is lost without it.
    """
    increase = np.maximum(heads.loss_increase.transpose("checkpoint", "number", "head").values, 0)
    return _mixed(heads, increase, FULL_COLOUR)


def lowering(heads: "xr.Dataset") -> np.ndarray:
    """(checkpoint, number, 3) RGB.

    The colour of the head that lowers a number which another head copies; it is paler where the
    head takes away a smaller share of what the other adds.
    """
    undone = -heads.copy_ratio.transpose("checkpoint", "number", "head").values
    return _mixed(heads, np.nan_to_num(np.maximum(undone, 0)), FULL_RATIO)


def _mixed(heads: "xr.Dataset", amount: np.ndarray, full: float) -> np.ndarray:
    """Heads' colours mixed by their amounts (C, N, H); full depth where the largest is `full`."""
    palette = np.array([to_rgb(head_colour(int(h))) for h in heads["head"].values])
    total = amount.sum(-1, keepdims=True)
    mixed = amount / np.maximum(total, 1e-9) @ palette
    depth = np.minimum(amount.max(-1, keepdims=True) / full, 1)
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


def _map(ax: Axes, heads: "xr.Dataset", rgb: np.ndarray) -> None:
    """A map of colours (checkpoint, number, 3)."""
    numbers = heads.number.values
    edges = np.append(numbers, numbers[-1] + 1) - 0.5
    ax.pcolormesh(step_edges(heads.checkpoint.values), edges, rgb.swapaxes(0, 1), rasterized=True)
    ax.set_ylabel("number in the list")


def _key(
    ax: Axes, heads: "xr.Dataset", words: tuple[str, str, str], more: Sequence[Artist] = ()
) -> None:
    """What the colours of a map mean, above it."""
    full, needs, none = words
    keys: list[Artist] = [
        Patch(color=head_colour(int(h)), label=needs.format(f"head {h}"))
        for h in heads["head"].values
    ]
    keys += [Patch(facecolor="white", edgecolor=INK, lw=0.4, label=none), *more]
    ax.legend(
        handles=keys,
        title=full,
        title_fontsize=7,
        alignment="left",
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=max(1, min(len(keys), round(figure_width(ax) / KEY))),
        borderaxespad=0.2,
    )


def _outline(ax: Axes, heads: "xr.Dataset") -> None:
    """A line around what the rule calls suppressed."""
    mask = heads.suppresses.any("head").transpose("number", "checkpoint").values.astype(float)
    steps, numbers = step_edges(heads.checkpoint.values), heads.number.values
    fine = np.repeat(np.repeat(mask, 2, 0), 2, 1)  # cells as squares, so that lines follow them
    at = np.sort(np.concatenate([steps[:-1] * 1.0001, steps[1:] * 0.9999]))
    high = np.sort(np.concatenate([numbers - 0.49, numbers + 0.49]))
    if mask.any():
        ax.contour(at, high, fine, [0.5], colors=INK, linewidths=0.7)


def _scores(ax: Axes, heads: "xr.Dataset", found: Sequence[dict]) -> None:
    steps = heads.checkpoint.values
    for name, (colour, line, label) in SCORES.items():
        interval = heads.score_ci95.sel(score=name).transpose("bound", "checkpoint")
        ax.fill_between(steps, *interval.values, color=colour, alpha=0.25, lw=0)
        ax.plot(steps, heads.scores.sel(score=name), line, color=colour, label=label)
    over_scores(ax)
    ax.set_ylabel("head-mode score")
    ax.legend(loc="upper left", ncols=1)
    for event in found:
        ax.axvspan(*event["ci95"], color=INK, alpha=0.12, lw=0)
        ax.axvline(event["step"], color=INK, lw=0.6, ls=":")
    for level, event in enumerate(found):
        _name(ax, event, 0.98 - 0.14 * (level % 4))


def _name(ax: Axes, event: Mapping[str, Any], y: float) -> None:
    """The name of an event beside its line, to the left of it in the right half of the panel."""
    low, high = np.log(ax.get_xlim())
    late = np.log(event["step"]) > (low + high) / 2
    at = event["ci95"][0] if late else event["ci95"][1]
    ax.annotate(
        event["event"].replace("_", " "),
        (at, y),
        xytext=(-3 if late else 3, 0),
        textcoords="offset points",
        fontsize=7,
        ha="right" if late else "left",
        va="top",
        bbox={"facecolor": "white", "alpha": 0.8, "lw": 0, "pad": 0.5},
    )
