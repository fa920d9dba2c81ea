"""Chains at an early, a middle and a late checkpoint.

They show whether a chain stays local and whether it has reached a plateau.
"""

from textwrap import fill

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from devsort.charts.axes import number
from devsort.charts.curves import flag_title
from devsort.charts.style import INK, WIDTH, colour_of, label_of, look, with_error

SMOOTH = 10  # draws of the running mean over the raw draws
RISE = "L(w) − L(w*) (nats)"
MARGIN, LETTER = 0.9, 0.058  # inches left of the panels, and of a letter of a title
PANEL, LINE = 1.34, 0.13  # inches of a panel, and of a line of its title


@look()
def figure(llc: xr.Dataset, chance_loss: float | None = None, width: float = WIDTH) -> Figure:
    """Traces of every restriction at three checkpoints.

    Args:
        llc: Draws and table of a trajectory.
        chance_loss: Loss of a uniform guess in nats, drawn if it fits; None: no line.
        width: In inches.
    """
    steps = chosen(llc["checkpoint"].values)
    names = [str(n) for n in llc["restriction"].values]
    fig = Figure(layout="constrained")
    axes = fig.subplots(len(names), len(steps), sharex=True, sharey="row", squeeze=False)
    letters, lines = int((width - MARGIN) / len(steps) / LETTER), 0
    for row, name in zip(axes, names, strict=True):
        for axis, step in zip(row, steps, strict=True):
            cell = llc.sel(checkpoint=step, restriction=name)
            chains(axis, cell, colour_of(name))
            axis.set_title(_note(cell, letters), fontsize=7)
        lines += max(axis.get_title("left").count("\n") + 1 for axis in row)
        row[0].set_ylabel(f"{label_of(name)}\n{RISE}")
    fig.set_size_inches(width, PANEL * len(names) + LINE * lines + 0.6)
    fig.supxlabel("step of the chain", fontsize=8)
    axes[0, 0].legend(loc="best", handlelength=1.2)
    if "full" in names and chance_loss is not None:
        _mark_chance(axes[names.index("full")], llc, steps, chance_loss)
    fig.align_ylabels()
    return fig


def chosen(checkpoints: np.ndarray, count: int = 3) -> list[int]:
    """Checkpoints at 30 %, 65 % and 100 % of the trajectory."""
    positions = np.linspace(0.3, 1, count) * (len(checkpoints) - 1)
    return sorted({int(checkpoints[round(p)]) for p in positions})


def chains(axis: Axes, cell: xr.Dataset, colour: str) -> None:
    """Draws L(w) − L(w*) along each chain of one cell, pale, and its running mean over it.

    Burn-in is shaded.
    """
    burnin = (cell["burnin_loss"] - cell["burnin_init_loss"]).values  # (C, burn-in)
    rise = np.concatenate([burnin, (cell["loss"] - cell["init_loss"]).values], axis=1)
    x = times(cell)
    axis.axvspan(0, burnin.shape[1], color="0.92", lw=0, label="burn-in")
    axis.axhline(0, color="0.6", lw=0.6)
    window = min(SMOOTH, len(x))
    for i, chain in enumerate(rise):
        axis.plot(x, chain, color=colour, alpha=0.15, lw=0.4)
        smooth = np.convolve(chain, np.full(window, 1 / window), mode="valid")
        axis.plot(
            x[window - 1 :],
            smooth,
            color=colour,
            alpha=0.8,
            lw=0.8,
            label="chains" if i == 0 else None,
        )
    axis.margins(x=0)


def times(cell: xr.Dataset) -> np.ndarray:
    """Steps from the start of the burn-in that is stored, of each of its steps and of each draw."""
    burnin, draws = (np.arange(cell.sizes[axis]) for axis in ("burnin", "draw"))
    every = int(cell["steps_bw_draws"]) if "steps_bw_draws" in cell else 1
    return np.concatenate([burnin, len(burnin) + every * draws])


def _note(cell: xr.Dataset, letters: int) -> str:
    """Step, estimate and flags, above the chains, in lines of so many letters."""
    flags = [str(f) for f in cell["flag"].values[cell["flags"].values.astype(bool)]]
    value = float(cell["llc"])
    estimate = with_error(value, float(cell["se"])) if np.isfinite(value) else "withheld"
    warning = [fill(f"! {', '.join(map(flag_title, flags))}", letters)] if flags else []
    return "\n".join([f"step {number(int(cell['checkpoint']))}", f"λ̂ {estimate}", *warning])


def _mark_chance(row: np.ndarray, data: xr.Dataset, steps: list[int], chance: float) -> None:
    """Draws a dashed line at the level of a uniform guess, if it fits the panel."""
    top = row[0].get_ylim()[1]
    for axis, step in zip(row, steps, strict=True):
        level = chance - float(data["checkpoint_loss"].sel(checkpoint=step))
        if 0 < level < 1.5 * top:
            axis.axhline(level, color=INK, lw=0.8, ls=(0, (4, 3)))
            axis.text(
                0.98,
                level,
                "uniform guess ",
                transform=axis.get_yaxis_transform(),
                ha="right",
                va="bottom",
                fontsize=7,
                color=INK,
            )
