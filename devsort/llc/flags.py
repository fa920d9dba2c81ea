"""Flags: what can be wrong with an LLC estimate, and how it is detected.

| flag                | evidence                                                                   |
|---------------------|----------------------------------------------------------------------------|
| diverged            | a loss that is infinite or NaN, or nβ·rise above 10 d + 1000               |
|                     | (a stable chain stays near d/2)                                            |
| dead_chains         | chains that became infinite or NaN; the estimate is withheld               |
| negative            | the whole 95 % interval is below zero:                                     |
|                     | w* is not a minimum of the loss                                            |
| not_converged       | R-hat above 1.1, or the second half of the draws differs from the first    |
|                     | by more than 3 % of λ̂, p < 0.01                                            |
| starting_peak       | the smoothed rise peaks in the first fifth, at more than 1.2 times the     |
|                     | mean of the second half and more than 3 times as far above this mean as    |
|                     | anything in that half: ε is too large                                      |
| chance_level        | the mean loss has climbed three quarters of the way to that of a uniform   |
|                     | guess: the estimate is not local                                           |
| prior_dominated     | d log λ̂ / d log nβ above 0.8: λ̂ is nearly proportional to nβ, so it is     |
|                     | determined by γ or ρ                                                       |
| improper            | no localization and no prior, and |w − w*|² is not stationary:             |
|                     | R-hat above 1.1, or it grows, p < 0.01                                     |
| out_of_equilibrium  | the identity E[(w − w*)·G] = d + (ε/4) E|G|² (baoab: d) is violated by     |
|                     | more than 10 %, p < 0.01                                                   |
| unknown             | R-hat or the standard error cannot be computed: too few draws, or losses   |
|                     | that never change                                                          |

Every p-value takes into account the autocorrelation of the draws and the scatter between chains;
see `uncertainty`. R-hat exceeds 1.1 by chance only in chains of about ten autocorrelation times or
fewer, which are too short in any case.
"""

from dataclasses import dataclass

import numpy as np

from devsort.llc.uncertainty import UNKNOWN, Mean, mean_of, split_rhat
from devsort.sampling.trace import Trace

FLAGS = (
    "diverged",
    "dead_chains",
    "negative",
    "not_converged",
    "starting_peak",
    "chance_level",
    "prior_dominated",
    "improper",
    "out_of_equilibrium",
    "unknown",
)
RHAT, DRIFT, PEAK, CHANCE, SLOPE, GAP, P = 1.1, 0.03, 1.2, 0.75, 0.8, 0.1, 0.01
STANDS_OUT = 3  # how many times larger than the plateau's fluctuations a starting peak must be


@dataclass(frozen=True)
class Diagnostics:
    """The numbers that the flags are based on.

    Attributes:
        drift: (mean of the second half − mean of the first half of the draws) / |λ̂|.
        peak: Largest smoothed rise in the first fifth, divided by the mean of the second half; at
            most 1 if it is not a peak.
        climb: Fraction of the way from L(w*) to the loss of a uniform guess; NaN without
            `chance_loss`.
        slope: d log λ̂ / d log nβ = 1 − Var(nβ L) / λ̂, from the fluctuation identity dE[L]/d(nβ) =
            −Var(L).
        growth: Relative growth of the mean |w − w*|² from the second to the last quarter of draws.
        gap: E[(w − w*)·G] / (d + (ε/4) E|G|²) − 1; baoab: E[(w − w*)·G] / d − 1.
    """

    drift: float
    peak: float
    climb: float
    slope: float
    growth: float
    gap: float


