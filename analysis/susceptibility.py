"""Which head owns which number: by susceptibility and by ablation, over training.

python analysis/susceptibility.py runs/baseline runs/no-decay --out docs/figures

A head serves a number t if χ_h(t) < 0. Per checkpoint it prints, over numbers, the rank correlation
with the difference of the heads' loss increases by mean ablation: of χ_1 − χ_0 (rank), and of the
ratio of the variances of the number's loss over the draws of either head (rank_variance); the share
of the variance of either that is not error (signal, signal_variance); the rank correlation of the
ratio with the heads' shares of the loss increases (rank_share); in how many numbers ratio and
difference name the same owner (same_owner), their rank correlation among an owner's numbers
(within), and over all numbers if that order were random (order_free); the rank correlation of the
variances and of ablation with their own last checkpoint (end_by_…); and the split score by χ and by
ablation."""

import argparse
import json
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from owner_order import order_free, rank, within

from devsort.charts.axes import over_steps
from devsort.charts.style import DIVERGING, INK, PALETTE, SCORES, WIDTH, look, save_figure
from devsort.sorting.artifacts import HEADS, SUSCEPTIBILITY
from devsort.sorting.charts.ownership import step_edges
from devsort.sorting.heads import modes, ranges
from devsort.sorting.heads.step import stored_events
from devsort.sorting.run import open_run


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("docs/figures"))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    results = {path.name: measure(open_run(path)) for path in args.runs}
    for name, value in results.items():
        print(table(name, value))
    print(*save_figure(figure(results), args.out, "susceptibility"), sep="\n")
    if args.json:
        rows = {name: value["rows"] for name, value in results.items()}
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


def measure(run):
    """Rows by checkpoint, the contrast of the heads by both measures, and the events."""
    chi, heads = run.read(SUSCEPTIBILITY), run.read(HEADS)
    steps = chi.checkpoint.values
    heads_at = heads.sel(checkpoint=steps)
    increase = heads_at.loss_increase.transpose("checkpoint", "head", "number").values
    own, own_error = (
        chi[f"variance_number{suffix}"].sel(component=["h0", "h1"]).values for suffix in ("", "_se")
    )
    value = chi.chi_number.sel(component=["h0", "h1"]).values  # (checkpoint, 2, N)
    error = chi.chi_number_se.sel(component=["h0", "h1"]).values
    rows = [
        row(int(step), *arrays, run.config.heads)
        for step, *arrays in zip(steps, value, error, own, increase, strict=True)
    ]
    for i, line in enumerate(rows):
        line["rhat"] = float(np.nanmax(chi.chi_number_rhat.values[i]))
        line["ablation_split"] = float(heads_at.scores.sel(score="vocabulary_splitting")[i])
    contrasts = {
        "by_chi": value[:, 1] - value[:, 0],
        "by_variance": np.log(own[:, 0] / own[:, 1]),
        "by_ablation": increase[:, 0] - increase[:, 1],
    }
    noise = ((own_error / own) ** 2).sum(1).mean(1) / contrasts["by_variance"].var(1)
    for i, line in enumerate(rows):
        line["signal_variance"] = float(1 - noise[i])
        for key in ("by_variance", "by_ablation"):
            line[f"end_{key}"] = rank(contrasts[key][i], contrasts[key][-1])
    return {
        "rows": rows,
        "steps": steps,
        **contrasts,
        "principal": principal(value),
        "events": stored_events(heads),
    }


def row(step, value, error, own, increase, config):
    """The columns of one checkpoint; `value`, `error`, `own` and `increase` are (2, N)."""
    apart, other = value[1] - value[0], increase[0] - increase[1]
    noise = (error**2).sum(0).mean() / apart.var()
    share, ratio = shares(value, error), np.log(own[0] / own[1])
    needed = ranges.shares({"loss_increase": increase}, config)
    return {
        "step": step,
        "rank": rank(apart, other),
        "rank_variance": rank(ratio, other),
        "rank_share": rank(ratio, needed[0] - needed[1]),
        "within": within(ratio, other),
        "order_free": order_free(ratio, other),
        "rank_h0": rank(-value[0], increase[0]),
        "rank_h1": rank(-value[1], increase[1]),
        "signal": float(1 - noise),
        "same_owner": float(np.mean((ratio > 0) == (other > 0))),
        "chi_split": float(modes.split_score(share, config)),
    }


def shares(value, error):
    """Each head's share in serving a number, as `ranges.shares` gives it for the need."""
    serves, doubt = np.maximum(-value, 0), error.mean()
    return (serves + doubt / 2) / (serves.sum(0) + doubt)


