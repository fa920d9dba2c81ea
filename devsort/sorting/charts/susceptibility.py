"""Susceptibility chart: what each component responds to, over training.

Each checkpoint is scaled by its largest |χ|, because levels change a hundredfold over training.
"""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from devsort.charts.axes import over_steps
from devsort.charts.style import DIVERGING, WIDTH, label_of, look
from devsort.sorting.charts.ownership import step_edges

if TYPE_CHECKING:
    import xarray as xr

LABELS = {"number": "number", "position": "position", "gap_class": "gap class"}


@look()
def plot(found: "xr.Dataset", width: float = WIDTH) -> Figure:
    """Part × step, a column for each component and a row for each kind of part."""
    names = found.component.values.tolist()
    figure = Figure(figsize=(width, 5.2), layout="constrained")
    ratios = (3, 1.2, 0.9)
    grid = figure.subplots(
        len(LABELS), len(names), sharex=True, height_ratios=ratios, squeeze=False, sharey="row"
    )
    edges = step_edges(found.checkpoint.values)
    over_steps(grid[-1, 0], "log", edges[0], edges[-1])
    for row, axis in zip(grid, LABELS, strict=True):
        for ax, name in zip(row, names, strict=True):
            drawn = _map(ax, found, axis, name)
        row[0].set_ylabel(LABELS[axis])
    for ax, name in zip(grid[0], names, strict=True):
        ax.set_title(label_of(name))
    figure.align_ylabels(grid[:, 0])
    figure.supxlabel("training step", fontsize=8)
    bar = figure.colorbar(drawn, ax=grid, location="top", aspect=40)
    bar.outline.set_visible(False)
    bar.set_label("χ / largest |χ| of the checkpoint")
    return figure


def relative(chi: np.ndarray) -> np.ndarray:
    """χ (checkpoint, parts) divided by the largest |χ| of each checkpoint; NaN stays."""
    with np.errstate(all="ignore"):
        known = np.where(np.isfinite(chi), np.abs(chi), 0)
        return chi / known.max(1, keepdims=True)


def _map(ax: Axes, found: "xr.Dataset", axis: str, name: str) -> QuadMesh:
    chi = found[f"chi_{axis}"].sel(component=name).transpose("checkpoint", axis).values
    edges = np.arange(found.sizes[axis] + 1) - 0.5
    return ax.pcolormesh(
        step_edges(found.checkpoint.values),
        edges,
        relative(chi).T,
        cmap=DIVERGING,
        vmin=-1,
        vmax=1,
        rasterized=True,
    )
