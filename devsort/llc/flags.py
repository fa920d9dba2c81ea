"""What can be wrong with an LLC estimate, each named with its evidence.

Thresholds are stated with their reasons.

| flag                | evidence                                                                   |
|---------------------|----------------------------------------------------------------------------|
| diverged            | a loss that is not finite, or nβ·rise over 10 d + 1000                     |
|                     | (a stable chain stays near d/2)                                            |
| dead_chains         | chains that are no longer finite; the estimate is withheld                 |
| negative            | the whole 95 % interval lies below zero:                                   |
|                     | w* is no minimum of what is sampled                                        |
| not_converged       | R-hat over 1.1, or the second half of the draws differs from the first     |
|                     | by over 3 % of λ̂, p < 0.01                                                 |
| starting_peak       | the smoothed rise peaks in the first fifth, over 1.2 times the mean of     |
|                     | the second half and over 3 times as far above it as anything in that half: |
|                     | ε is too large                                                             |
| chance_level        | the mean loss has climbed three quarters of the way to a uniform guess:    |
|                     | nothing local                                                              |
| prior_dominated     | d log λ̂ / d log nβ over 0.8: λ̂ is close to proportional to nβ, so γ or     |
|                     | ρ sets it                                                                  |
| improper            | no localization and no prior, and |w − w*|² has not settled:               |
|                     | R-hat over 1.1, or growing, p < 0.01                                       |
| out_of_equilibrium  | the identity E[(w − w*)·G] = d + (ε/4) E|G|² (baoab: d) is off by over     |
|                     | 10 %, p < 0.01                                                             |
| unknown             | R-hat or the standard error cannot be computed: too few draws, or losses   |
|                     | that never change                                                          |

Every p-value takes the autocorrelation of the draws and the scatter between chains into account,
see `uncertainty`. R-hat passes 1.1 by chance in chains of some ten autocorrelation times only,
which are too few steps as well.
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
STANDS_OUT = 3  # times the fluctuations of the plateau that a starting peak must exceed


@dataclass(frozen=True)
class Diagnostics:
    """Numbers behind the flags.

    Attributes:
        drift: (mean of the second half − mean of the first half of the draws) / |λ̂|.
        peak: Largest smoothed rise in the first fifth over the mean of the second half; at most 1
            if it is no peak.
        climb: Share of the way from L(w*) to a uniform guess; NaN without `chance_loss`.
        slope: d log λ̂ / d log nβ = 1 − Var(nβ L) / λ̂, by the fluctuation identity dE[L]/d(nβ) =
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
    """Computes the diagnostics, of the chains that the estimate rests on, and raises the flags.

    Args:
        trace: Draws of all chains.
        mean: λ̂ with its error; unknown if it is withheld.
        rhat: R-hat of λ̂.
        chance_loss: See `estimate`.
        confined: See `estimate`.
    """
    if confined is None:
        confined = trace.config.localization + float(trace.config.prior) > 0
    seen = trace.chains(~trace.dead) if np.isfinite(mean.value) else trace
    values = trace.config.n_beta * seen.rise.astype(np.float64)  # (C, T)
    with np.errstate(all="ignore"):
        drift, growth, gap = drift_of(values), _growth(seen), _gap(seen)
        numbers = Diagnostics(
            drift=float(np.divide(drift.value, abs(mean.value))),
            peak=_peak(seen),
            climb=_climb(seen, chance_loss),
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
        "improper": not confined and (_unsettled(seen) or grows),
        "out_of_equilibrium": abs(numbers.gap) > GAP and gap.p_zero() < P,
        "unknown": not (trace.dead.any() or np.isfinite(rhat + mean.se)),
    }
    return numbers, tuple(name for name in FLAGS if raised[name])


def drifts(drift: Mean, level: float) -> bool:
    """Whether a drift is over DRIFT of the level and no chance."""
    return abs(drift.value) > DRIFT * abs(level) and drift.p_zero() < P


def drift_of(values: np.ndarray) -> Mean:
    """Second half of (C, T) draws less the first, draw by draw."""
    half = values.shape[1] // 2
    return mean_of(values[:, -half:] - values[:, :half]) if half else UNKNOWN


def _growth(trace: Trace) -> Mean:
    """|w − w*|² of the last quarter less that of the second, by draws, in units of the latter."""
    distance, quarter = trace.distance.astype(np.float64), trace.distance.shape[1] // 4
    if not quarter:
        return UNKNOWN
    second = distance[:, quarter : 2 * quarter]
    return mean_of((distance[:, -quarter:] - second) / second.mean())


def _unsettled(trace: Trace) -> bool:
    """Whether the chains disagree on |w − w*|², as random walks along a flat arm do."""
    return split_rhat(trace.distance.astype(np.float64)) > RHAT


def _gap(trace: Trace) -> Mean:
    """Relative gap of the equilibrium identity."""
    share = trace.config.lr / 4 if trace.config.sampling_method == "sgld" else 0.0
    explained = share * trace.force.astype(np.float64)
    return mean_of(
        (trace.work - explained - trace.dimension) / (trace.dimension + explained.mean())
    )


def _peak(trace: Trace) -> float:
    """Smoothed over a twentieth of the chain and over chains.

    At most 1 if the fluctuations reach as far.
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
    """d log λ̂ / d log nβ, from Var(nβ L) at lag zero.

    The autocovariances of lags one and two are extrapolated, which leaves out minibatch noise.
    Where the chain forgets so fast that lag two says nothing, the plain variance is taken.
    """
    if values.shape[1] < 4 or values.mean() <= 0:
        return np.nan
    centred = values - values.mean()
    c0, c1, c2 = ((centred[:, k:] * centred[:, : values.shape[1] - k]).mean() for k in range(3))
    variance = min(c0, c1**2 / c2) if c2 > 0.1 * c0 else c0
    return float(1 - variance / values.mean())
