"""Do the 95 % intervals cover? Repeats of the same estimate with other seeds, against a known or a
very long truth.

python analysis/coverage.py runs/smoke --repeats 200

Three potentials and the last checkpoint of a trained run. The truth is the mean of all repeats: 200
repeats of four chains are one run of 800 chains, whose own error is added to the interval's.
"""

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from devsort.sorting.workers import Worker, chance_context, settings
from scipy.stats import binomtest

from devsort.execution.device import cores
from devsort.execution.jobs import Advanced, run_jobs
from devsort.execution.progress import progress
from devsort.llc import Context, Estimate, estimate
from devsort.sampling import sample
from devsort.sampling.config import SamplerConfig
from devsort.sampling.trace import Trace
from devsort.sorting.model import Params
from devsort.sorting.run import Run, load_checkpoint, open_run, trained_steps

CHAINS = 4
SETTINGS = SamplerConfig(
    lr=1e-3, n_beta=145.0, localization=1.0, num_draws=600, num_burnin_steps=400
)
POTENTIALS = {
    "w² in 4 dimensions": ({"w": torch.zeros(4)}, lambda p: (p["w"] ** 2).sum()),
    "w⁴": ({"w": torch.zeros(1)}, lambda p: (p["w"] ** 4).sum()),
    "w1² + w2⁴": ({"w": torch.zeros(2)}, lambda p: p["w"][0] ** 2 + p["w"][1] ** 4),
}


def split(trace: Trace) -> list[Trace]:
    """One trace of many chains as many traces of four: chains are independent."""

    def part(value, i: int):
        return value[i : i + CHAINS] if isinstance(value, np.ndarray) else value

    starts = range(0, len(trace.loss), CHAINS)
    return [Trace(**{name: part(value, i) for name, value in vars(trace).items()}) for i in starts]


def report(name: str, estimates: list[Estimate]) -> None:
    """Prints the share of intervals that hold the grand mean, with its own binomial interval."""
    llc = np.array([e.llc for e in estimates])
    half = np.array([(e.ci95[1] - e.ci95[0]) / 2 for e in estimates])
    truth, error = llc.mean(), llc.std(ddof=1) / np.sqrt(len(llc))
    covered = int((np.abs(llc - truth) <= np.hypot(half, error)).sum())
    low, high = binomtest(covered, len(llc)).proportion_ci()
    spread = llc.std(ddof=1)
    mean_se = float(np.sqrt(np.mean([e.se**2 for e in estimates])))
    print(
        f"{name:28} truth {truth:8.3f} ± {error:.3f}  covered {covered / len(llc):.1%} ({low:.1%}–{high:.1%})  "
        f"spread {spread:.3f}  stated SE {mean_se:.3f}"
    )


def of_run(run: Run, repeats: int) -> list[Estimate]:
    """Repeats at the last checkpoint.

    Chains are independent, so four at a time are a repeat of their own.
    """
    step = trained_steps(run)[-1]
    params = load_checkpoint(run, step)
    halves = [
        _many(run, seed, CHAINS * count)
        for seed, count in enumerate((repeats // 2, repeats - repeats // 2))
    ]
    total = repeats * CHAINS * settings(run).num_steps
    with progress(
        total=total, desc=f"coverage {run.path.name}", unit="chain-step", unit_scale=True
    ) as bar:
        done = dict(
            run_jobs(partial(_trace, halves, step, params), range(2), min(2, cores()), bar.update)
        )
    context = chance_context(run, settings(run))
    return [estimate(part, context) for _, trace in sorted(done.items()) for part in split(trace)]


def _trace(halves: list[Run], step: int, params: Params, i: int, advanced: Advanced) -> Trace:
    return Worker(halves[i], ("full",))({step: params}, advanced)[step][0]


def _many(run: Run, seed: int, chains: int) -> Run:
    sampler = run.config.llc.sampler.model_copy(update={"seed": seed, "num_chains": chains})
    llc = run.config.llc.model_copy(update={"sampler": sampler, "parts": ()})
    return replace(run, config=run.config.model_copy(update={"llc": llc}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="as in devsort llc"
    )
    arguments = parser.parse_args()
    config = SETTINGS.model_copy(update={"num_chains": CHAINS * arguments.repeats})
    for name, (params, loss) in POTENTIALS.items():
        trace = sample(lambda p, f=loss: f(p), params, None, config)
        report(name, [estimate(part, Context.of(config)) for part in split(trace)])
    run = open_run(arguments.run, tuple(arguments.set))
    report(f"{run.path.name}, last checkpoint", of_run(run, arguments.repeats))


if __name__ == "__main__":
    main()