def principal(value):
    """Scores (checkpoint, 2) and share of variance of the first directions of the scaled χ."""
    flat = value.reshape(len(value), -1)
    scaled = flat / np.abs(flat).max(1, keepdims=True)
    centred = scaled - scaled.mean(0)
    left, size, _ = np.linalg.svd(centred, full_matrices=False)
    return left[:, :2] * size[:2], size[:2] ** 2 / (size**2).sum()


KEYS = (
    "rank",
    "signal",
    "rank_variance",
    "signal_variance",
    "rank_share",
    "same_owner",
    "within",
    "order_free",
    "end_by_variance",
    "end_by_ablation",
    "chi_split",
    "ablation_split",
)


def table(name, value):
    lines = [f"{name:>10}" + "".join(f"{key:>17}" for key in (*KEYS, "rhat"))]
    for row in value["rows"]:
        numbers = "".join(f"{row[key]:17.2f}" for key in (*KEYS, "rhat"))
        lines.append(f"{row['step']:10d}{numbers}")
    events = ", ".join(f"{e['event']} {e['step']} {e['ci95']}" for e in value["events"])
    shares_ = " and ".join(f"{s:.0%}" for s in value["principal"][1])
    return "\n".join([*lines, f"events: {events}", f"first directions hold {shares_}"])


@look()
def figure(results):
    figure = Figure(figsize=(WIDTH, 8.5), layout="constrained")
    grid = figure.subplots(5, len(results), sharex=True, height_ratios=HEIGHTS, squeeze=False)
    edges = np.concatenate([step_edges(value["steps"]) for value in results.values()])
    over_steps(grid[-1, 0], "log", edges.min(), edges.max())
    for column, (name, value) in zip(grid.T, results.items(), strict=True):
        contrast(column[0], value, "by_chi")
        contrast(column[1], value, "by_variance")
        drawn = contrast(column[2], value, "by_ablation")
        agreement(column[3], value)
        directions(column[4], value)
        column[0].set_title(name)
        column[4].set_xlabel("training step")
    for ax, label in zip(grid[:, 0], LABELS, strict=True):
        ax.set_ylabel(label)
    figure.align_ylabels(grid[:, 0])
    bar = figure.colorbar(drawn, ax=grid[:3], aspect=40, ticks=[-1, 0, 1])
    bar.set_ticklabels(["head 1\nowns", "neither", "head 0\nowns"])
    bar.outline.set_visible(False)
    grid[3, 0].set_title(" ")  # room for the legend, which is as wide as both columns
    above = {"loc": "lower left", "bbox_to_anchor": (0, 1.0), "borderaxespad": 0}
    grid[3, 0].legend(ncols=4, frameon=False, **above).set_in_layout(False)
    return figure


LABELS = (
    "number, by χ",
    "number, by variance",
    "number, by ablation",
    "agreement",
    "principal\ndirections",
)
HEIGHTS = (1.7, 1.7, 1.7, 1.4, 1.4)
LINES = (INK, PALETTE[7])  # no heads


def contrast(ax, value, key):
    apart = value[key]
    scaled = apart / np.abs(apart).max(1, keepdims=True)
    edges = np.arange(apart.shape[1] + 1) - 0.5
    return ax.pcolormesh(
        step_edges(value["steps"]),
        edges,
        scaled.T,
        cmap=DIVERGING,
        vmin=-1,
        vmax=1,
        rasterized=True,
    )


def agreement(ax, value):
    steps = value["steps"]
    curves = {
        "rank": ("-o", PALETTE[9], "rank correlation, χ"),
        "rank_variance": ("-s", PALETTE[5], "rank correlation, variance"),
        "chi_split": (":", SCORES["vocabulary_splitting"][0], "split by χ"),
        "ablation_split": ("-", SCORES["vocabulary_splitting"][0], "split by ablation"),
    }
    for key, (line, colour, label) in curves.items():
        ax.plot(steps, [r[key] for r in value["rows"]], line, ms=3, color=colour, label=label)
    ax.set_ylim(-0.3, 1.05)
    ax.axhline(0, color=INK, lw=0.4)
    mark_events(ax, value)


def directions(ax, value):
    scores, share = value["principal"]
    for i, line in enumerate(("-o", "--")):
        ax.plot(value["steps"], scores[:, i], line, ms=3, color=LINES[i])
    one, two = (f"{s:.0%}" for s in share)
    ax.set_title(f"first (solid) {one}, second (dashed) {two} of the variance", fontsize=7)
    mark_events(ax, value)


def mark_events(ax, value):
    """Lines at the events of heads.zarr."""
    for event in value["events"]:
        ax.axvline(event["step"], color=INK, lw=0.6, ls=":")


if __name__ == "__main__":
    main()
