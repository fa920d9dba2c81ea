"""Slow reference LLCs of trained sorters, and the checkpoints that they belong to.

python analysis/reference.py runs                              # all of them, about an hour
python analysis/reference.py runs --only baseline-6000-full-relative
python analysis/reference.py runs --hmc 180 --only baseline-6000-full-relative  # 40 minutes

Writes `trained.safetensors` and `trained.json` next to devsort/sorting/trained.py. Points that are
given are measured again; the others stay as they are. With `--hmc` a point is sampled by
Hamiltonian Monte Carlo on all lists, and stored beside the other result. Both methods have measured
step 6000 of both runs.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import load_file, save_file

import devsort
from devsort.execution import one_core, torch_threads
from devsort.sorting.checkpoints import load_checkpoint
from devsort.sorting.run import Run, open_run
from devsort.sorting.trained import HMC, LANGEVIN, MEASURED, WEIGHTS, Point, Posterior, weights
from devsort.validation.reference import extrapolated, hmc

STEPS = {"baseline": (29, 91, 383, 825, 6000), "no-decay": (91, 215, 825, 6000)}
HEADS = (("baseline", 6000, "h0"), ("baseline", 825, "h1"))
ABSOLUTE = (("baseline", 91), ("baseline", 825), ("baseline", 6000), ("no-decay", 6000))
SETTINGS = {
    "relative": {"n_beta": 1000.0, "localization": 6.66},
    "absolute": {"n_beta": 1000.0, "localization": 1000.0},
}
STEP = {"relative": 2e-3, "absolute": 6.5e-6}  # ε
BATCH, CHAINS = 128, 8
HMC_SETTINGS = {"lr": 3e-2, "steps": 4, "chains": 4}


def points() -> Iterator[Point]:
    """All points."""
    whole = [(run, step, "full") for run, steps in STEPS.items() for step in steps]
    for run, step, name in (*whole, *HEADS):
        yield Point(run, step, name, "relative", **SETTINGS["relative"])
    for run, step in ABSOLUTE:
        yield Point(run, step, "full", "absolute", **SETTINGS["absolute"])


def measure(point: Point, posterior: Posterior, steps: int, proposals: int) -> dict:
    """The row of a point, by either method."""
    start, command = time.process_time(), "python analysis/reference.py runs"
    if proposals:
        command += f" --hmc {proposals}"
        settings = HMC_SETTINGS | {"draws": proposals}
        result, accepted = hmc(posterior.target, posterior.all_lists, **settings)
        how = {"method": HMC, **settings, "accepted": accepted}
    else:
        how = {"lr": STEP[point.geometry], "batch": BATCH, "chains": CHAINS, "steps": steps}
        result = extrapolated(posterior.target, posterior.drawn, **how)
        how = {"method": LANGEVIN, **how}
    seconds = time.process_time() - start
    version = {"devsort": devsort.__version__, "command": command}
    return asdict(point) | asdict(result) | how | {"seconds": seconds} | version


def keep_weights(runs: dict[str, Run]) -> None:
    """Stores the checkpoints that are not stored yet."""
    stored = load_file(WEIGHTS) if WEIGHTS.exists() else {}
    for name, steps in STEPS.items():
        for step in steps:
            for key, value in load_checkpoint(runs[name], step).items():
                stored.setdefault(f"{name}/{step}/{key}", value)
    save_file(stored, WEIGHTS)


def keep(same: dict, row: dict) -> None:
    """Stores a row in place of the one that belongs to the same point and method."""
    rows = json.loads(MEASURED.read_text())["rows"] if MEASURED.exists() else []
    rows = [r for r in rows if not same.items() <= r.items()] + [row]
    MEASURED.write_text(json.dumps({"rows": rows}, indent=1, ensure_ascii=False) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--hmc", type=int, default=0, metavar="PROPOSALS")
    args = parser.parse_args()
    runs = {name: open_run(args.runs / name) for name in STEPS}
    keep_weights(runs)
    for point in points():
        if args.only and point.name not in args.only:
            continue
        posterior = Posterior(point, weights(point.run, point.step), runs[point.run].config)
        with torch_threads(1), one_core():
            row = measure(point, posterior, args.steps, args.hmc)
        keep({"method": row["method"], **asdict(point)}, row)
        summary = f"{row['llc']:8.2f} ± {row['se']:.2f}  R-hat {row['rhat']:.3f}"
        print(f"{point.name:40} {summary}  {row['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
