"""Samplers beside one another on trained networks: bias, relaxation, and what an independent draw
costs.

python analysis/samplers.py                       # the table of docs/sampling.md, 15 minutes
python analysis/samplers.py --sampler baoab-32 --point baseline-6000-full-relative

Every sampler estimates the LLC at points whose LLC is known from slow samplers
(devsort/sorting/trained.json), from w*, with as many chain-steps. `bias` is against that, with the
errors of both; `heat` is what the estimate took off; `relaxation` is the integrated autocorrelation
time of nβ (L − L(w*)) in steps; `draws/s` are independent draws per CPU second on one core.
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


def compared(point: Point, row: dict, changes: dict) -> dict:
    """What a sampler gives at a point."""
    begun = time.process_time()
    trace = sampled(point, **LENGTH | changes)
    seconds = time.process_time() - begun
    found, draws = estimate(trace), trace.rise.size
    return {
        "llc": found.llc,
        "se": found.se,
        "bias": found.llc / row["llc"] - 1,
        "bias_se": math.hypot(found.se, row["se"]) / row["llc"],
        "heat": found.heat / row["llc"],
        "relaxation": draws / found.ess,
        "spread": float(np.std(trace.config.n_beta * trace.rise)) / found.llc,
        "rhat": found.rhat,
        "draws_per_second": found.ess / seconds * (trace.config.num_steps / trace.config.num_draws),
        "burnin": trace.config.num_burnin_steps,
        "flags": list(found.flags),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sampler", action="append", choices=RELATIVE)
    parser.add_argument("--point", action="append")
    parser.add_argument("--set", action="append", default=[], metavar="JSON")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    settle.ROUNDS = 0  # samplers as they are
    chosen = {name: RELATIVE[name] for name in args.sampler or RELATIVE}
    chosen |= {text: json.loads(text) for text in args.set}
    rows = []
    for point, row in known():
        if point.name not in (args.point or POINTS) or row["method"] == "hmc":
            continue
        for name, changes in chosen.items():
            found = {"point": point.name, "sampler": name} | compared(point, row, changes)
            rows.append(found)
            print(
                f"{point.name:30} {name:24} {found['llc']:7.1f} ± {found['se']:4.1f}"
                f"  bias {found['bias']:+6.1%} ± {found['bias_se']:.1%}  heat {found['heat']:5.1%}"
                f"  relaxation {found['relaxation']:5.1f}  draws/s {found['draws_per_second']:6.1f}"
                f"  R-hat {found['rhat']:.3f}  {' '.join(found['flags'])}",
                flush=True,
            )
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
