"""Sampler settings at early, middle and late checkpoints of both runs: values and relaxation times.

python analysis/geometry_calibration.py runs --set g6.7=geometry:relative,localization:6.7,lr:2e-3

One row for each setting and checkpoint. `share` is the root mean square of (w − w*)/s: how far
weights move, in units of their block's own scale (in absolute geometry s = 1). `tau` is the
integrated autocorrelation time of the loss in steps. `window` is the mean of the first quarter of
the draws divided by that of the last half, minus one.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from geometry_tools import traces, with_sampler

from devsort.llc import estimate
from devsort.sampling import Trace
from devsort.sorting.checkpoints import load_checkpoint
from devsort.sorting.run import open_run
from devsort.sorting.samplers import chance_loss

STEPS = {"baseline": (29, 68, 91, 215, 383, 825, 1468, 6000), "no-decay": (68, 215, 825, 6000)}
AT_ONCE = 4
WHOLE = ("num_", "batch", "seed")  # settings that are integers
COLUMNS = {
    "llc": ".1f", "se": ".1f", "tau": ".1f", "rhat": ".3f", "share": ".3f", "loss": ".3f",
    "climb": ".1%", "gap": ".1%", "drift": ".1%", "window": ".1%", "spread": ".1%",
    "seconds": ".1f",
}  # fmt: skip


def parse(text: str) -> tuple[str, dict]:
    """Parses name=key:value,key:value."""
    name, _, rest = text.partition("=")
    pairs = dict(item.split(":") for item in rest.split(",") if item)
    if pairs.get("geometry") not in ("absolute", "relative"):
        raise SystemExit(f"{text}: name the geometry, absolute or relative")
    settings = {k: v if k == "geometry" else float(v) for k, v in pairs.items()}
    return name, {k: int(v) if k.startswith(WHOLE) else v for k, v in settings.items()}


def numbers(trace: Trace) -> dict:
    """What the table shows besides the estimate."""
    n_beta = trace.config.n_beta
    values = n_beta * trace.rise.astype(np.float64)
    T = values.shape[1]
    late, early = values[:, T // 2 :], values[:, : T // 4]
    return {
        "loss": float(trace.loss.mean()),
        "share": float(np.sqrt(trace.distance.mean() / trace.dimension)),
        "spread": float(values.std() / abs(values.mean())),
        "window": float(early.mean() / late.mean() - 1),
        "early": float((n_beta * trace.burnin_rise[:, -10:]).mean()),
    }


def rows(folder: Path, name: str, changes: dict, wanted: dict) -> Iterator[dict]:
    for run_name, steps in wanted.items():
        run = with_sampler(open_run(folder / run_name), **changes)
        for i in range(0, len(steps), AT_ONCE):
            group = {s: load_checkpoint(run, s) for s in steps[i : i + AT_ONCE]}
            start = time.perf_counter()
            results = traces(run, group)
            seconds = (time.perf_counter() - start) / len(group)
            for step, trace in results.items():
                e = estimate(trace, chance_loss=chance_loss(run))
                d, tau = e.diagnostics, trace.rise.size * trace.config.num_steps_bw_draws / e.ess
                yield {
                    "setting": name, "run": run_name, "step": step, "llc": e.llc, "se": e.se,
                    "rhat": e.rhat, "tau": tau, "climb": d.climb, "gap": d.gap, "drift": d.drift,
                    **numbers(trace), "seconds": seconds, "flags": list(e.flags),
                }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--set", action="append", required=True, metavar="NAME=KEY:VALUE,…")
    parser.add_argument("--only", default="", help="run:step,step;run:step")
    parser.add_argument("--json", type=Path, help="file to which a line is added for each row")
    arguments = parser.parse_args()
    wanted = STEPS
    if arguments.only:
        pairs = (item.split(":") for item in arguments.only.split(";"))
        wanted = {r: tuple(map(int, s.split(","))) for r, s in pairs}
    print("  ".join(f"{h:>8}" for h in ("setting", "run", "step", *COLUMNS, "flags")))
    for text in arguments.set:
        for row in rows(arguments.runs, *parse(text), wanted):
            cells = [f"{row[k]:>8}" for k in ("setting", "run", "step")]
            cells += [f"{row[k]:8{form}}" for k, form in COLUMNS.items()]
            print("  ".join([*cells, ",".join(row["flags"])]), flush=True)
            if arguments.json:
                with arguments.json.open("a") as f:
                    f.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
