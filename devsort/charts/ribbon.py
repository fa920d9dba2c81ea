"""Stages as a ribbon: names above, boundaries with intervals, events below their stage."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.text import Text

from devsort.charts import style
from devsort.stages.naming import title

# by direction of the LLC; light in print, and no colour of a head or a run
TINT = {"rising": "#e8e1f2", "falling": "#e0ebdc", "flat": "#efefef"}
EDGE = {"rising": "#5d4590", "falling": "#3f6b33", "flat": "#666666"}
ARROW = {"rising": "↗", "falling": "↘", "flat": "→"}
BOUNDARY = "#555555"
RIBBON = (0.0, 1.0)  # y of the ribbon; names above, events below
LINE = 0.95  # y of a line of text
GAP = 6  # pixels between names on one line


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
    """The legend handle of a weak boundary."""
    return Line2D([], [], lw=0.7, **_look({"strength": "weak"}))


def _look(boundary: Mapping[str, Any]) -> dict[str, Any]:
    weak = boundary.get("strength") == "weak"
    return {"color": BOUNDARY, "ls": (0, (4, 3)) if weak else "-"}


def draw(ax: Axes, stages: Mapping[str, Any]) -> float:
    """Draws the ribbon on an axis that already has its limits in x.

    Returns its height in lines of text.
    """
    ax.axis("off")
    ax.figure.draw_without_rendering()  # so that text has a size
    for stage in stages["stages"]:
        ax.fill_between([stage["from"], stage["to"]], *RIBBON, color=TINT[stage["llc"]], lw=0)
    for number, stage in enumerate(stages["stages"], 1):
        look = {"color": EDGE[stage["llc"]], "ha": "center", "va": "center", "weight": "bold"}
        ax.text(_middle(ax, stage), 0.55, f"{number}{ARROW[stage['llc']]}", fontsize=7, **look)
    for boundary in stages["boundaries"]:
        ax.plot(boundary["ci95"], [0.12, 0.12], color=BOUNDARY, lw=1.2, solid_capstyle="butt")
        ax.plot([boundary["step"]] * 2, RIBBON, lw=1.0, **_look(boundary))
    _events(ax, stages)
    low = -LINE * (len(stages["events"]) + 0.3)
    high = RIBBON[1] + LINE * (_names(ax, stages["stages"]) + 0.3)
    ax.set_ylim(low, high)
    return high - low


def labels(ax: Axes, stages: list[Mapping[str, Any]], y: float) -> None:
    """Writes the title of each stage at height y between its ends.

    A long title takes two lines; if there is no room, only the arrow is written.
    """
    ax.figure.draw_without_rendering()
    for stage in stages:
        look = {"color": EDGE[stage["llc"]], "ha": "center", "va": "center_baseline"}
        low, high = ax.transData.transform([(stage["from"], 0), (stage["to"], 0)])[:, 0]
        arrow = ARROW[stage["llc"]]
        one = f"{title(stage)} {arrow}"
        for words in (one, one.replace(" ", "\n", 1), arrow):
            text = ax.text(_middle(ax, stage), y, words, fontsize=7, linespacing=1.0, **look)
            if text.get_window_extent().width <= high - low or words == arrow:
                break
            text.remove()


def _middle(ax: Axes, stage: Mapping[str, Any]) -> float:
    """The step halfway on the axis between the ends of a stage."""
    scale = ax.xaxis.get_transform()
    ends = scale.transform(np.array([stage["from"], stage["to"]]))
    return float(scale.inverted().transform(ends.mean()))


def _names(ax: Axes, stages: list[Mapping[str, Any]]) -> int:
    """Writes names over the ribbon: above a stage that is wide enough, else on a flagpole.

    Flags fly to the right, and each pole is higher than the poles its flag flies over, so that no
    pole crosses a name. Returns the number of lines.
    """
    taken: list[tuple[float, int]] = []  # left end and line of the names to the right
    for stage in reversed(stages):
        look = {"va": "bottom", "fontsize": 7, "color": EDGE[stage["llc"]]}
        text = ax.text(_middle(ax, stage), 0, title(stage), ha="center", **look)
        low, high = ax.transData.transform([(stage["from"], 0), (stage["to"], 0)])[:, 0]
        line = 0
        if text.get_window_extent().width > high - low:
            line = _raise_flag(ax, text, taken)
        taken.append((text.get_window_extent().x0, line))
        text.set_y(RIBBON[1] + 0.12 + LINE * line)
    return 1 + max(line for _, line in taken)


def _raise_flag(ax: Axes, text: Text, taken: list[tuple[float, int]]) -> int:
    """Puts a name on a pole at its stage; returns its line."""
    pole = text.get_position()[0]
    text.set_ha("left")
    _keep_inside(ax, text)
    end = text.get_window_extent().x1 + GAP
    line = 1 + max((other for start, other in taken if start < end), default=0)
    ax.plot([pole] * 2, [RIBBON[1], RIBBON[1] + 0.1 + LINE * line], color=text.get_color(), lw=0.5)
    return line


def _keep_inside(ax: Axes, text: Text) -> None:
    """Moves a text that crosses the left or right edge of the axis back inside."""
    box, frame = text.get_window_extent(), ax.get_window_extent()
    shift = max(frame.x0 - box.x0, 0) - max(box.x1 - frame.x1, 0)
    if shift:
        text.set_x(ax.transData.inverted().transform((box.x0 + shift, 0))[0])


def _events(ax: Axes, stages: Mapping[str, Any]) -> None:
    """Draws each event on its own line: interval, marker, and a stem to its stage."""
    low, high = ax.get_xlim()
    for row, event in enumerate(sorted(stages["events"], key=lambda e: e["step"])):
        y, colour = -LINE * (row + 0.7), EDGE[stages["stages"][event["stage_index"]]["llc"]]
        ci = np.clip(event["ci95"] or [event["step"]] * 2, low, high)
        ax.plot([event["step"]] * 2, [y, 0.0], color=colour, lw=0.7)
        ax.plot(ci, [y, y], color=colour, lw=1.4, solid_capstyle="butt")
        ax.plot(event["step"], y, "D", ms=3.2, color=colour, mew=0)
        words = f"{event_title(event['event'])} (stage {event['stage_index'] + 1})"
        look = {
            "fontsize": 7,
            "color": style.INK,
            "va": "center",
            "textcoords": "offset points",
            "annotation_clip": False,
        }
        text = ax.annotate(words, (ci[0], y), (-5, 0), ha="right", **look)
        if text.get_window_extent().x0 < ax.get_window_extent().x0:
            text.remove()
            ax.annotate(words, (ci[1], y), (5, 0), ha="left", **look)


def event_title(event: str) -> str:
    """The name of an event, as printed."""
    return event.replace("_", " ")
