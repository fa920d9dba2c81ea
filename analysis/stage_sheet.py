"""A sheet with all networks of a study, their boundaries and names of stages, to look at.

    python analysis/stage_sheet.py analysis/results/claims-trajectories.csv --group decay

Each panel shows one network: its LLC with the fitted line, its boundaries (dashed if weak), and the
number and first letters of each stage's name. One line per network is printed: its stages with the
probabilities of their names; for a stage without a name, what the rule of the nearest name lacked.
"""

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from devsort.charts import ribbon, style
from devsort.charts.axes import over_steps, over_values
from devsort.sorting.config import HeadsConfig
from devsort.stages import Trajectory, detect
from devsort.stages.naming import UNNAMED, Scores
from devsort.stages.report import as_json

SCORES = {
    "vocabulary_splitting": "split_score",
    "copy_suppression": "suppression_score",
    "overlap": "overlap_score",
}
COLUMNS = 4


def trajectories(points: pd.DataFrame) -> Iterator[tuple[str, Trajectory, Scores]]:
    """Name, trajectory and scores of each network of a table of sampled checkpoints."""
    for name, rows in points.groupby("cell", sort=False):
        rows = rows[np.isfinite(rows.llc) & (rows.step >= 1)].sort_values("step")
        columns = (rows[c].to_numpy(float) for c in ("step", "llc", "se", "loss"))
        trajectory = Trajectory(*columns, flagged=rows.flagged.to_numpy(bool))
        values = {score: rows[column].to_numpy(float) for score, column in SCORES.items()}
        yield name, trajectory, Scores(trajectory.x, values, HeadsConfig().overlap)


def panel(ax: Axes, name: str, t: Trajectory, stages: dict[str, Any]) -> None:
    ribbon.shade(ax, stages)
    ax.errorbar(t.step, t.llc, 1.96 * t.se, fmt=".", ms=3, lw=0.6, color=style.INK)
    line = np.array(stages["line"])
    ax.plot(*line.T, color=style.PALETTE[1], lw=1.0)
    over_values(ax, [t.llc, line[:, 1]], [])
    over_steps(ax, "log", t.step[0], t.step[-1])
    top = ax.get_ylim()[1]
    for stage in stages["stages"]:
        letters = "".join(word[0] for word in stage["name"].split()) if named(stage) else "?"
        middle = np.sqrt(stage["from"] * stage["to"])
        ax.text(middle, top, letters, ha="center", va="top", fontsize=7)
    ax.set_title(name)


def named(stage: dict[str, Any]) -> bool:
    return stage["name"] != UNNAMED


def describe(stage: dict[str, Any]) -> str:
    """A stage in words: its steps, direction, name and probability, or what a name lacked."""
    span = f"{stage['from']:.3g}–{stage['to']:.3g} {stage['llc']}"
    if named(stage):
        return f"{span} {stage['name']} ({stage['probability']:.2f})"
    lacks = [rule["rule"] for rule in stage["evidence"] if not rule["holds"]]
    return f"{span} unnamed (no {stage['evidence'][0]['of']}: not {' and not '.join(lacks)})"


@style.look()
def sheet(points: pd.DataFrame) -> tuple[Figure, list[str], Counter]:
    """The figure, a line of text per network, and how often each sequence of names occurs."""
    cells = list(trajectories(points))
    rows = -(-len(cells) // COLUMNS)
    figure = Figure(figsize=(11, 1.5 * rows), layout="constrained")
    axes = np.atleast_2d(figure.subplots(rows, COLUMNS)).ravel()
    lines, sequences = [], Counter()
    for ax, (name, trajectory, scores) in zip(axes, cells, strict=False):
        stages = as_json(detect(trajectory), scores)
        panel(ax, name, trajectory, stages)
        lines.append(f"{name}: {'; '.join(map(describe, stages['stages']))}")
        names = [s["name"] for s in stages["stages"] if named(s)]
        sequences[" → ".join(dict.fromkeys(names)) or "none"] += 1
    return figure, lines, sequences


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("points", type=Path, help="claims-trajectories.csv of a study")
    parser.add_argument("--group", help="networks of one group; all if left out")
    parser.add_argument("--out", type=Path, default=Path("sheets"), help="folder of the figure")
    options = parser.parse_args()
    points = pd.read_csv(options.points)
    if options.group:
        points = points[points.group == options.group]
    figure, lines, sequences = sheet(points)
    print("\n".join(lines))
    for sequence, count in sequences.most_common():
        print(f"{count:3} {sequence}")
    print(*style.save_figure(figure, options.out, f"sheet-{options.group or 'all'}"), sep="\n")


if __name__ == "__main__":
    main()
