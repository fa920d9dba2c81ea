"""Curves over steps: values with their intervals, and a mark in the shape of each flag."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from devsort.charts import axes, style

Z95 = 1.96
MANY = 100  # with more points, markers are small


@dataclass(frozen=True)
class Curve:
    """Values over steps, with their intervals and flags.

    Attributes:
        step: (n,) training steps.
        value: (n,) values.
        ci95: (n, 2) 95 % intervals, or None.
        flags: Flag → (n,) bool, where it is raised.
        scatter: (n,) scatter of the shape, or None.
    """

    step: np.ndarray
    value: np.ndarray
    ci95: np.ndarray | None = None
    flags: Mapping[str, np.ndarray] = field(default_factory=dict)
    scatter: np.ndarray | None = None

    @property
    def flagged(self) -> np.ndarray:
        """(n,) bool: some flag is raised."""
        none = np.zeros(len(self.step), bool)
        return np.logical_or.reduce([none, *self.flags.values()])


def positive(curve: Curve) -> Curve:
    """The points that a log axis can show: finite values at step 1 and later."""
    kept = (curve.step >= 1) & np.isfinite(curve.value)
    interval = None if curve.ci95 is None else curve.ci95[kept]
    flags = {name: raised[kept] for name, raised in curve.flags.items()}
    return Curve(curve.step[kept], curve.value[kept], interval, flags)


def draw(
    ax: Axes, curves: Sequence[tuple[Curve, str, str, str]], lines: Sequence[np.ndarray] = ()
) -> None:
    """Draws curves with colour, label, marker and flags; the limits contain the lines too."""
    for curve, colour, label, marker in curves:
        _band(ax, curve, colour, label, marker)
    whiskers = [
        c.value + side * Z95 * c.scatter
        for c, *_ in curves
        if c.scatter is not None
        for side in (-1, 1)
    ]
    drawn = [curve for curve, *_ in curves]
    over_curves(ax, drawn, [*lines, *whiskers])
    for curve in drawn:
        mark_flags(ax, curve)


def _band(ax: Axes, curve: Curve, colour: str, label: str, marker: str) -> None:
    """Draws a curve with its 95 % band.

    If there are many points, only some have whiskers, and no line joins them.
    """
    many = len(curve.step) > MANY
    look = {"ms": 1.4, "lw": 0.0} if many else {"ms": 2.4, "lw": 1.0}
    ax.plot(curve.step, curve.value, marker=marker, color=colour, mew=0, label=label, **look)
    if curve.ci95 is not None:
        ax.fill_between(curve.step, *curve.ci95.T, color=colour, alpha=0.2, lw=0)
    if curve.scatter is not None:
        some = slice(None, None, 1 + len(curve.step) // MANY)
        whisker = Z95 * curve.scatter[some]
        bars = {"ecolor": colour, "elinewidth": 0.6, "alpha": 0.8}
        ax.errorbar(curve.step[some], curve.value[some], whisker, fmt="none", **bars)


def over_curves(ax: Axes, curves: Sequence[Curve], values: Sequence[np.ndarray] = ()) -> None:
    """Sets limits that contain the curves and the values; far flagged points lie outside."""
    trusted = [~curve.flagged for curve in curves]
    if not any(kept.any() for kept in trusted):
        trusted = [np.full(len(curve.step), True) for curve in curves]
    pairs = list(zip(curves, trusted, strict=True))
    bands = [c.ci95[kept] for c, kept in pairs if c.ci95 is not None]
    flagged = [c.value[~kept] for c, kept in pairs]
    axes.over_values(ax, [*(c.value[kept] for c, kept in pairs), *values], bands, flagged)


def mark_flags(ax: Axes, curve: Curve) -> None:
    """Draws a red mark at each flagged point, in the shape of its flag.

    A point outside the limits, which are set before, has its marks at the edge and its value
    beside them.
    """
    low, high = ax.get_ylim()
    shown = np.clip(curve.value, low, high)
    for flag, at in curve.flags.items():
        if at.any():
            ax.plot(curve.step[at], shown[at], **style.flag_look(flag))
    for i in np.flatnonzero(curve.flagged & (shown != curve.value)):
        below = curve.value[i] < low
        look = {"textcoords": "offset points", "va": "bottom" if below else "top", "fontsize": 7}
        value = axes.number(float(f"{curve.value[i]:.3g}"))
        ax.annotate(value, (curve.step[i], shown[i]), (6, 2 if below else -2), **look)


def raised(curves: Iterable[Curve]) -> list[str]:
    """The flags that are raised somewhere, each once."""
    return list(dict.fromkeys(f for curve in curves for f, at in curve.flags.items() if at.any()))


def flag_title(flag: str) -> str:
    """The name of a flag, as printed."""
    return flag.replace("_", " ")


def flag_handle(flag: str) -> Line2D:
    """The legend handle of a flag."""
    return Line2D([], [], **style.flag_look(flag))
