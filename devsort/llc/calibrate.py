"""Searches for sampler settings and proposes the best, with reasons.

Inverse temperatures and localizations are tried on a small grid, at early, middle and late
checkpoints. The step size is not searched. At each grid point it is ε = 1 / (nβ h + γ), a quarter
of the largest stable one, where h is the largest curvature of the loss in the region that the chain
will explore, at w* + N(0, 1/γ). At w* itself the curvature can be twenty times as large: training
with weight decay ends on sharp ridges, and a chain does not stay on them. Momentum, minibatches
and burn-in follow from further chains at the best point; see `tuning`.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from textwrap import wrap

import numpy as np
from scipy.stats import spearmanr

from devsort.llc.estimate import Estimate
from devsort.llc.flags import CHANCE
from devsort.llc.tuning import Traces, Tuned, seen, tuned
from devsort.sampling.config import SamplerConfig

N_BETAS = (300.0, 1000.0, 3000.0, 10000.0)
RELATIVE = (
    4.0,
    6.66,
    16.0,
)  # γ in relative geometry: a flat weight moves by 1/2, 0.39, 1/4 of its scale
RATIOS = (0.3, 1.0, 3.0)  # γ / nβ: which curvatures count as flat, at any temperature
CHECKPOINTS, CHAINS, DRAWS = 6, 2, 200
CURVATURE_LISTS, ITERATIONS = 256, 8
# burn-in in units of 2 / (ε γ), the relaxation time of flat directions, and its maximum in steps
RELAX = 2.0
MAX_BURNIN = 300
COMMENT = "    # "


@dataclass(frozen=True)
class Trial:
    """The result of one grid point at one checkpoint."""

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


def grid_of(geometry: str) -> list[tuple[float, float]]:
    """Returns (nβ, γ) of every grid point.

    In absolute geometry γ is proportional to nβ: the ratio determines which curvatures count as
    flat. In relative geometry γ = 1/a² allows a weight to move by a times its scale, at any nβ.
    """
    if geometry == "relative":
        return list(itertools.product(N_BETAS, RELATIVE))
    return [(n_beta, ratio * n_beta) for n_beta, ratio in itertools.product(N_BETAS, RATIOS)]


def grid(base: SamplerConfig, curvature: Mapping[float, float]) -> list[SamplerConfig]:
    """Returns the settings to try.

    The step size follows from the curvature. Burn-in is long enough for flat directions to relax.

    Args:
        base: All other settings.
        curvature: γ → largest curvature in the region that a chain with this γ explores.
    """
    return [_point(base, n, g, curvature[g]) for n, g in grid_of(base.geometry)]


def _point(
    base: SamplerConfig, n_beta: float, localization: float, curvature: float
) -> SamplerConfig:
    lr = float(f"{1 / (n_beta * curvature + localization):.1e}")
    relaxation = 2 / (lr * localization)  # steps
    return base.model_copy(
        update={
            "n_beta": n_beta,
            "localization": localization,
            "lr": lr,
            "num_burnin_steps": min(MAX_BURNIN, int(np.ceil(RELAX * relaxation))),
            "num_chains": CHAINS,
            "num_draws": DRAWS,
        }
    )


def trial(point: SamplerConfig, step: int, estimate: Estimate) -> Trial:
    """Returns the result of a grid point at a checkpoint."""
    return Trial(
        n_beta=point.n_beta,
        localization=point.localization,
        lr=point.lr,
        step=step,
        llc=estimate.llc,
        se=estimate.se,
        rhat=estimate.rhat,
        climb=float(estimate.diagnostics.climb),
        gap=float(estimate.diagnostics.gap),
        flags=estimate.flags,
    )


def report(
    steps: Sequence[int],
    curvature: Mapping[float, float],
    points: Sequence[SamplerConfig],
    trials: Sequence[Trial],
    chains: Mapping[SamplerConfig, Traces],
    base: SamplerConfig,
) -> dict:
    """Returns the JSON object of a calibration.

    Args:
        steps: Checkpoints.
        curvature: γ → largest Hessian eigenvalue over the checkpoints.
        points: The grid.
        trials: What came of it.
        chains: Those of `tuning.tries` at the best point.
        base: What is kept where nothing decides.

    Returns:
        checkpoints, curvature (γ → largest Hessian eigenvalue over the checkpoints), trials,
        chains, proposal (settings, reasons by setting, lines for config.yaml) and shape
        (Spearman's rank correlation between the trajectories at each pair of nβ, at the middle γ).
    """
    return {
        "checkpoints": list(steps),
        "curvature": {str(localization): h for localization, h in curvature.items()},
        "trials": [{**asdict(t), "flags": list(t.flags)} for t in trials],
        "chains": [asdict(row) for row in seen(chains)],
        "proposal": propose(trials, points, tuned(base, chains)),
        "shape": shape_correlations(trials),
    }


def best_point(trials: Sequence[Trial], points: Sequence[SamplerConfig]) -> SamplerConfig:
    """Returns the grid point with the fewest flags over the checkpoints.

    Among equals, it is the one with the weakest localization γ/nβ, which biases λ̂ least, and then
    the one whose loss moves least, up or down.
    """

    def cost(point: SamplerConfig) -> tuple[int, float, float]:
        of = _at(trials, point)
        weight = 1.0 if point.geometry == "relative" else point.n_beta
        flags = sum(len(t.flags) for t in of)
        return flags, point.localization / weight, np.nan_to_num(max(abs(t.climb) for t in of))

    return min(points, key=cost)


def propose(
    trials: Sequence[Trial], points: Sequence[SamplerConfig], further: Sequence[Tuned] = ()
) -> dict:
    """Returns settings, reasons and YAML: the best point of the grid, and what was tuned there."""
    best = best_point(trials, points)
    of = _at(trials, best)
    flags, climb = sum(len(t.flags) for t in of), max(t.climb for t in of)
    gap = max(abs(t.gap) for t in of)
    count = f"{flags} flags over {len(of)} checkpoints, the fewest of {len(points)} settings"
    reasons = {
        "n_beta": f"{count}; {_climbs(climb)}{_no_minimum(trials)}",
        "localization": "the weakest localization among these",
        "lr": "a quarter of the largest stable step at the sharpest checkpoint; the equilibrium "
        f"identity holds to within {gap:.0%}",
    }
    chosen = {name: getattr(best, name) for name in reasons}
    chosen |= {t.name: t.value for t in further}
    reasons |= {t.name: t.reason for t in further}
    text = as_yaml(best.geometry, chosen, reasons)
    return {"settings": chosen, "reasons": reasons, "config": text}


def _no_minimum(trials: Sequence[Trial]) -> str:
    """Which checkpoints no setting can sample."""
    steps = dict.fromkeys(t.step for t in trials)
    below = [s for s in steps if all("negative" in t.flags for t in trials if t.step == s)]
    where = ", ".join(map(str, below))
    return f"; negative at every setting at step {where}: search at later steps" if below else ""


def _climbs(climb: float) -> str:
    if not np.isfinite(climb):
        return "without chance_loss it is unknown how close the loss comes to a uniform guess"
    share = f"{climb:.0%} of the way to a uniform guess"
    return f"the loss climbs at most {share}, flagged at {CHANCE:.0%}"


def as_yaml(geometry: str, settings: Mapping[str, float], reasons: Mapping[str, str]) -> str:
    """Returns lines for config.yaml, each setting below its reason."""
    lines = ["llc:", "  sampler:", f"    geometry: {geometry}"]
    for name, value in settings.items():
        lines += wrap(reasons[name], 96, initial_indent=COMMENT, subsequent_indent=COMMENT)
        lines.append(f"    {name}: {value:g}")
    return "\n".join(lines)


def _at(trials: Sequence[Trial], point: SamplerConfig) -> list[Trial]:
    place = (point.n_beta, point.localization)
    return [t for t in trials if (t.n_beta, t.localization) == place]


def shape_correlations(trials: Sequence[Trial]) -> list[dict]:
    """Returns Spearman's rank correlation between the trajectories at each pair of nβ.

    All are at the middle γ.
    """
    middle = {n: sorted({t.localization for t in trials if t.n_beta == n})[1] for n in N_BETAS}
    of = {
        n: [t.llc for t in trials if (t.n_beta, t.localization) == (n, middle[n])] for n in N_BETAS
    }
    return [
        {"n_beta": [a, b], "rank_correlation": round(float(spearmanr(of[a], of[b]).statistic), 3)}
        for a, b in itertools.combinations(N_BETAS, 2)
    ]


def _share(value: float) -> str:
    return f"{value:.0%}" if np.isfinite(value) else "–"


def table(value: dict) -> str:
    """Formats a calibration as text."""
    lines = [f"{'nβ':>7} {'γ':>7} {'ε':>9} {'step':>7} {'LLC':>9} {'± SE':>7} {'climb':>6}  flags"]
    lines += [
        f"{t['n_beta']:7g} {t['localization']:7g} {t['lr']:9.1e} {t['step']:7d} "
        f"{t['llc']:9.1f} {t['se']:7.1f} {_share(t['climb']):>6}  {', '.join(t['flags'])}"
        for t in value["trials"]
    ]
    shape = ", ".join(
        f"{s['n_beta'][0]:g}–{s['n_beta'][1]:g}: {s['rank_correlation']:.2f}"
        for s in value["shape"]
    )
    lines += ["", f"Rank correlation of the trajectory between nβ: {shape}"]
    lines += ["", "At the proposed nβ, γ and ε, from the checkpoint on, without burn-in:"]
    lines += [f"{'momentum':>8} {'step':>7} {'LLC':>9} {'± SE':>7} {'heat':>6} {'relaxation':>10}"]
    lines += [
        f"{c['momentum']:8g} {c['step']:7d} {c['llc']:9.1f} {c['se']:7.1f} {c['heat']:6.1%} "
        f"{c['relaxation']:10.1f}"
        for c in value["chains"]
    ]
    return "\n".join([*lines, "", "Proposed:", value["proposal"]["config"]])
