r"""The effect of the mean gap: what lists with smaller or larger gaps do to the heads.

python analysis/mean_gap.py runs/baseline --from 287 \
    --json analysis/results/mean-gap.json --out docs/figures

At a checkpoint, draws of the whole model predict (nβ χ) how the observables of `devsort pattern`
respond to lists that are tilted towards smaller or larger mean gaps, and to random tilts of the
same size. Training then continues on such lists, with the same seeds. The change relative to lists
without a tilt is measured, for these observables and for the scores of `devsort heads`.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from devsort.charts.style import INK, PALETTE, WIDTH, look, save_figure
from devsort.execution import progress
from devsort.rng import stream
from devsort.sorting.checkpoints import load_checkpoint
from devsort.sorting.heads import modes
from devsort.sorting.heads.measures import measure
from devsort.sorting.heads.tables import group_sums, tables
from devsort.sorting.model import model_shape
from devsort.sorting.patterning.lists import WeightedLists
from devsort.sorting.patterning.observables import OBSERVABLES, observe
from devsort.sorting.patterning.response import content, response_at
from devsort.sorting.patterning.retrain import retrain
from devsort.sorting.run import open_run
from devsort.sorting.susceptibility.probe import Probe
from devsort.sorting.task import eval_batch
from devsort.storage.objects import write_json

MEASURED = (*OBSERVABLES, *modes.SCORES)
GAPS = ("smaller", "larger")
LISTS = 512  # for the scores of the heads
MANY = 4096  # lists whose mean gap is told


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--from", dest="start", type=int, required=True)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--random", type=int, default=4, help="random tilts")
    parser.add_argument("--size", type=float, default=0.5)
    parser.add_argument("--bound", type=float, default=3.0)
    parser.add_argument("--set", action="append", default=["llc.sampler.num_draws=600"])
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="folder of the figure")
    args = parser.parse_args()
    kept = json.loads(args.json.read_text()) if args.json.exists() else {}
    name = f"{args.run.name} {args.start}"
    if name not in kept:
        kept[name] = measured(open_run(args.run, tuple(args.set)), args)
        write_json(args.json, kept)
    for key, found in kept.items():
        print(key, table(found), sep="\n")
    if args.out:
        print(*save_figure(figure(kept), args.out, "mean-gap"), sep="\n")


def measured(run, args):
    """Predicted and measured changes of each tilt, by name."""
    probe, params = Probe(run.config), load_checkpoint(run, args.start)
    tilts = {
        name: WeightedLists(run.config.task, h, probe.edges, args.size, args.bound)
        for name, h in shifts(run, probe, args.random).items()
    }
    weights = np.stack([lists.weights(content(probe)) for lists in tilts.values()])
    response, n_beta = response_at(run, params, probe, weights), run.config.llc.sampler.n_beta
    plain = WeightedLists(
        run.config.task, 0 * tilts["smaller"].tilt.slope, probe.edges, args.size, args.bound
    )
    jobs = [(seed, name) for seed in range(args.seeds) for name in (None, *tilts)]
    ends = {
        job: seen(run, retrain(run, params, tilts.get(job[1], plain), job[0], args.steps))
        for job in progress(jobs, desc="mean gap", unit="training")
    }
    start = seen(run, params)
    changes = [
        {name: (ends[s, name] - ends[s, None]).tolist() for name in tilts}
        for s in range(args.seeds)
    ]
    return {
        "steps": args.steps,
        "gaps": {name: gap_of(run, lists) for name, lists in {"none": plain, **tilts}.items()},
        "predicted": dict(zip(tilts, (n_beta * response.value.T[:, :-1]).tolist(), strict=True)),
        "predicted_se": dict(zip(tilts, (n_beta * response.se.T[:, :-1]).tolist(), strict=True)),
        "without": [(ends[s, None] - start).tolist() for s in range(args.seeds)],
        "changes": changes,
    }


def shifts(run, probe, count):
    """Name → shift h of numbers and classes of gaps: by gap alone, and at random."""
    numbers, classes = run.config.task.numbers, len(probe.edges) - 1
    narrow = np.concatenate([np.zeros(numbers), (classes - 1) / 2 - np.arange(classes)])
    by_chance = {
        f"random {i}": stream(i, "pattern-random").normal(size=len(narrow)) for i in range(count)
    }
    return {"smaller": narrow, "larger": -narrow, **by_chance}


def seen(run, params):
    """All of MEASURED of a network."""
    shape = model_shape(run.config.task, run.config.model)
    counts, sums = group_sums(
        measure(params, shape, eval_batch(run.config.task, LISTS)), shape.numbers
    )
    scores = modes.scores(tables(counts, sums), run.config.heads)
    return np.concatenate([observe(params, shape).double().numpy(), scores])


def gap_of(run, lists):
    """The mean gap of the lists that are shown."""
    shown = lists.batch(0, 0, MANY).tokens[:, : run.config.task.list_length].numpy()
    return float((shown.max(1) - shown.min(1)).mean() / (shown.shape[1] - 1))


def table(found):
    """Changes relative to training without a tilt, predicted in equilibrium and measured."""
    lines = [f"{'tilt':10}{'gap':>6}" + "".join(f"{name:>34}" for name in MEASURED)]
    for name in found["predicted"]:
        change = np.array([row[name] for row in found["changes"]])
        cells = [cell(found, name, change[:, i], i) for i in range(len(MEASURED))]
        lines.append(f"{name:10}{found['gaps'][name]:6.2f}" + "".join(f"{c:>44}" for c in cells))
    without = np.array(found["without"]).mean(0)
    lines.append(
        f"{'none':10}{found['gaps']['none']:6.2f}" + "".join(f"{w:>44.4f}" for w in without)
    )
    return "\n".join(lines)


def cell(found, name, change, i):
    mean, se = change.mean(), change.std(ddof=1) / np.sqrt(len(change))
    told = f"{mean:+.4f} ± {se:.4f}, {(change > 0).sum()} up"
    if i >= len(OBSERVABLES):
        return told
    return f"({found['predicted'][name][i]:+.3f} ± {found['predicted_se'][name][i]:.3f}) {told}"


@look()
def figure(kept):
    """Measured against predicted change: one row per checkpoint, one column per observable."""
    figure = Figure(figsize=(WIDTH, 2.4 * len(kept)), layout="constrained")
    grid = figure.subplots(len(kept), len(OBSERVABLES), squeeze=False)
    for axes, (key, found) in zip(grid, kept.items(), strict=True):
        for i, (ax, name) in enumerate(zip(axes, OBSERVABLES, strict=True)):
            panel(ax, found, i)
            ax.set_title(f"{name}, {key}")
            ax.set_xlabel("predicted in equilibrium")
            ax.xaxis.set_major_locator(MaxNLocator(4))
        axes[0].set_ylabel(f"measured in {found['steps']} steps")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def panel(ax, found, i):
    ax.axhline(0, color=INK, lw=0.4)
    ax.axvline(0, color=INK, lw=0.4)
    kinds = {"smaller": "smaller gaps", "larger": "larger gaps", "random": "random"}
    for (kind, label), colour in zip(kinds.items(), PALETTE, strict=False):
        names = [name for name in found["predicted"] if name.split()[0] == kind]
        changes = [[row[name][i] for row in found["changes"]] for name in names]
        ax.errorbar(
            [found["predicted"][name][i] for name in names],
            np.mean(changes, 1),
            xerr=[found["predicted_se"][name][i] for name in names],
            yerr=np.std(changes, 1, ddof=1) / np.sqrt(len(changes[0])),
            fmt="o",
            color=colour,
            label=label,
        )


if __name__ == "__main__":
    main()
