"""Calibration charts: λ̂ and its flags over the grid, and the traces of the proposed settings."""

from pathlib import Path

import numpy as np
import seaborn as sns
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from devsort.charts.style import FULL, INK, PALETTE, WIDTH, look, save_figure, with_error
from devsort.sampling.trace import Trace

CLIMBS = (1e-3, 1.0)  # shares of the way to a uniform guess at which the colours begin and end


def draw(value: dict, traces: dict[tuple[float, float, int], Trace], folder: Path) -> list[Path]:
    """Draws both charts into a folder and returns the files."""
    panels = save_figure(trace_panels(value, traces), folder, "calibration-traces")
    return save_figure(heat_map(value), folder, "calibration") + panels


@look()
def heat_map(value: dict) -> Figure:
    """Settings by checkpoints.

    Colour is how far the loss climbs to a uniform guess, on a log scale; text is λ̂ and its flags.
    """
    steps, trials = value["checkpoints"], value["trials"]
    settings = list(dict.fromkeys((t["n_beta"], t["localization"], t["lr"]) for t in trials))
    cell = {((t["n_beta"], t["localization"], t["lr"]), t["step"]): t for t in trials}
    climb = np.array([[cell[s, step]["climb"] for step in steps] for s in settings], float)
    text = np.array([[_cell_text(cell[s, step]) for step in steps] for s in settings])
    figure = Figure(figsize=(WIDTH, 0.4 * len(settings) + 0.8))
    axis = figure.subplots()
    bar = {"label": "share of the way to a uniform guess"}
    sns.heatmap(
        climb.clip(*CLIMBS),
        annot=text,
        fmt="",
        cmap=sns.light_palette(PALETTE[0], as_cmap=True),
        norm=LogNorm(*CLIMBS),
        linewidths=0.8,
        annot_kws={"size": 7},
        ax=axis,
        cbar_kws=bar,
    )
    chosen = value["proposal"]["settings"]
    names = [f"nβ {n:g}, γ {g:g}, ε {e:.1e}" for n, g, e in settings]
    axis.set_yticklabels(names, rotation=0)
    for label, (n, g, _) in zip(axis.get_yticklabels(), settings, strict=True):
        label.set_weight(
            "bold" if (n, g) == (chosen["n_beta"], chosen["localization"]) else "normal"
        )
    axis.set_xticklabels([f"{s:,}" for s in steps], rotation=0)
    axis.set_xlabel("training step (proposed settings in bold; flags below each λ̂)")
    figure.tight_layout()
    return figure


@look()
def trace_panels(value: dict, traces: dict[tuple[float, float, int], Trace]) -> Figure:
    """Chains of the proposed settings at every checkpoint tried."""
    chosen, steps = value["proposal"]["settings"], value["checkpoints"]
    figure = Figure(figsize=(WIDTH, 1.7))
    axes = figure.subplots(1, len(steps), squeeze=False)
    for axis, step in zip(axes[0], steps, strict=True):
        trace = traces[chosen["n_beta"], chosen["localization"], step]
        rise = np.concatenate([trace.burnin_rise, trace.rise], axis=1)
        axis.axvspan(0, trace.burnin_rise.shape[1], color="0.92", lw=0)
        axis.plot(rise.T, color=FULL, lw=0.5, alpha=0.6)
        axis.axhline(0, color=INK, lw=0.5)
        axis.set_title(f"step {step:,}")
        axis.margins(x=0)
        axis.locator_params(axis="x", nbins=3)
    axes[0, 0].set_ylabel("L(w) − L(w*) (nats)")
    figure.supxlabel("step of the chain (burn-in shaded)", fontsize=8)
    figure.tight_layout()
    return figure


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


def _cell_text(trial: dict) -> str:
    flags = " ".join(SHORT.get(f, f) for f in trial["flags"])
    return f"{with_error(trial['llc'], trial['se'])}\n{flags}".rstrip()
