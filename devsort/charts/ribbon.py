"""Stages as a ribbon.

Names stand above, boundaries have their intervals, events hang from the stage they belong to.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.text import Text

from devsort.charts import style
from devsort.stages.naming import title

# by direction of the LLC; light in print
TINT = {"rising": "#fbe9d0", "falling": "#d5e6f3", "flat": "#ececec"}
EDGE = {"rising": "#b8700a", "falling": "#0b5c8f", "flat": "#666666"}
BOUNDARY = "#555555"
RIBBON = (0.0, 1.0)  # y of the ribbon; names above, events below
LINE = 0.95  # y of a line of text
LABEL_SHARE = 0.3  # of the axis that a label of an event takes on its left
MOST_LINES = 4  # of names


def shade(ax: Axes, stages: Mapping[str, Any]) -> None:
    """Tints the stages, and draws each boundary as a line with a bar for its 95 % interval.

    The line of a weak boundary is dashed.
    """
    for stage in stages["stages"]:
        ax.axvspan(stage["from"], stage["to"], color=TINT[stage["llc"]], lw=0, zorder=0)
    for boundary in stages["boundaries"]:
        ax.axvspan(*boundary["ci95"], color=BOUNDARY, alpha=0.18, lw=0, zorder=0.5)
        ax.axvline(boundary["step"], lw=0.7, zorder=0.6, **_look(boundary))


def weak_handle() -> Line2D:
    """What stands for a weak boundary in a legend."""
    return Line2D([], [], lw=0.7, **_look({"strength": "weak"}))


def _look(boundary: Mapping[str, Any]) -> dict[str, Any]:
    weak = boundary.get("strength") == "weak"
    return {"color": BOUNDARY, "ls": (0, (4, 3)) if weak else "-"}


def draw(ax: Axes, stages: Mapping[str, Any]) -> float:
    """Draws the ribbon on an axis that already has its limits in x.

    Returns its height in lines of text.
    """
    ax.axis("off")
    for stage in stages["stages"]:
        ax.fill_between([stage["from"], stage["to"]], *RIBBON, color=TINT[stage["llc"]], lw=0)
    for number, stage in enumerate(stages["stages"], 1):
        look = {"color": EDGE[stage["llc"]], "ha": "center", "va": "center", "weight": "bold"}
        ax.text(_middle(ax, stage), 0.55, str(number), fontsize=7, **look)
    for boundary in stages["boundaries"]:
        ax.plot(boundary["ci95"], [0.12, 0.12], color=BOUNDARY, lw=1.2, solid_capstyle="butt")
        ax.plot([boundary["step"]] * 2, RIBBON, lw=1.0, **_look(boundary))
    _events(ax, stages)
    low = -LINE * (len(stages["events"]) + 0.3)
    high = RIBBON[1] + LINE * (_names(ax, stages["stages"]) + 0.3)
    ax.set_ylim(low, high)
    return high - low


def labels(ax: Axes, stages: list[Mapping[str, Any]], y: float) -> None:
    """Writes the title of each stage at height y between its ends; on two lines if one is long."""
    ax.figure.draw_without_rendering()
    for stage in stages:
        look = {"color": EDGE[stage["llc"]], "ha": "center", "va": "center_baseline"}
        low, high = ax.transData.transform([(stage["from"], 0), (stage["to"], 0)])[:, 0]
        for words, size in ((title(stage), 6.5), (title(stage).replace(" ", "\n", 1), 6)):
            text = ax.text(_middle(ax, stage), y, words, fontsize=size, linespacing=1.0, **look)
            if text.get_window_extent().width <= high - low:
                break
            text.remove()


def _middle(ax: Axes, stage: Mapping[str, Any]) -> float:
    """The step halfway on the axis between the ends of a stage."""
    scale = ax.xaxis.get_transform()
    ends = scale.transform(np.array([stage["from"], stage["to"]]))
    return float(scale.inverted().transform(ends.mean()))


def _names(ax: Axes, stages: list[Mapping[str, Any]]) -> int:
    """Names over the ribbon, lifted a line where they would touch another.

    Returns the number of lines.
    """
    ax.figure.draw_without_rendering()  # so that text has a size
    ends = [-np.inf] * MOST_LINES
    used = 1
    for stage in stages:
        colour, middle = EDGE[stage["llc"]], _middle(ax, stage)
        text = ax.text(middle, 0, title(stage), ha="center", va="bottom", fontsize=7, color=colour)
        _keep_inside(ax, text)
        box = text.get_window_extent()
        line = next((i for i, end in enumerate(ends) if box.x0 > end + 6), int(np.argmin(ends)))
        ends[line], used = box.x1, max(used, line + 1)
        text.set_y(RIBBON[1] + 0.12 + LINE * line)
        if line:
            stem = [RIBBON[1], RIBBON[1] + 0.1 + LINE * line]
            ax.plot([middle] * 2, stem, color=colour, lw=0.5)
    return used


def _keep_inside(ax: Axes, text: Text) -> None:
    """Moves a text that runs over the left or right edge of the axis back in."""
    box, frame = text.get_window_extent(), ax.get_window_extent()
    shift = max(frame.x0 - box.x0, 0) - max(box.x1 - frame.x1, 0)
    if shift:
        x = ax.transData.inverted().transform((box.x0 + box.width / 2 + shift, 0))[0]
        text.set_x(x)


def _events(ax: Axes, stages: Mapping[str, Any]) -> None:
    """Each event on a line of its own: interval, marker, and a stem to the stage it belongs to."""
    low, high = ax.get_xlim()
    for row, event in enumerate(sorted(stages["events"], key=lambda e: e["step"])):
        y, colour = -LINE * (row + 0.7), EDGE[stages["stages"][event["stage_index"]]["llc"]]
        ci = np.clip(event["ci95"] or [event["step"]] * 2, low, high)
        ax.plot([event["step"]] * 2, [y, 0.0], color=colour, lw=0.7)
        ax.plot(ci, [y, y], color=colour, lw=1.4, solid_capstyle="butt")
        ax.plot(event["step"], y, "D", ms=3.2, color=colour, mew=0)
        start, at, end = ax.xaxis.get_transform().transform(np.array([low, ci[0], high]))
        left = at - start > LABEL_SHARE * (end - start)
        text = f"{event_title(event['event'])} (stage {event['stage_index'] + 1})"
        look = {"fontsize": 7, "color": style.INK, "va": "center", "textcoords": "offset points"}
        if left:
            ax.annotate(text, (ci[0], y), (-5, 0), ha="right", **look)
        else:
            ax.annotate(text, (ci[1], y), (5, 0), ha="left", **look)


def event_title(event: str) -> str:
    """The name of an event in print."""
    return event.replace("_", " ")
