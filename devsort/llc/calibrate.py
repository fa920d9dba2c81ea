"""Sampler settings for a run, searched where the trajectory is early, in between and late, and proposed with reasons.

Inverse temperatures and localizations are tried on a small grid. The step is not searched: at each grid point it is
ε = 1 / (nβ h + γ), a quarter of the largest stable one, with h the largest curvature of the loss where the chain will
be, at w* + N(0, 1/γ). At w* itself it can be twenty times as large: training with decay ends on sharp ridges that no
chain stays on.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np
import torch
from scipy.stats import spearmanr

from devsort.artifacts import Run, checksum, identity, load_checkpoint, provenance, trained_steps, write_json
from devsort.config import SamplerConfig
from devsort.llc.estimate import Estimate, estimate
from devsort.llc.flags import CHANCE
from devsort.llc.step import SECTIONS, chosen_steps
from devsort.llc.workers import Worker, chance_context, settings
from devsort.model import Params
from devsort.processes import run_jobs
from devsort.progress import progress
from devsort.rng import torch_stream
from devsort.sampling.curvature import largest_curvature
from devsort.sampling.trace import Trace

N_BETAS = (300.0, 1000.0, 3000.0, 10000.0)
RATIOS = (0.3, 1.0, 3.0)  # γ / nβ: which curvatures count as flat, whatever the temperature
CHECKPOINTS, CHAINS, DRAWS = 6, 2, 200
CURVATURE_LISTS, ITERATIONS = 256, 8
RELAX = 2.0  # burn-in in units of the slowest relaxation time 2 / (ε γ) of the flat directions, capped below
MAX_BURNIN = 300


@dataclass(frozen=True)
class Trial:
    """One grid point at one checkpoint."""

    n_beta: float
    localization: float
    lr: float
    step: int
    llc: float
    se: float
    rhat: float
    climb: float
    gap: float
    flags: tuple[str, ...]


def calibrate(run: Run) -> tuple[dict, dict[tuple[float, float, int], Trace]]:
    """Tries the grid on a trained run and writes calibration.json.

    Returns:
        A JSON object and the traces by (nβ, γ, step). The object: run, checkpoints, curvature (γ → largest Hessian
        eigenvalue over the checkpoints), trials, proposal (settings, reasons, the lines for config.yaml) and shape:
        Spearman's rank correlation of the trajectory between pairs of nβ at γ/nβ = 1.
    """
    with run.lock():
        saved = [s for s in trained_steps(run) if s >= run.config.llc.first_step] or trained_steps(run)
        steps = chosen_steps(saved, CHECKPOINTS)
        params = {s: load_checkpoint(run, s) for s in steps}
        worker = Worker(run, ("full",))
        curvature = {g: typical_curvature(worker, list(params.values()), g) for g in localizations()}
        grid = [grid_point(run, n, r, curvature[r * n]) for n, r in itertools.product(N_BETAS, RATIOS)]
        results = list(_trials(run, grid, params))
        trials = [trial for trial, _ in results]
        value = {
            **provenance(run, *SECTIONS, inputs=identity({s: checksum(p) for s, p in params.items()})),
            "run": str(run.path),
            "checkpoints": steps,
            "curvature": curvature,
            "trials": [asdict(t) for t in trials],
            "proposal": propose(trials, grid),
            "shape": shape_correlations(trials),
        }
        write_json(run.calibration, value)
    return value, {(t.n_beta, t.localization, t.step): trace for t, trace in results}


def localizations() -> list[float]:
    """Every γ of the grid."""
    return sorted({ratio * n_beta for n_beta, ratio in itertools.product(N_BETAS, RATIOS)})


def typical_curvature(worker: Worker, checkpoints: list[Params], localization: float) -> float:
    """Largest curvature over the checkpoints, each moved by N(0, 1/γ) as the chain will move it."""
    data = worker.data[slice(0, CURVATURE_LISTS)]
    kernel = worker.kernels[0]

    def moved(params: Params) -> Params:
        generator = torch_stream(0, "calibrate", device=worker.device)
        noise = {n: torch.randn(p.shape, generator=generator, device=worker.device) for n, p in params.items()}
        return {n: p.to(worker.device) + noise[n] / localization**0.5 for n, p in params.items()}

    return max(largest_curvature(kernel, moved(params), data, ITERATIONS) for params in checkpoints)


def grid_point(run: Run, n_beta: float, ratio: float, curvature: float) -> SamplerConfig:
    """Settings of one grid point: the step from the curvature, burn-in long enough for the flat directions."""
    localization = ratio * n_beta
    lr = float(f"{1 / (n_beta * curvature + localization):.1e}")
    burnin = min(MAX_BURNIN, int(np.ceil(RELAX * 2 / (lr * localization))))
    update = {"n_beta": n_beta, "localization": localization, "lr": lr, "num_burnin_steps": burnin}
    return settings(run).model_copy(update=update | {"num_chains": CHAINS, "num_draws": DRAWS})


def propose(trials: list[Trial], grid: list[SamplerConfig]) -> dict:
    """The grid point with the fewest flags over the checkpoints.

    Among equals the one with the weakest localization, γ/nβ, which biases λ̂ least; then the one that climbs least.
    """

    def of(point: SamplerConfig) -> list[Trial]:
        return [t for t in trials if (t.n_beta, t.localization) == (point.n_beta, point.localization)]

    def cost(point: SamplerConfig) -> tuple[int, float, float]:
        flags = sum(len(t.flags) for t in of(point))
        return flags, point.localization / point.n_beta, max(t.climb for t in of(point))

    best = min(grid, key=cost)
    flags, ratio, climb = cost(best)
    gap = max(abs(t.gap) for t in of(best))
    names = ("lr", "n_beta", "localization", "num_burnin_steps")
    chosen = {name: getattr(best, name) for name in names}
    lines = ["llc:", "  sampler:", *(f"    {name}: {value:g}" for name, value in chosen.items())]
    reasons = [
        f"{flags} flags over {len(of(best))} checkpoints, the fewest of {len(grid)} settings",
        f"γ/nβ = {ratio:g}, the weakest localization among these",
        f"the loss climbs at most {climb:.0%} of the way to a uniform guess (flagged at {CHANCE:.0%})",
        f"the equilibrium identity holds to {gap:.0%}",
        "the step is a quarter of the largest stable one where the chain of the sharpest checkpoint moves",
    ]
    return {"settings": chosen, "reasons": reasons, "config": "\n".join(lines)}


def shape_correlations(trials: list[Trial]) -> list[dict]:
    """Spearman's rank correlation between the trajectories at each pair of nβ, at γ/nβ = 1."""
    of = {n: [t.llc for t in trials if t.n_beta == n and t.localization == n] for n in N_BETAS}
    return [
        {"n_beta": [a, b], "rank_correlation": round(float(spearmanr(of[a], of[b]).statistic), 3)}
        for a, b in itertools.combinations(N_BETAS, 2)
    ]


