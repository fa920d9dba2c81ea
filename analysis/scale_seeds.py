"""How much of the absolute LLC's development is the scale of the weights, over seeds?

python analysis/scale_seeds.py runs/paper

The networks are pairs of a sweep, decay-seedN and no-decay-seedN, which differ only in weight
decay. Each pair is measured as in analysis/scale_share.py, for the whole model at three steps; the
reference is the network with decay at the first step. The script prints the share of scale in each
feature, with the sampling error of each pair, and the mean over pairs with its 95 % interval
(Student's t).
"""

import argparse
import json
from pathlib import Path

import numpy as np
from geometry_tools import ABSOLUTE, with_sampler
from scale_share import RUNS, Rows, at_scales_of, measured, save, shares
from scipy.stats import t

from devsort.sorting.checkpoints import load_checkpoint, trained_steps
from devsort.sorting.run import open_run

GROUPS = ("decay", "no-decay")
STEPS = (91, 825, 6000)  # the nearest checkpoints of each network


def measure(folder: Path, seed: int) -> tuple[Rows, tuple[int, int, int]]:
    """The estimates of a pair, with the names of scale_share.py, and the steps."""
    runs = dict(zip(RUNS, (open_run(folder / f"{g}-seed{seed}") for g in GROUPS), strict=True))
    there = trained_steps(runs[RUNS[0]])
    steps = tuple(min(there, key=lambda s: abs(np.log(s / wanted))) for wanted in STEPS)
    rows, reference = {}, load_checkpoint(runs[RUNS[0]], steps[0])
    for (name, run), chosen in zip(runs.items(), (steps, steps[-1:]), strict=True):
        weights = {s: load_checkpoint(run, s) for s in chosen}
        moved = {s: at_scales_of(p, reference) for s, p in weights.items() if s != steps[0]}
        for kind, params in (("absolute", weights), ("rescaled", moved)):
            found = measured(with_sampler(run, **ABSOLUTE), params, "full")
            rows |= {f"{kind} {name} {s} full": row for s, row in found.items()}
    return rows, steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of the sweep, as runs/paper")
    text = "file for the estimates; those that it already has are not measured again"
    parser.add_argument(
        "--json", type=Path, default=Path("analysis/results/scale_seeds.json"), help=text
    )
    arguments = parser.parse_args()
    pairs = json.loads(arguments.json.read_text()) if arguments.json.exists() else {}
    seeds = sorted(int(p.name.split("seed")[1]) for p in arguments.folder.glob("no-decay-seed*"))
    for seed in (s for s in seeds if str(s) not in pairs):
        rows, steps = measure(arguments.folder, seed)
        pairs[str(seed)] = {"rows": rows, "shares": shares(rows, "full", steps)}
        save(arguments.json, pairs)
        for name, (value, se) in pairs[str(seed)]["shares"].items():
            print(f"seed {seed}  {name:30} {value:6.1%} ± {se:.1%}", flush=True)
    table = [list(pair["shares"].items()) for pair in pairs.values()]
    for column in zip(*table, strict=True):
        values = np.array([value for _, (value, _) in column])
        half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
        print(
            f"{len(values)} pairs  {column[0][0]:30} {values.mean():6.1%} ± {half:.1%}  "
            f"({values.min():.1%}–{values.max():.1%})"
        )


if __name__ == "__main__":
    main()
