"""One look for all figures: fonts, colours and how a figure is saved."""

import io
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.figure import Figure

from devsort.files import write_atomic

PALETTE = sns.color_palette("colorblind").as_hex()  # safe for colour-blind readers, distinct in grey
INK = "#333333"
FULL = INK  # the whole model; heads take PALETTE in order
DIVERGING = "RdBu_r"  # signed matrices: OV and QK
WIDTH = 7.0  # inches: a full text width


def head_colour(head: int) -> str:
    """The colour of a head in every figure."""
    return PALETTE[head % len(PALETTE)]


def use_style() -> None:
    """Sets seaborn's paper look: small sans-serif type, thin light grid, no box."""
    sns.set_theme(context="paper", style="ticks", palette="colorblind", rc=RC)


RC = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same on every machine
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "axes.titlelocation": "left",
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.edgecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "figure.dpi": 150,
    "savefig.dpi": 200,
    "svg.fonttype": "none",
    "svg.hashsalt": "devsort",
}


def save_figure(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Saves PNG and SVG side by side, closes the figure, and returns both paths."""
    paths = [folder / f"{name}.{kind}" for kind in ("png", "svg")]
    for path in paths:
        data, metadata = io.BytesIO(), {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(data, format=path.suffix[1:], bbox_inches="tight", metadata=metadata)
        write_atomic(path, data.getvalue())
    plt.close(figure)
    return paths