def table(value: dict) -> str:
    """The calibration for a reader."""
    lines = [f"{'nβ':>7} {'γ':>7} {'ε':>9} {'step':>7} {'LLC':>9} {'± SE':>7} {'climb':>6}  flags"]
    lines += [
        f"{t['n_beta']:7g} {t['localization']:7g} {t['lr']:9.1e} {t['step']:7d} {t['llc']:9.1f} {t['se']:7.1f} "
        f"{t['climb']:6.0%}  {', '.join(t['flags'])}"
        for t in value["trials"]
    ]
    shape = ", ".join(f"{s['n_beta'][0]:g}–{s['n_beta'][1]:g}: {s['rank_correlation']:.2f}" for s in value["shape"])
    lines += ["", f"Rank correlation of the trajectory between nβ: {shape}", ""]
    lines += ["Proposed, because " + "; ".join(value["proposal"]["reasons"]) + ":", value["proposal"]["config"]]
    return "\n".join(lines)


def _trials(run: Run, grid: list[SamplerConfig], params: dict) -> Iterator[tuple[Trial, Trace]]:
    total = sum(point.num_chains * point.num_steps * len(params) for point in grid)
    count = Worker(_with(run, grid[0]), ("full",)).processes(total)
    with progress(total=total, desc=f"calibrate {run.path.name}", unit="chain-step", unit_scale=True) as bar:
        done = dict(run_jobs(partial(_at_point, run, params), grid, count, bar.update))
    for point, step in itertools.product(grid, params):
        (trace,) = done[point][step]
        yield _trial(point, step, estimate(trace, chance_context(run, point))), trace


def _at_point(run: Run, params: dict, point: SamplerConfig, advanced: Callable[[int], None]) -> dict[int, list[Trace]]:
    return Worker(_with(run, point), ("full",))(params, advanced)


def _with(run: Run, sampler: SamplerConfig) -> Run:
    llc = run.config.llc.model_copy(update={"sampler": sampler, "parts": ()})
    return replace(run, config=run.config.model_copy(update={"llc": llc}))


def _trial(point: SamplerConfig, step: int, e: Estimate) -> Trial:
    d = e.diagnostics
    numbers = (float(e.llc), float(e.se), float(e.rhat), float(d.climb), float(d.gap))
    return Trial(point.n_beta, point.localization, point.lr, step, *numbers, e.flags)
