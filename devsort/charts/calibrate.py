"""Calibration charts: λ̂ and its flags over the grid, and the traces of the proposed settings."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from devsort.charts.axes import number
from devsort.charts.curves import flag_title
from devsort.charts.style import (
    BOTH,
    FULL,
    INK,
    PALETTE,
    WIDTH,
    WIDTHS,
    look,
    save_figure,
    with_error,
)
from devsort.sampling.trace import Trace

CLIMBS = (1e-3, 1.0)  # shares of the way to a uniform guess at which the colours begin and end
LETTER, LINE = 0.058, 0.125  # inches of a letter and of a line of text
PANEL = 1.1  # inches of a panel of traces, at least
SHORT = {
    "diverged": "div",
    "dead_chains": "dead",
    "negative": "neg",
    "not_converged": "conv",
    "starting_peak": "peak",
    "chance_level": "chance",
    "prior_dominated": "prior",
    "improper": "impr",
    "out_of_equilibrium": "equi",
}


def draw(
    value: dict,
    traces: dict[tuple[float, float, int], Trace],
    folder: Path,
    kinds: Sequence[str] = BOTH,
    width: float = WIDTH,
) -> list[Path]:
    """Draws both charts, `width` inches wide, into a folder and returns the files."""
    panels = save_figure(trace_panels(value, traces, width), folder, "calibration-traces", kinds)
    return save_figure(heat_map(value, width), folder, "calibration", kinds) + panels


@look()
def heat_map(value: dict, width: float = WIDTH) -> Figure:
    """Settings by checkpoints.

    Colour is how far the loss climbs to a uniform guess, on a log scale; text is λ̂ and its flags.
    """
    steps, trials = value["checkpoints"], value["trials"]
    settings = list(dict.fromkeys(map(_setting, trials)))
    cell = {(_setting(t), t["step"]): t for t in trials}
    names = _names(settings, ", " if width > WIDTHS["single"] else "\n")
    beside = LETTER * max(len(line) for name in names for line in name.split("\n")) + 0.2
    letters = int((width - beside) / len(steps) / LETTER)
    climb = np.array([[cell[s, step]["climb"] for step in steps] for s in settings], float)
    text = np.array([[_cell_text(cell[s, step], letters) for step in steps] for s in settings])
    tallest = max(entry.count("\n") + 1 for entry in [*names, *text.flat])
    height = (LINE * tallest + 0.1) * len(settings) + 1.3
    figure = Figure(figsize=(width, height), layout="constrained")
    axis = figure.subplots()
    _cells(axis, climb, text)
    proposed = value["proposal"]["settings"]
    axis.set_yticklabels(names, rotation=0)
    for label, setting in zip(axis.get_yticklabels(), settings, strict=True):
        label.set_weight("bold" if setting[:2] == _setting(proposed)[:2] else "normal")
    axis.set_xticklabels([number(s) for s in steps], rotation=0)
    axis.set_xlabel(fill(_key(trials), int((width - beside) / LETTER)))
    return figure


def _cells(axis: Axes, climb: np.ndarray, text: np.ndarray) -> None:
    """Draws a cell for each setting and checkpoint, and the bar of their colours above."""
    sns.heatmap(
        climb.clip(*CLIMBS),
        annot=text,
        fmt="",
        cmap=sns.light_palette(PALETTE[0], as_cmap=True),
        norm=LogNorm(*CLIMBS),
        linewidths=0.8,
        annot_kws={"size": 7},
        ax=axis,
        cbar_kws={
            "label": "share of the way to a uniform guess",
            "location": "top",
            "aspect": 40,
            "pad": 0.02,
            "format": FuncFormatter(lambda value, _: number(value)),
        },
    )


@look()
def trace_panels(
    value: dict, traces: dict[tuple[float, float, int], Trace], width: float = WIDTH
) -> Figure:
    """Chains of the proposed settings at every checkpoint tried."""
    chosen, steps = value["proposal"]["settings"], value["checkpoints"]
    columns = min(len(steps), int(width / PANEL))
    rows = -(-len(steps) // columns)
    figure = Figure(figsize=(width, 1.3 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True)
    for spare in panels.flat[len(steps) :]:
        spare.axis("off")
    for axis, step in zip(panels.flat, steps, strict=False):
        trace = traces[chosen["n_beta"], chosen["localization"], step]
        rise = np.concatenate([trace.burnin_rise, trace.rise], axis=1)
        axis.axvspan(0, trace.burnin_rise.shape[1], color="0.92", lw=0)
        axis.plot(rise.T, color=FULL, lw=0.5, alpha=0.6)
        axis.axhline(0, color=INK, lw=0.5)
        axis.set_title(f"step {number(step)}")
        axis.margins(x=0)
        axis.locator_params(nbins=3)
    figure.supylabel("L(w) − L(w*) (nats)", fontsize=8)
    figure.supxlabel("step of the chain (burn-in shaded)", fontsize=8)
    return figure


def _names(settings: Sequence[tuple[float, float, float]], between: str) -> list[str]:
    return [
        between.join((f"nβ {number(n)}", f"γ {g:g}", f"ε {_rounded(e)}")) for n, g, e in settings
    ]


def _rounded(value: float) -> str:
    return number(float(f"{value:.2g}"))


def _setting(trial: dict) -> tuple[float, float, float]:
    return trial["n_beta"], trial["localization"], trial["lr"]


def _cell_text(trial: dict, letters: int) -> str:
    """λ̂ with its error, and below it the flags, in lines of so many letters."""
    value, plus, error = with_error(trial["llc"], trial["se"]).partition(" ± ")
    estimate = fill(f"{value} ±\N{NO-BREAK SPACE}{error}" if plus else value, letters)
    flags = fill(" ".join(SHORT.get(f, f) for f in trial["flags"]), letters)
    return f"{estimate}\n{flags}".rstrip()


def _key(trials: Sequence[dict]) -> str:
    """What is written in the cells, and the names of the flags that are raised."""
    raised = {flag for trial in trials for flag in trial["flags"]}
    words = [f"{short}: {flag_title(flag)}" for flag, short in SHORT.items() if flag in raised]
    below = [f"below λ̂ its flags ({', '.join(words)})"] if words else []
    return "; ".join(["training step", "proposed settings in bold", *below])
