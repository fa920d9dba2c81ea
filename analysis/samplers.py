"""Samplers compared on trained networks: bias, relaxation, and the cost of an independent draw.

python analysis/samplers.py                       # the table of docs/sampling.md, 15 minutes
python analysis/samplers.py --sampler baoab-32 --point baseline-6000-full-relative

Every sampler estimates the LLC at points whose LLC is known from slow samplers
(devsort/sorting/trained.json), from w* and with the same number of chain-steps. `bias` is relative
to the known value, with the errors of both; `heat` is what the estimate subtracted; `relaxation` is
the integrated autocorrelation time of nβ (L − L(w*)) in steps; `draws/s` are independent draws per
CPU second on one core.
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np

from devsort.llc import estimate, settle
from devsort.sorting.trained import Point, known, sampled

RELATIVE = {
    "sgld-32": {"sampling_method": "sgld", "batch_size": 32},
    "sgld-64": {"sampling_method": "sgld", "batch_size": 64},
    "leimkuhler-matthews-64": {"momentum": 0.0, "batch_size": 64},
    "baoab-32": {"batch_size": 32},
    "baoab-64": {"batch_size": 64},
    "baoab-128": {"batch_size": 128},
}
POINTS = (
    "baseline-91-full-relative",
    "baseline-825-full-relative",
    "baseline-6000-full-relative",
    "no-decay-6000-full-relative",
)
LENGTH = {"num_chains": 8, "num_burnin_steps": 100, "num_draws": 300}


def compare(point: Point, row: dict, changes: dict) -> dict:
    """The result of a sampler at a point."""
    start = time.process_time()
    trace = sampled(point, **LENGTH | changes)
    seconds = time.process_time() - start
    e, draws = estimate(trace), trace.rise.size
    return {
        "llc": e.llc,
        "se": e.se,
        "bias": e.llc / row["llc"] - 1,
        "bias_se": math.hypot(e.se, row["se"]) / row["llc"],
        "heat": e.heat / row["llc"],
        "relaxation": draws / e.ess,
        "spread": float(np.std(trace.config.n_beta * trace.rise)) / e.llc,
        "rhat": e.rhat,
        "draws_per_second": e.ess / seconds * (trace.config.num_steps / trace.config.num_draws),
        "burnin": trace.config.num_burnin_steps,
        "flags": list(e.flags),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sampler", action="append", choices=RELATIVE)
    parser.add_argument("--point", action="append")
    parser.add_argument("--set", action="append", default=[], metavar="JSON")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    settle.ROUNDS = 0  # no additional burn-in
    chosen = {name: RELATIVE[name] for name in args.sampler or RELATIVE}
    chosen |= {text: json.loads(text) for text in args.set}
    rows = []
    for point, row in known():
        if point.name not in (args.point or POINTS):
            continue
        for name, changes in chosen.items():
            line = {"point": point.name, "sampler": name} | compare(point, row, changes)
            rows.append(line)
            print(
                f"{point.name:30} {name:24} {line['llc']:7.1f} ± {line['se']:4.1f}"
                f"  bias {line['bias']:+6.1%} ± {line['bias_se']:.1%}  heat {line['heat']:5.1%}"
                f"  relaxation {line['relaxation']:5.1f}  draws/s {line['draws_per_second']:6.1f}"
                f"  R-hat {line['rhat']:.3f}  {' '.join(line['flags'])}",
                flush=True,
            )
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