def diagnose(
    trace: Trace,
    mean: Mean,
    rhat: float,
    chance_loss: float | None = None,
    confined: bool | None = None,
) -> tuple[Diagnostics, tuple[str, ...]]:
    """Computes the diagnostics and the flags.

    The diagnostics use the same chains as the estimate.

    Args:
        trace: Draws of all chains.
        mean: λ̂ with its error; `UNKNOWN` if it is withheld.
        rhat: R-hat of λ̂.
        chance_loss: See `estimate`.
        confined: See `estimate`.
    """
    if confined is None:
        confined = trace.config.localization + float(trace.config.prior) > 0
    used = trace.chains(~trace.dead) if np.isfinite(mean.value) else trace
    values = trace.config.n_beta * used.rise.astype(np.float64)  # (C, T)
    with np.errstate(all="ignore"):
        drift, growth, gap = drift_of(values), _growth(used), _gap(used)
        numbers = Diagnostics(
            drift=float(np.divide(drift.value, abs(mean.value))),
            peak=_peak(used),
            climb=_climb(used, chance_loss),
            slope=_slope(values),
            growth=growth.value,
            gap=gap.value,
        )
    grows = growth.value > 0 and growth.p_zero() < P
    raised = {
        "diverged": bool(trace.dead.any())
        or float(values.max(initial=0)) > 10 * trace.dimension + 1000,
        "dead_chains": bool(trace.dead.any()),
        "negative": mean.value + mean.half_width() < 0,
        "not_converged": rhat > RHAT or drifts(drift, mean.value),
        "starting_peak": numbers.peak > PEAK,
        "chance_level": numbers.climb > CHANCE,
        "prior_dominated": numbers.slope > SLOPE and mean.value - mean.half_width() > 0,
        "improper": not confined and (_unsettled(used) or grows),
        "out_of_equilibrium": abs(numbers.gap) > GAP and gap.p_zero() < P,
        "unknown": not (trace.dead.any() or np.isfinite(rhat + mean.se)),
    }
    return numbers, tuple(name for name in FLAGS if raised[name])


def drifts(drift: Mean, level: float) -> bool:
    """Whether a drift exceeds DRIFT of the level and is no chance."""
    return abs(drift.value) > DRIFT * abs(level) and drift.p_zero() < P


def drift_of(values: np.ndarray) -> Mean:
    """Returns the mean of the second half of (C, T) draws minus the first half, draw by draw."""
    half = values.shape[1] // 2
    return mean_of(values[:, -half:] - values[:, :half]) if half else UNKNOWN


def _growth(trace: Trace) -> Mean:
    """Returns the relative growth of |w − w*|² from the second to the last quarter of the draws."""
    distance, quarter = trace.distance.astype(np.float64), trace.distance.shape[1] // 4
    if not quarter:
        return UNKNOWN
    second = distance[:, quarter : 2 * quarter]
    return mean_of((distance[:, -quarter:] - second) / second.mean())


def _unsettled(trace: Trace) -> bool:
    """Whether the chains disagree on |w − w*|², as random walks along a flat direction do."""
    return split_rhat(trace.distance.astype(np.float64)) > RHAT


def _gap(trace: Trace) -> Mean:
    """Returns the relative violation of the equilibrium identity."""
    share = trace.config.lr / 4 if trace.config.sampling_method == "sgld" else 0.0
    explained = share * trace.force.astype(np.float64)
    return mean_of(
        (trace.work - explained - trace.dimension) / (trace.dimension + explained.mean())
    )


def _peak(trace: Trace) -> float:
    """Returns the height of a starting peak relative to the plateau.

    The rise is averaged over chains and smoothed over a twentieth of the chain. The result is at
    most 1 if the fluctuations of the plateau are as large.
    """
    rise = np.concatenate([trace.burnin_rise, trace.rise], axis=1).mean(0, dtype=np.float64)
    window = max(1, len(rise) // 20)
    smooth = np.convolve(rise, np.full(window, 1 / window), mode="valid")
    late = smooth[len(smooth) // 2 :]
    level, peak = late.mean(), smooth[: max(1, len(smooth) // 5)].max()
    if not np.isfinite(peak) or level <= 0:
        return np.nan
    stands_out = peak - level > STANDS_OUT * np.abs(late - level).max()
    return float(peak / level) if stands_out else min(1.0, float(peak / level))


def _climb(trace: Trace, chance: float | None) -> float:
    if chance is None:
        return np.nan
    start = float(trace.init_loss.mean())
    return float((trace.loss.mean() - start) / max(chance - start, 1e-9)) if start < chance else 1.0


def _slope(values: np.ndarray) -> float:
    """Returns d log λ̂ / d log nβ, from Var(nβ L).

    The variance is extrapolated to lag zero from the autocovariances at lags one and two, which
    excludes minibatch noise. If the autocorrelation is too short for this, the plain variance is
    used.
    """
    if values.shape[1] < 4 or values.mean() <= 0:
        return np.nan
    centred = values - values.mean()
    c0, c1, c2 = ((centred[:, k:] * centred[:, : values.shape[1] - k]).mean() for k in range(3))
    variance = min(c0, c1**2 / c2) if c2 > 0.1 * c0 else c0
    return float(1 - variance / values.mean())
