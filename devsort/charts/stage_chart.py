"""The stage chart: stages and events above, curves below.

The curves are loss, LLC, LLC of each head and head-mode scores over log step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from devsort.charts import axes, curves, ribbon, style
from devsort.charts.curves import Z95, Curve, positive
from devsort.stages.trajectory import Trajectory

if TYPE_CHECKING:
    import xarray as xr

FLAGGED = "flagged"  # in a table that does not name the flag
LINE = "#8a8a8a"  # of the fit; no head has this colour
LINE_HEIGHT = 0.155  # inches of a line of the ribbon
NARROW = 14  # characters of a label that fit a low panel
HEIGHT = {"ribbon": 1.0, "loss": 0.95, "llc": 1.5, "heads": 1.2, "scores": 0.95}  # inches


@dataclass(frozen=True)
class Story:
    """Everything that a stage chart shows.

    Attributes:
        stages: The JSON object of `devsort stages`.
        llc: LLC of the whole model.
        loss: Loss, or None.
        heads: LLC of each head, or of another part of the weights, by its label.
        scores: Head-mode scores by name.
        signals: Other measures by name, each with a panel of its own.
        scale: Scale of the step axis.
        loss_unit: Unit of the loss, or what it measures; empty: none.
    """

    stages: Mapping[str, Any]
    llc: Curve
    loss: Curve | None = None
    heads: dict[str, Curve] = field(default_factory=dict)
    scores: dict[str, Curve] = field(default_factory=dict)
    signals: dict[str, Curve] = field(default_factory=dict)
    scale: axes.Scale = "log"
    loss_unit: str = "nats"


def from_datasets(
    stages: Mapping[str, Any], llc: "xr.Dataset", heads: "xr.Dataset", loss: Curve | None
) -> Story:
    """The story of a run from its tables.

    Without a training log, the loss at the checkpoints is shown.
    """
    restrictions = [str(r) for r in llc.restriction.values]
    per_head = {
        style.label_of(r): llc_curve(llc, r)
        for r in restrictions
        if r[0] == "h" and r[1:].isdigit()
    }
    step = heads.checkpoint.values.astype(float)
    scores = {
        str(n): positive(Curve(step, heads.scores.sel(score=n).values)) for n in heads.score.values
    }
    loss = loss or positive(Curve(llc.checkpoint.values.astype(float), llc.checkpoint_loss.values))
    whole = _with_scatter(llc_curve(llc, "full"), stages)
    return Story(stages, whole, loss, per_head, scores)


def of_trajectory(
    trajectory: Trajectory, stages: Mapping[str, Any], scale: axes.Scale = "log"
) -> Story:
    """The story of a trajectory from anywhere.

    Its band is ± 1.96 reported standard errors, its whiskers ± 1.96 times the scatter of the shape.
    """
    t = trajectory
    loss = positive(Curve(t.step, t.loss)) if t.loss is not None and (t.loss > 0).any() else None
    known = np.isfinite(t.se).all()
    ends = np.stack([t.llc - Z95 * t.se, t.llc + Z95 * t.se], 1) if known else None
    llc = Curve(t.step, t.llc, ends, {} if t.flagged is None else {FLAGGED: t.flagged})
    return Story(stages, _with_scatter(llc, stages), loss, scale=scale)


def _with_scatter(curve: Curve, stages: Mapping[str, Any]) -> Curve:
    """The curve with the scatter of its points about the line, by step, where it was inferred."""
    pairs = stages.get("noise", {}).get("scatter_at", [])
    known = dict(map(tuple, pairs))
    scatter = np.array([known.get(float(step), np.nan) for step in curve.step])
    return replace(curve, scatter=scatter if np.isfinite(scatter).any() else None)


def llc_curve(llc: "xr.Dataset", restriction: str) -> Curve:
    """The LLC of one restriction."""
    one = llc.sel(restriction=restriction)
    interval = one.ci95.transpose("checkpoint", "bound").values
    raised = one.flags.transpose("flag", "checkpoint").values
    flags = {str(n): row for n, row in zip(llc.flag.values, raised, strict=True) if row.any()}
    step = llc.checkpoint.values.astype(float)
    return positive(Curve(step, one.llc.values, interval, flags))


@style.look()
def figure(story: Story, width: float = style.WIDTH) -> Figure:
    """The finished figure, `width` inches wide; panels without data are left out."""
    panels = ["ribbon", *(["loss"] if story.loss else []), "llc"]
    panels += (["heads"] if story.heads else []) + (["scores"] if story.scores else [])
    panels += list(story.signals)
    heights = [HEIGHT.get(p, HEIGHT["scores"]) for p in panels]
    fig = Figure(figsize=(width, sum(heights)), layout="constrained")
    fig.get_layout_engine().set(hspace=0.02, h_pad=0.03)
    column = fig.subplots(len(panels), sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    axes.over_steps(column[-1], story.scale, *window(story))
    column[-1].set_xlabel("training step")
    for name, ax in zip(panels[1:], column[1:], strict=True):
        ribbon.shade(ax, story.stages)
        PANELS.get(name, partial(_signal, name))(ax, story)
    fig.align_ylabels(list(column))
    heights[0] = LINE_HEIGHT * ribbon.draw(column[0], story.stages)
    column[0].get_gridspec().set_height_ratios(heights)
    fig.set_size_inches(width, sum(heights) + 0.5)
    return fig


def window(story: Story) -> tuple[float, float]:
    """First and last step of the stages and of the LLC."""
    stages, step = story.stages["stages"], story.llc.step
    return min(stages[0]["from"], step[0]), max(stages[-1]["to"], step[-1])


def _loss(ax: Axes, story: Story) -> None:
    ax.plot(story.loss.step, story.loss.value, color=style.FULL, lw=1.1)
    axes.over_loss(ax, story.loss.value)
    ax.set_ylabel(f"loss ({story.loss_unit})" if story.loss_unit else "loss")


def _llc(ax: Axes, story: Story) -> None:
    lines = [_line(story.stages["line"])] if story.stages.get("line") else []
    curve = (story.llc, style.FULL, "whole model" if story.heads else "LLC", "o")
    curves.draw(ax, [curve], [value for _, value in lines])
    for line in lines:
        ax.plot(*line, color=LINE, lw=1.0, zorder=2.5, label="fitted line")
    handles, labels = ax.get_legend_handles_labels()
    for flag in curves.raised([story.llc]):
        handles, labels = [*handles, curves.flag_handle(flag)], [*labels, curves.flag_title(flag)]
    if any(b.get("strength") == "weak" for b in story.stages["boundaries"]):
        handles, labels = [*handles, ribbon.weak_handle()], [*labels, "weak boundary"]
    ax.legend(handles, labels, loc="best", ncols=2)
    ax.set_ylabel("LLC")


def _line(corners: Sequence[Sequence[float]]) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of the fitted line, which is straight over log step, on any axis."""
    step, value = np.array(corners).T
    share = np.linspace(0, len(step) - 1, 100 * (len(step) - 1) + 1)
    corner = np.arange(len(step))
    return 10 ** np.interp(share, corner, np.log10(step)), np.interp(share, corner, value)


