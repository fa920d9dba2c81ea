"""Axes: limits that contain all data, and readable labels at any range."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from devsort.charts.style import MINUS

Scale = Literal["log", "linear"]
MARGIN = 0.06  # of the range, above and below the data
FLATTENED = 0.5  # if all data lie above this share of the largest, the axis does not begin at zero
WIDE = 3.0  # times the range of the data; wider intervals may be cut off
TICKS = 5
DECADES_ALONE = 3.0  # from here on, powers of ten are enough labels
LABEL = 0.28  # inches that a label of an axis of steps takes
PLAIN = (1e-3, 1e5)  # numbers in this range are written out


def over_steps(ax: Axes, scale: Scale, low: float, high: float) -> None:
    """An axis of training steps from low to high."""
    ax.set_xscale(scale)
    ax.set_xlim(low, high)
    label(ax.xaxis, scale, low, high)


def over_values(
    ax: Axes,
    values: Sequence[np.ndarray],
    intervals: Sequence[np.ndarray],
    flagged: Sequence[np.ndarray] = (),
) -> None:
    """Sets limits that contain all values, from zero unless that would flatten the curves.

    Args:
        ax: The panel.
        values: Values of all curves.
        intervals: Their bands, which are inside the limits too unless they are far wider than the
            values.
        flagged: Values that are not to be trusted; one that is far from the others lies outside.
    """
    low, high = _with_near(*_range(values), flagged)
    flattened = low >= FLATTENED * high
    wide_low, wide_high = _range([np.array([low, high]), *intervals])
    if wide_high - wide_low <= WIDE * (high - low):
        low, high = wide_low, wide_high
    margin = MARGIN * ((high - low) or abs(high) or 1.0)
    ax.set_ylim(0.0 if low >= 0 and not flattened else low - margin, high + margin)
    label(ax.yaxis, "linear", low, high)


def over_loss(ax: Axes, values: np.ndarray) -> None:
    """An axis for a loss: logarithmic if the loss falls by a factor of ten or more."""
    low, high = _range([values])
    if low <= 0 or high < 10 * low:
        return over_values(ax, [values], [])
    ax.set_yscale("log")
    margin = (high / low) ** MARGIN
    ax.set_ylim(low / margin, high * margin)
    return label(ax.yaxis, "log", low, high)


def over_scores(ax: Axes) -> None:
    """An axis for scores from 0 to 1."""
    ax.set_ylim(-0.04, 1.04)
    ax.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])


def number(value: float) -> str:
    """A number as an axis writes it: −500, 20,000, 3·10⁸."""
    size = abs(value)
    if value == 0 or PLAIN[0] <= size < PLAIN[1]:
        return (f"{value:,.0f}" if size >= 1e4 else f"{value:g}").replace("-", MINUS)
    power = int(np.floor(np.log10(size) + 1e-9))
    factor = value / 10.0**power
    return f"$10^{{{power}}}$" if np.isclose(factor, 1) else f"${factor:g}·10^{{{power}}}$"


def _with_near(low: float, high: float, values: Sequence[np.ndarray]) -> tuple[float, float]:
    """The range with those of the values that do not make it far wider."""
    every = np.concatenate([[low, high], *values])
    width = np.maximum(every, high) - np.minimum(every, low)
    near = every[width <= WIDE * (high - low)]
    return (float(near.min()), float(near.max())) if len(near) else (low, high)


def _range(values: Sequence[np.ndarray]) -> tuple[float, float]:
    every = np.concatenate([np.ravel(v) for v in values])
    every = every[np.isfinite(every)]
    return (float(every.min()), float(every.max())) if len(every) else (0.0, 1.0)


def _narrow(axis: Axis, decades: float) -> bool:
    """Whether three labels per decade of steps would touch."""
    width = axis.axes.get_position().width * axis.axes.figure.get_figwidth()
    return axis.axis_name == "x" and width < 3 * decades * LABEL


def label(axis: Axis, scale: Scale, low: float, high: float) -> None:
    """Ticks and their labels from low to high: powers of ten, or a few round numbers."""
    axis.set_minor_locator(NullLocator())
    decades = np.log10(high / low) if scale == "log" else 0.0
    if decades < 1:  # too narrow for powers of ten
        axis.set_major_locator(MaxNLocator(TICKS))
    else:
        alone = decades >= DECADES_ALONE or _narrow(axis, decades)
        subs = (1.0,) if alone else (1.0, 2.0, 5.0)
        axis.set_major_locator(LogLocator(subs=subs, numticks=12))
        if alone and axis.axis_name == "x":
            axis.set_minor_locator(LogLocator(subs=range(2, 10), numticks=100))
    axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axis.set_minor_formatter(FuncFormatter(lambda *_: ""))
