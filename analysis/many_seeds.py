"""Two figures and three tables over the seeds of a study.

LLC and scores over training, and the final scores of each variation. The tables have the spread of
the two main groups, the mean scores of each variation, and means over seeds along training.

python analysis/many_seeds.py analysis/results --out docs/figures

Reads claims-runs.csv and claims-trajectories.csv, which analysis/paper_table.py writes. Dotted
lines are the default thresholds of the labels.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from devsort.charts import style
from devsort.charts.axes import label, over_scores, over_steps
from devsort.sorting.config import HeadsConfig

MAIN = {"decay": "weight decay 0.005", "no-decay": "no weight decay"}
COLOURS = {"decay": style.PALETTE[0], "no-decay": style.PALETTE[1]}
SCORES = {
    "split_score": "split score",
    "overlap_score": "overlap score",
    "suppression_score": "suppression score",
}
ROWS = {"llc": "LLC", **SCORES}
# lowest score at which a label is given
LEVELS = {"split_score": HeadsConfig().split, "overlap_score": HeadsConfig().overlap}
CHANGED = {
    "heads": ("model.heads", "heads: {:.0f}"),
    "gap": ("task.mean_gap", "mean gap {:g}"),
    "noise": ("task.label_noise", "{:.0%} label noise"),
    "more-noise": ("task.label_noise", "{:.0%} label noise"),
    "length": ("task.list_length", "lists of {:.0f}"),
    "range": ("task.numbers", "{:.0f} numbers"),
}  # group → what its grid changes
NAMES = {
    "decay": "baseline, decay 0.005",
    "no-decay": "no decay",
    "no-norm": "no norm, decay 0.001",
    "weak-decay": "decay 0.001",
    "neither": "no norm, no decay",
    "challenge": "the challenge",
    "together": "heads kept equal",
    "together-no-decay": "heads equal, no decay",
    "weights": "other weights",
    "data": "other data",
}


STEPS = (274, 365, 649, 2000, 5000)  # of the third table, where a group was sampled there


def spread(runs: pd.DataFrame) -> str:
    """The two main groups: mean ± standard deviation, and the onset of splitting."""
    rows = ["| | networks | peak LLC | final LLC | split score | step of the split onset |"]
    rows += ["|---|---|---|---|---|---|"]
    for group, title in MAIN.items():
        own = runs[runs.group == group]
        figures = [
            f"{own[name].mean():.{n}f} ± {own[name].std():.{n}f}"
            for name, n in (("llc_peak", 0), ("llc_final", 0), ("split_score", 2))
        ]
        onset = own.split_onset.dropna()
        when = f"{onset.median():.0f} ({onset.min():.0f} to {onset.max():.0f})"
        when += f", in {len(onset)} of {len(own)}" if len(onset) < len(own) else ""
        rows.append(f"| {' | '.join([title, str(len(own)), *figures, when])} |")
    return "\n".join(rows)


def tables(runs: pd.DataFrame, points: pd.DataFrame) -> str:
    """Spread, mean scores by variation, and LLC and rank over training."""
    runs = runs[runs.error.isna()]
    variations = runs.assign(variation=[variation(run) for run in runs.to_dict("records")])
    scores = variations.groupby("variation", sort=False)[list(SCORES)].mean()
    sampled = points[points.llc.notna() & points.step.isin(STEPS)]
    means = sampled.groupby(["group", "step"], sort=False)[["llc", "residual_rank"]].mean()
    return "\n\n".join([spread(runs), scores.round(2).to_string(), means.round(0).to_string()])


@style.look()
def development(points: pd.DataFrame) -> Figure:
    """LLC and scores of every seed of the two main groups, with the median over seeds."""
    points = points[points.group.isin(MAIN)]
    figure = Figure(figsize=(style.WIDTH, 5.4), layout="constrained")
    axes = figure.subplots(len(ROWS), 2, sharex=True, height_ratios=[2, 1, 1, 1])
    for column, (group, title) in zip(axes.T, MAIN.items(), strict=True):
        part = points[points.group == group]
        column[0].set_title(f"{title}, {part.cell.nunique()} seeds")
        for ax, (name, words) in zip(column, ROWS.items(), strict=True):
            seeds(ax, part, name, COLOURS[group])
            ax.set_ylabel(words)
            if name in LEVELS:
                ax.axhline(LEVELS[name], color=style.INK, lw=0.8, ls=":")
            if name in SCORES:
                over_scores(ax)
            else:
                label(ax.yaxis, "linear", *ax.get_ylim())
        column[0].axhline(0, color="0.8", lw=0.6, zorder=0)
        column[-1].set_xlabel("training step")
        over_steps(column[-1], "log", points.step.min(), points.step.max())
    figure.align_ylabels(axes)
    return figure


def seeds(ax: Axes, points: pd.DataFrame, name: str, colour: str) -> None:
    """One line per seed, and their median."""
    table = points.pivot_table(index="step", columns="cell", values=name)
    ax.plot(table.index, table, color=colour, lw=0.5, alpha=0.5)
    ax.plot(table.index, table.median(axis=1), color=style.INK, lw=1.4)


def in_order(runs: pd.DataFrame) -> list[str]:
    """Names of the variations in the order of the study; those of one setting are together."""
    places: dict[str, int] = {}
    keys = {}
    for run in runs.to_dict("records"):
        setting, _ = CHANGED.get(run["group"], (run["group"], ""))
        place = places.setdefault(setting, len(places))
        keys.setdefault(variation(run), (place, run.get(setting, 0)))
    return sorted(keys, key=lambda name: keys[name])


@style.look()
def ends(runs: pd.DataFrame) -> Figure:
    """The three scores of every run at its end, one row per variation."""
    runs = runs.assign(variation=[variation(run) for run in runs.to_dict("records")])
    names = in_order(runs)
    figure = Figure(figsize=(style.WIDTH, 0.55 + 0.2 * len(names)), layout="constrained")
    axes = figure.subplots(1, len(SCORES), sharey=True)
    jitter = 0.22 * np.sin(2.4 * np.arange(len(runs)))  # so that dots of equal scores stay apart
    for ax, (score, words) in zip(axes, SCORES.items(), strict=True):
        row = runs.variation.map(names.index) + jitter
        ax.scatter(runs[score], row, s=9, color=style.INK, alpha=0.6, lw=0)
        if score in LEVELS:
            ax.axvline(LEVELS[score], color=style.INK, lw=0.8, ls=":")
        ax.set(xlabel=words, xlim=(-0.03, 1.03))
        ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        ax.hlines(np.arange(len(names)) + 0.5, *ax.get_xlim(), color="0.9", lw=0.6, zorder=0)
    counts = runs.variation.value_counts()
    axes[0].set_yticks(range(len(names)), [f"{name} ({counts[name]})" for name in names])
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    return figure


def variation(run: dict) -> str:
    """What is different about a run, in words."""
    key, form = CHANGED.get(run["group"], ("group", "{}"))
    return NAMES.get(run["group"], form.format(run[key]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", default=Path("analysis/results"))
    parser.add_argument("--out", type=Path, default=Path("docs/figures"))
    arguments = parser.parse_args()
    runs, points = (
        pd.read_csv(arguments.folder / f"claims-{name}.csv") for name in ("runs", "trajectories")
    )
    print(tables(runs, points))
    for figure, name in (
        (development(points), "seeds-llc"),
        (ends(runs[runs.error.isna()]), "seeds-modes"),
    ):
        print("\n".join(map(str, style.save_figure(figure, arguments.out, name))))


if __name__ == "__main__":
    main()
