"""How often do the 95 % intervals cover the truth?

The same estimate is repeated with other seeds and compared with a known value, or with the mean of
very many chains.

python analysis/coverage.py runs/smoke --repeats 200
python analysis/coverage.py --trained --repeats 20     # some 4 minutes of one core per point
python analysis/coverage.py --trained --repeats 20 --point baseline-6000-full-relative

The estimates are of three potentials and of the last checkpoint of a trained run. The truth is the
mean of all repeats: 200 repeats of four chains are one run of 800 chains, whose own error is added
to the interval's.

With `--trained` the estimates are those that are shipped, four chains from w* with the default
burn-in, at the trained networks of devsort/sorting/trained.json. They are compared with the LLC of
slow samplers, whose error is added to the interval's.
"""

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.stats import binomtest

from devsort.execution import Advanced, cores, progress, run_jobs
from devsort.llc import Estimate, estimate
from devsort.llc.trajectory import Job
from devsort.sampling import SamplerConfig, Trace, sample
from devsort.sorting.checkpoints import trained_steps
from devsort.sorting.run import Run, open_run
from devsort.sorting.samplers import SortSampler, chance_loss, settings
from devsort.sorting.trained import known, sampled

CHAINS = 4
SETTINGS = SamplerConfig(
    geometry="absolute",
    lr=1e-3,
    n_beta=145.0,
    localization=1.0,
    num_draws=600,
    num_burnin_steps=400,
)
POTENTIALS = {
    "w² in 4 dimensions": ({"w": torch.zeros(4)}, lambda p: (p["w"] ** 2).sum()),
    "w⁴": ({"w": torch.zeros(1)}, lambda p: (p["w"] ** 4).sum()),
    "w1² + w2⁴": ({"w": torch.zeros(2)}, lambda p: p["w"][0] ** 2 + p["w"][1] ** 4),
}


def split(trace: Trace) -> list[Trace]:
    """One trace of many chains as many traces of four: chains are independent."""
    return [trace.chains(slice(i, i + CHAINS)) for i in range(0, len(trace.loss), CHAINS)]


def report(name: str, estimates: list[Estimate]) -> None:
    """Prints the share of intervals that contain the grand mean, with its binomial interval."""
    llc = np.array([e.llc for e in estimates])
    half = np.array([(e.ci95[1] - e.ci95[0]) / 2 for e in estimates])
    truth, error = llc.mean(), llc.std(ddof=1) / np.sqrt(len(llc))
    covered = int((np.abs(llc - truth) <= np.hypot(half, error)).sum())
    low, high = binomtest(covered, len(llc)).proportion_ci()
    spread = llc.std(ddof=1)
    mean_se = float(np.sqrt(np.mean([e.se**2 for e in estimates])))
    share = f"covered {covered / len(llc):.1%} ({low:.1%}–{high:.1%})"
    errors = f"spread {spread:.3f}  stated SE {mean_se:.3f}"
    print(f"{name:28} truth {truth:8.3f} ± {error:.3f}  {share}  {errors}")


def count_covered(name: str, truth: float, error: float, estimates: list[Estimate]) -> int:
    """Prints and returns how many intervals contain a truth that has an error of its own."""
    llc = np.array([e.llc for e in estimates])
    half = np.array([(e.ci95[1] - e.ci95[0]) / 2 for e in estimates])
    covered = int((np.abs(llc - truth) <= np.hypot(half, 1.96 * error)).sum())
    bias, mean_se = llc.mean() / truth - 1, np.sqrt(np.mean([e.se**2 for e in estimates]))
    flagged = sum(bool(e.flags) for e in estimates)
    print(
        f"{name:30} truth {truth:6.1f} ± {error:.1f}  covered {covered} of {len(llc)}  "
        f"bias {bias:+.1%}  spread {llc.std(ddof=1):.2f}  stated SE {mean_se:.2f}  "
        f"flagged {flagged}",
        flush=True,
    )
    return covered


def of_trained(repeats: int, only: list[str]) -> None:
    """Repeats of the shipped estimate at every point in relative geometry, or at some."""
    covered = total = 0
    for point, row in known():
        if point.geometry == "absolute":
            continue
        if only and point.name not in only:
            continue
        seeds = range(1, repeats + 1)
        repeated = [estimate(sampled(point, num_chains=CHAINS, seed=seed)) for seed in seeds]
        covered += count_covered(point.name, row["llc"], row["se"], repeated)
        total += repeats
    low, high = binomtest(covered, total).proportion_ci()
    print(f"all: covered {covered / total:.1%} ({low:.1%}–{high:.1%}) of {total}")


def of_run(run: Run, repeats: int) -> list[Estimate]:
    """Repeats at the last checkpoint.

    Chains are independent, so each four of them are one repeat.
    """
    step = trained_steps(run)[-1]
    counts = (repeats // 2, repeats - repeats // 2)
    halves = [_many(run, seed, CHAINS * count) for seed, count in enumerate(counts)]
    total = repeats * CHAINS * settings(run).num_steps
    name = f"coverage {run.path.name}"
    with progress(total=total, desc=name, unit="chain-step", unit_scale=True) as bar:
        work = partial(_trace, halves, step)
        done = dict(run_jobs(work, range(2), min(2, cores()), bar.update))
    parts = [part for _, trace in sorted(done.items()) for part in split(trace)]
    return [estimate(part, chance_loss=chance_loss(run)) for part in parts]


def _trace(halves: list[Run], step: int, i: int, advanced: Advanced) -> Trace:
    return SortSampler(halves[i])(Job((step,), "full"), advanced)[step]


def _many(run: Run, seed: int, chains: int) -> Run:
    sampler = run.config.llc.sampler.model_copy(update={"seed": seed, "num_chains": chains})
    llc = run.config.llc.model_copy(update={"sampler": sampler, "parts": ()})
    return replace(run, config=run.config.model_copy(update={"llc": llc}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--trained", action="store_true")
    parser.add_argument("--point", action="append", default=[], help="with --trained; repeatable")
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="as in devsort llc"
    )
    arguments = parser.parse_args()
    if arguments.trained or arguments.run is None:
        of_trained(arguments.repeats, arguments.point)
        return
    config = SETTINGS.model_copy(update={"num_chains": CHAINS * arguments.repeats})
    for name, (params, loss) in POTENTIALS.items():
        trace = sample(lambda p, f=loss: f(p), params, None, config)
        report(name, [estimate(part) for part in split(trace)])
    run = open_run(arguments.run, tuple(arguments.set))
    report(f"{run.path.name}, last checkpoint", of_run(run, arguments.repeats))


if __name__ == "__main__":
    main()