def _heads(ax: Axes, story: Story) -> None:
    heads = enumerate(story.heads.items())
    marks = "os^Dv<>p"
    curves.draw(ax, [(c, style.head_colour(i), label, marks[i % 8]) for i, (label, c) in heads])
    handles, labels = ax.get_legend_handles_labels()
    for flag in curves.raised(story.heads.values()):
        handles, labels = [*handles, curves.flag_handle(flag)], [*labels, curves.flag_title(flag)]
    ax.legend(handles, labels, loc="best", ncols=2)
    heads = all(label.startswith("head ") for label in story.heads)
    ax.set_ylabel("head LLC" if heads else "LLC of parts")


def _scores(ax: Axes, story: Story) -> None:
    for name, curve in story.scores.items():
        other = (style.PALETTE[5], ":", name.replace("_", " "))
        colour, line, label = style.SCORES.get(name, other)
        ax.plot(curve.step, curve.value, line, color=colour, lw=1.4, label=label)
    axes.over_scores(ax)
    ax.legend(loc="best")
    ax.set_ylabel("head-mode score")


def _signal(name: str, ax: Axes, story: Story) -> None:
    ax.plot(story.signals[name].step, story.signals[name].value, color=style.PALETTE[0], lw=1.2)
    ax.set_ylabel(fill(name, NARROW))


PANELS = {"loss": _loss, "llc": _llc, "heads": _heads, "scores": _scores}
