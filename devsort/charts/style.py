"""One look for all figures.

Fonts, colours and how a figure is saved. The caller's own settings stay as they are.
"""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from devsort.errors import UserError
from devsort.storage.files import write_atomic

# safe for colour-blind readers: seaborn's "colorblind"
PALETTE = [
    "#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc",
    "#ca9161", "#fbafe4", "#949494", "#ece133", "#56b4e9",
]  # fmt: skip
INK = "#333333"
MINUS = "\N{MINUS SIGN}"
FULL = INK  # the whole model; heads take `HEADS` in order
FLAG = PALETTE[3]  # red, for flags alone
FLAG_MARKERS = {
    "diverged": "^",
    "dead_chains": "*",
    "negative": "v",
    "not_converged": "x",
    "starting_peak": "p",
    "chance_level": "h",
    "prior_dominated": "s",
    "improper": "D",
    "out_of_equilibrium": "+",
}  # the shape says which flag
HEADS = [colour for colour in PALETTE if colour != FLAG]
SCORES = {
    "vocabulary_splitting": (PALETTE[2], "-", "split"),
    "copy_suppression": (PALETTE[7], "-.", "suppression"),
    "overlap": (PALETTE[4], "--", "overlap"),
}  # colour, line and label of a head-mode score in every figure
DIVERGING = "RdBu_r"  # signed matrices: OV and QK
WIDTHS = {"single": 3.4, "double": 7.0}  # inches: one column of a paper, or both
WIDTH = WIDTHS["double"]
KINDS = ("png", "svg", "pdf")
BOTH = ("png", "svg")  # the default
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
    "legend.handlelength": 2.2,  # a whole period of each line style
    "legend.columnspacing": 1.2,
    "legend.borderpad": 0.2,
    "legend.framealpha": 0.8,  # so that nothing strikes through a label
    "legend.edgecolor": "none",
    "legend.fancybox": False,
    "axes.edgecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "axes.prop_cycle": mpl.cycler(color=PALETTE),
    "figure.dpi": 150,
    "savefig.dpi": 200,
    "svg.fonttype": "none",
    "svg.hashsalt": "devsort",
    "pdf.fonttype": 42,  # fonts are embedded, and text stays text
}
UNDATED = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
CLIP_PATH = re.compile(rb"\bp[0-9a-f]{10}\b")  # the name of one in an SVG
BACKEND = ("backend", "backend_fallback", "interactive", "toolbar")  # of the caller's session


def head_colour(head: int) -> str:
    """The colour of a head in every figure."""
    return HEADS[head % len(HEADS)]


def flag_look(flag: str) -> dict[str, object]:
    """How a flag is drawn: red and hollow, in a shape of its own."""
    marker = FLAG_MARKERS.get(flag, "X")
    look = {"marker": marker, "ls": "", "ms": 5, "mew": 1.1, "color": FLAG, "mfc": "none"}
    return {**look, "clip_on": False, "in_layout": False}  # whole at the edge of a panel


def label_of(restriction: str) -> str:
    """The name of a restriction in print."""
    if restriction == "full":
        return "whole model"
    return f"head {int(restriction[1:])}" if is_head(restriction) else restriction


def colour_of(restriction: str) -> str:
    """The colour of a restriction that is drawn alone."""
    return head_colour(int(restriction[1:])) if is_head(restriction) else FULL


def is_head(restriction: str) -> bool:
    """Whether a restriction is one head: h0, h1, …"""
    return restriction[:1] == "h" and restriction[1:].isdigit()


def with_error(value: float, se: float) -> str:
    """A value and its standard error, to two digits of the error: 230.9 ± 2.3."""
    if not (np.isfinite(value) and np.isfinite(se) and se > 0):
        return f"{value:.3g}".replace("-", MINUS)
    digits = max(0, 1 - int(np.floor(np.log10(se))))
    return f"{value:.{digits}f} ± {se:.{digits}f}".replace("-", MINUS)


def kinds_of(text: str) -> tuple[str, ...]:
    """The kinds of files in a list such as `pdf,png`.

    Raises:
        UserError: One of them is unknown.
    """
    kinds = tuple(dict.fromkeys(word.strip().lower() for word in text.split(",")))
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise UserError(
            f"no figure is written as {unknown[0]!r}", f"give some of {', '.join(KINDS)}"
        )
    return kinds


@contextmanager
def look() -> Iterator[None]:
    """Applies our look within the block, then restores the caller's settings.

    Figures are made with `Figure`, never with pyplot, so no backend is chosen either.
    """
    defaults = {k: v for k, v in mpl.rcParamsDefault.items() if k not in BACKEND}
    with mpl.rc_context(defaults):
        mpl.rcParams.update(RC)
        yield


@look()
def save_figure(figure: Figure, folder: Path, name: str, kinds: Sequence[str] = BOTH) -> list[Path]:
    """Saves a figure in each of the kinds, at its own size; the same figure gives the same bytes.

    Returns:
        The paths.
    """
    paths = [folder / f"{name}.{kind}" for kind in kinds]
    for path in paths:
        data, kind = io.BytesIO(), path.suffix[1:]
        figure.savefig(data, format=kind, metadata=UNDATED.get(kind))
        write_atomic(path, _numbered(data.getvalue()) if kind == "svg" else data.getvalue())
    return paths


def _numbered(svg: bytes) -> bytes:
    """An SVG with its clip paths numbered.

    Matplotlib names them by a hash of all digits of a rectangle, and the layout's solver does not
    reproduce the last digits.
    """
    names: dict[bytes, bytes] = {}
    return CLIP_PATH.sub(lambda found: names.setdefault(found[0], b"clip%d" % len(names)), svg)
