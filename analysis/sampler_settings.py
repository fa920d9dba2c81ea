"""The effect of each of the sampler's settings.

Prints λ̂ at an early, a middle and a late checkpoint.

python analysis/sampler_settings.py runs/baseline
"""

import argparse
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

from devsort.execution import Advanced, cores, run_jobs
from devsort.llc import estimate
from devsort.llc.trajectory import Job
from devsort.sampling import SamplerConfig, Trace
from devsort.sampling.config import DEFAULTS
from devsort.sorting.checkpoints import chosen_steps, trained_steps
from devsort.sorting.run import Run, open_run
from devsort.sorting.samplers import SortSampler, chance_loss

VARIANTS = {
    "default": {},
    "prior matching weight decay": {"prior": "weight_decay"},
    "batch 256": {"batch_size": 256},
    "nβ 300, γ 300, ε 3e-5": {"n_beta": 300.0, "localization": 300.0, "lr": 3e-5},
    "nβ 3000, γ 3000, ε 3e-6": {"n_beta": 3000.0, "localization": 3000.0, "lr": 3e-6},
    "γ 100": {"localization": 100.0},
    "twice the burn-in": {"num_burnin_steps": 300},
    "400 draws": {"num_draws": 400},
    "ε / 4, four times the steps": {"lr": 3.25e-6, "num_burnin_steps": 600, "num_draws": 960},
    "2 ε, half the steps": {"lr": 2.6e-5, "num_burnin_steps": 75, "num_draws": 120},
}


def variant(run: Run, changes: dict) -> Run:
    """The run with other sampler settings, in absolute geometry."""
    settings = run.config.llc.sampler.model_dump()
    absolute = {"geometry": "absolute", **DEFAULTS["absolute"]}
    sampler = SamplerConfig.model_validate(settings | absolute | changes)
    llc = run.config.llc.model_copy(update={"sampler": sampler, "parts": ()})
    return replace(run, config=run.config.model_copy(update={"llc": llc}))


def _trace(run: Run, job: tuple[str, int], advanced: Advanced) -> Trace:
    name, step = job
    return SortSampler(variant(run, VARIANTS[name]))(Job((step,), "full"), advanced)[step]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--json", type=Path, help="also write the table to this file")
    arguments = parser.parse_args()
    run = open_run(arguments.run)
    late = [s for s in trained_steps(run) if s >= run.config.llc.first_step]
    steps = chosen_steps(late, 4)[1:]
    jobs = [(name, step) for name in VARIANTS for step in steps]
    rows = []
    traces = dict(run_jobs(partial(_trace, run), jobs, cores()))
    print(f"{'setting':30} {'step':>6} {'LLC':>8} {'± SE':>6} {'R-hat':>6} {'climb':>6}  flags")
    for name, step in jobs:
        e = estimate(traces[name, step], chance_loss=chance_loss(run))
        values = {"llc": e.llc, "se": e.se, "rhat": e.rhat, "flags": e.flags}
        rows.append({"setting": name, "step": step, **values})
        summary = f"{e.llc:8.1f} {e.se:6.1f} {e.rhat:6.2f} {e.diagnostics.climb:6.0%}"
        print(f"{name:30} {step:6d} {summary}  {', '.join(e.flags)}")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
