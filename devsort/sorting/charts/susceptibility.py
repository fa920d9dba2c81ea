"""Susceptibility chart: what each component responds to, over training.

Each checkpoint is scaled by its largest |χ|, because levels change a hundredfold over training.
"""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from devsort.charts.style import DIVERGING, WIDTH, look
from devsort.sorting.charts.ownership import step_edges

if TYPE_CHECKING:
    import xarray as xr

LABELS = {"number": "number", "position": "position", "gap_class": "gap class"}


@look()
def plot(found: "xr.Dataset") -> Figure:
    """Part × step, a column for each component and a row for each kind of part."""
    names = found.component.values.tolist()
    figure = Figure(figsize=(WIDTH, 5.2), layout="constrained")
    ratios = (3, 1.2, 0.9)
    grid = figure.subplots(
        len(LABELS), len(names), sharex=True, height_ratios=ratios, squeeze=False, sharey="row"
    )
    for row, axis in zip(grid, LABELS, strict=True):
        for ax, name in zip(row, names, strict=True):
            drawn = _map(ax, found, axis, name)
        row[0].set_ylabel(LABELS[axis])
    for ax, name in zip(grid[0], names, strict=True):
        ax.set_title(f"component {name}")
    for ax in grid[-1]:
        ax.set_xlabel("training step")
    bar = figure.colorbar(drawn, ax=grid, shrink=0.5)
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
    ax.set_xscale("log")
    return ax.pcolormesh(
        step_edges(found.checkpoint.values),
        edges,
        relative(chi).T,
        cmap=DIVERGING,
        vmin=-1,
        vmax=1,
        rasterized=True,
    )
