"""Runs over each other: loss, LLC and split score over log step, and a ribbon of stages each."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from devsort.charts import ribbon, style
from devsort.charts.axes import over_loss, over_scores, over_steps
from devsort.charts.curves import flag_handle, flag_title, mark_flags, over_curves, raised
from devsort.charts.stage_chart import Story, window

ROW = 0.36  # inches of a ribbon: two lines of a name
LINES = ("-", "--", "-.", ":")
RUN_COLOURS = (0, 1, 2, 4, 5, 7, 8, 9)  # of the palette; its red marks flags


@style.look()
def figure(stories: Mapping[str, Story], width: float = style.WIDTH) -> Figure:
    """The overlay of named runs, `width` inches wide."""
    strips = ROW * len(stories) + 0.1
    fig = Figure(figsize=(width, 4.6 + strips), layout="constrained")
    axes = fig.subplots(4, sharex=True, height_ratios=[strips, 1.2, 1.9, 1.1])
    first, last = zip(*map(window, stories.values()), strict=True)
    over_steps(axes[-1], "log", min(first), max(last))
    _ribbons(axes[0], stories)
    for i, (name, story) in enumerate(stories.items()):
        look = {
            "color": style.PALETTE[RUN_COLOURS[i % len(RUN_COLOURS)]],
            "ls": LINES[i % len(LINES)],
            "label": name,
        }
        _curves(axes[1:], story, look)
    for ax, label in zip(axes[1:], ("loss (nats)", "LLC", "split score"), strict=True):
        ax.set_ylabel(label)
    if losses := [s.loss.value for s in stories.values() if s.loss]:
        over_loss(axes[1], np.concatenate(losses))
    llcs = [s.llc for s in stories.values()]
    over_curves(axes[2], llcs)
    for llc in llcs:
        mark_flags(axes[2], llc)
    _legend(axes[2], stories)
    over_scores(axes[3])
    axes[3].set_xlabel("training step")
    fig.align_ylabels(list(axes[1:]))
    return fig


def _curves(axes: Sequence[Axes], story: Story, look: Mapping[str, Any]) -> None:
    if story.loss:
        axes[0].plot(story.loss.step, story.loss.value, lw=1.2, **look)
    llc = story.llc
    axes[1].plot(llc.step, llc.value, lw=1.2, **look)
    axes[1].fill_between(llc.step, *llc.ci95.T, color=look["color"], alpha=0.25, lw=0)
    split = story.scores.get("vocabulary_splitting")
    if split:
        axes[2].plot(split.step, split.value, lw=1.2, **look)


def _legend(ax: Axes, stories: Mapping[str, Story]) -> None:
    """The runs, and which flag each mark stands for."""
    handles, labels = ax.get_legend_handles_labels()
    for flag in raised(story.llc for story in stories.values()):
        handles, labels = [*handles, flag_handle(flag)], [*labels, flag_title(flag)]
    ax.legend(handles, labels, loc="best")


def _ribbons(ax: Axes, stories: Mapping[str, Story]) -> None:
    """One ribbon a run: stages by the direction of their LLC, boundaries with intervals."""
    ax.spines[:].set_visible(False)
    ax.tick_params(axis="x", which="both", length=0)
    ax.tick_params(axis="y", length=0)
    ax.set_yticks(range(len(stories)), list(stories), fontsize=7)
    ax.set_ylim(len(stories) - 0.5, -0.5)
    for row, story in enumerate(stories.values()):
        for stage in story.stages["stages"]:
            tint = ribbon.TINT[stage["llc"]]
            ax.fill_between([stage["from"], stage["to"]], row - 0.36, row + 0.36, color=tint, lw=0)
        for boundary in story.stages["boundaries"]:
            ax.plot(
                boundary["ci95"],
                [row + 0.3] * 2,
                color=ribbon.BOUNDARY,
                lw=1.2,
                solid_capstyle="butt",
            )
            ax.plot([boundary["step"]] * 2, [row - 0.36, row + 0.36], color=ribbon.BOUNDARY, lw=1.0)
        ribbon.labels(ax, story.stages["stages"], row - 0.04)
