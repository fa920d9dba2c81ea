"""One look for all figures.

Fonts, colours and how a figure is saved. The caller's own settings stay as they are.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from devsort.storage.files import write_atomic

# safe for colour-blind readers: seaborn's "colorblind"
PALETTE = [
    "#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc",
    "#ca9161", "#fbafe4", "#949494", "#ece133", "#56b4e9",
]  # fmt: skip
INK = "#333333"
FULL = INK  # the whole model; heads take `HEADS` in order
FLAG = PALETTE[3]  # red, for flags alone
HEADS = [colour for colour in PALETTE if colour != FLAG]
SCORES = {
    "vocabulary_splitting": (PALETTE[2], "-", "splitting"),
    "copy_suppression": (PALETTE[7], "-.", "suppression"),
    "overlap": (PALETTE[4], "--", "overlap"),
}  # colour, line and label of a head-mode score in every figure
DIVERGING = "RdBu_r"  # signed matrices: OV and QK
WIDTH = 7.0  # inches: a full text width
# what seaborn's theme sets for papers; seaborn itself takes seconds to import
THEME = {
    "axes.axisbelow": True,
    "axes.labelcolor": ".15",
    "grid.color": ".8",
    "legend.title_fontsize": 9.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 4.8,
    "lines.solid_capstyle": "round",
    "patch.edgecolor": "w",
    "patch.force_edgecolor": True,
    "patch.linewidth": 0.8,
    "text.color": ".15",
    "xtick.color": ".15",
    "xtick.major.size": 4.8,
    "xtick.major.width": 1.0,
    "xtick.minor.size": 3.2,
    "xtick.minor.width": 0.8,
    "ytick.color": ".15",
    "ytick.major.size": 4.8,
    "ytick.major.width": 1.0,
    "ytick.minor.size": 3.2,
    "ytick.minor.width": 0.8,
}
RC = {
    **THEME,
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
    "axes.prop_cycle": mpl.cycler(color=PALETTE),
    "figure.dpi": 150,
    "savefig.dpi": 200,
    "svg.fonttype": "none",
    "svg.hashsalt": "devsort",
}
CLIP_PATH = re.compile(rb"\bp[0-9a-f]{10}\b")  # the name of one in an SVG
BACKEND = ("backend", "backend_fallback", "interactive", "toolbar")  # of the caller's session


def head_colour(head: int) -> str:
    """The colour of a head in every figure."""
    return HEADS[head % len(HEADS)]


@contextmanager
def look() -> Iterator[None]:
    """Our look for what is drawn or saved within the block, then the caller's again.

    Figures are made with `Figure`, never with pyplot, so that no backend is chosen either.
    """
    defaults = {k: v for k, v in mpl.rcParamsDefault.items() if k not in BACKEND}
    with mpl.rc_context(defaults):
        mpl.rcParams.update(RC)
        yield


@look()
def save_figure(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Saves PNG and SVG side by side and returns both paths; the same figure is the same bytes."""
    paths = [folder / f"{name}.{kind}" for kind in ("png", "svg")]
    for path in paths:
        data, metadata = io.BytesIO(), {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(data, format=path.suffix[1:], bbox_inches="tight", metadata=metadata)
        write_atomic(path, _numbered(data.getvalue()) if metadata else data.getvalue())
    return paths


def _numbered(svg: bytes) -> bytes:
    """An SVG with its clip paths numbered.

    Matplotlib names them by a hash of all digits of a rectangle, and the last digits of a layout
    are left to chance by its solver.
    """
    names: dict[bytes, bytes] = {}
    return CLIP_PATH.sub(lambda found: names.setdefault(found[0], b"clip%d" % len(names)), svg)
