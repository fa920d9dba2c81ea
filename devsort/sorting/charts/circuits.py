"""Circuits chart: OV and QK of each head, at one checkpoint per stage."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor

from devsort.charts.style import DIVERGING, INK, WIDTH, look
from devsort.sorting import circuits
from devsort.sorting.artifacts import STAGES
from devsort.sorting.checkpoints import load_checkpoint, trained_steps
from devsort.sorting.heads.measures import mean_scale
from devsort.sorting.model import Shape, model_shape
from devsort.sorting.run import Run
from devsort.sorting.task import Batch, eval_batch

MARGINS = 1.2  # inches beside the matrices
NARROWEST, TALLEST = 0.7, 1.8  # inches: smallest width and largest height of a matrix
LISTS = 256  # enough for the mean scale of the final layer norm
# percentile of the absolute entries at which the colours end: a few outliers do not wash out the
# rest
CLIP = 99.0


def of_run(run: Run, width: float = WIDTH) -> Figure:
    """The circuits at the end of each stage; without stages, at steps spread over training.

    Only some of these if `width` inches do not hold all.
    """
    steps, room = shown_steps(run), int((width - MARGINS) / NARROWEST)
    chosen = np.linspace(0, len(steps) - 1, min(room, len(steps))).round().astype(int)
    shown = [steps[i] for i in chosen]
    return plot(matrices(run, shown), [f"step {s}" for s in shown], width)


def shown_steps(run: Run, count: int = 4) -> list[int]:
    """The last saved step of each stage.

    Without stages, `count` steps that are spread over log step.
    """
    saved = np.array(trained_steps(run))
    if run.stages.is_file():
        wanted = [stage["to"] for stage in run.read(STAGES)["stages"]]
    else:
        wanted = np.geomspace(min(30, saved[-1]), saved[-1], count)
    return sorted({int(saved[np.abs(np.log(saved / max(w, 1))).argmin()]) for w in wanted})


def matrices(run: Run, steps: Sequence[int]) -> list[dict[str, np.ndarray]]:
    """OV in logits, (H, N, N), and QK in nats, (H, N + 1, N), of each step."""
    shape = model_shape(run.config.task, run.config.model)
    batch = eval_batch(run.config.task, LISTS)
    return [circuits_of(load_checkpoint(run, step), shape, batch) for step in steps]


def circuits_of(params: Mapping[str, Tensor], shape: Shape, batch: Batch) -> dict[str, np.ndarray]:
    """OV divided by the mean scale of the final layer norm on the batch, and QK."""
    with torch.inference_mode():
        ov = circuits.ov(params, shape) / mean_scale(params, shape, batch)
        return {"OV": ov.cpu().numpy(), "QK": circuits.qk(params, shape).cpu().numpy()}


@look()
def plot(
    columns: Sequence[Mapping[str, np.ndarray]], titles: Sequence[str], width: float = WIDTH
) -> Figure:
    """One column for each checkpoint.

    A row of OV for each head, then a row of QK for each. All OV share a colour scale, as do all QK.
    """
    heads = len(columns[0]["OV"])
    kinds = [(kind, head) for kind in ("OV", "QK") for head in range(heads)]
    height = min((width - MARGINS) / len(columns), TALLEST)
    figure = Figure(figsize=(width, height * len(kinds) + 0.5), layout="constrained")
    axes = figure.subplots(len(kinds), len(columns), squeeze=False, sharex=True)
    limits = {
        kind: np.percentile(np.abs(np.concatenate([c[kind] for c in columns])), CLIP)
        for kind in ("OV", "QK")
    }
    for row, (kind, head) in zip(axes, kinds, strict=True):
        for ax, column in zip(row, columns, strict=True):
            image = _matrix(ax, column[kind][head], limits[kind])
            ax.tick_params(labelleft=ax is row[0])
        row[0].set_ylabel(f"head {head} {kind}\n{'attended' if kind == 'OV' else 'current'}")
        if head == heads - 1:
            _bar(figure, image, axes[:heads] if kind == "OV" else axes[heads:], kind)
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title)
    for kind, below in (("OV", axes[heads - 1]), ("QK", axes[-1])):
        for ax in below:
            ax.tick_params(labelbottom=True)
        below[(len(below) - 1) // 2].set_xlabel(
            "number of the logit" if kind == "OV" else "number in the list"
        )
    return figure


def _bar(figure: Figure, image: AxesImage, axes: np.ndarray, kind: str) -> None:
    """The colours of all matrices of a kind."""
    bar = figure.colorbar(image, ax=axes, extend="both", fraction=0.05, aspect=20, pad=0.01)
    bar.set_label("logits" if kind == "OV" else "score (nats)")
    bar.outline.set_visible(False)


def _matrix(ax: Axes, matrix: np.ndarray, limit: float) -> AxesImage:
    image = ax.imshow(
        matrix,
        cmap=DIVERGING,
        vmin=-limit,
        vmax=limit,
        interpolation="nearest",
        aspect="auto",
        origin="lower",  # numbers run upwards in all figures
    )
    if len(matrix) > matrix.shape[1]:  # QK has a row for SEP
        ax.axhline(matrix.shape[1] - 0.5, color=INK, lw=0.4)
    ticks = np.arange(0, matrix.shape[1], _spacing(matrix.shape[1]))
    ax.set_xticks(ticks)
    sep = [matrix.shape[1]] if len(matrix) > matrix.shape[1] else []
    ax.set_yticks(
        [*ticks[: -1 if sep and matrix.shape[1] - ticks[-1] < ticks[1] / 2 else None], *sep]
    )
    if sep:
        ax.set_yticklabels([str(int(t)) for t in ax.get_yticks()[:-1]] + ["SEP"])
    return image


def _spacing(numbers: int) -> int:
    return next(step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500) if numbers / step <= 4)
