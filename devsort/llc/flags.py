"""What can be wrong with an LLC estimate, each named with its evidence; thresholds are stated with their reasons.

| flag                | evidence                                                                                   |
|---------------------|--------------------------------------------------------------------------------------------|
| diverged            | a loss that is not finite, or nβ·rise over 10 d + 1000 (a stable chain stays near d/2)     |
| dead_chains         | chains that are no longer finite; the estimate is withheld                                 |
| negative            | the whole 95 % interval lies below zero: w* is no minimum of what is sampled               |
| not_converged       | R-hat over 1.1, or the second half of the draws differs from the first by over 10 % of λ̂   |
|                     | with p < 0.01 over the chains                                                              |
| starting_peak       | the smoothed rise has its maximum in the first fifth, over 1.2 times the later mean: ε is  |
|                     | too large                                                                                  |
| chance_level        | the mean loss has climbed three quarters of the way to a uniform guess: nothing local      |
| prior_dominated     | d log λ̂ / d log nβ over 0.8: λ̂ is close to proportional to nβ, so γ or ρ sets it           |
| improper            | no localization and no prior, and |w − w*|² still grows (p < 0.01 over the chains)         |
| out_of_equilibrium  | the identity E[(w − w*)·G] = d + (ε/4) E|G|² is off by over 10 % and three standard errors |
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import ttest_1samp

from devsort.config import SamplerConfig
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
)
RHAT, DRIFT, PEAK, CHANCE, SLOPE, GAP, P = 1.1, 0.1, 1.2, 0.75, 0.8, 0.1, 0.01


@dataclass(frozen=True)
class Context:
    """What the flags need to know besides the trace.

    Attributes:
        n_beta: nβ.
        lr: ε.
        confined: Whether localization, prior or a box keeps the posterior proper.
        chance_loss: Loss of a uniform guess in nats, such as ln V; None if that means nothing for this loss.
    """

    n_beta: float
    lr: float
    confined: bool = True
    chance_loss: float | None = None

    @classmethod
    def of(cls, config: SamplerConfig, chance_loss: float | None = None) -> "Context":
        """The context of a sampler config."""
        return cls(config.n_beta, config.lr, config.localization + config.prior > 0, chance_loss)


@dataclass(frozen=True)
class Diagnostics:
    """Numbers behind the flags.

    Attributes:
        drift: (mean of the second half − mean of the first half of the draws) / |λ̂|.
        peak: Largest smoothed rise in the first fifth over the mean of the second half.
        climb: Share of the way from L(w*) to a uniform guess; NaN without `chance_loss`.
        slope: d log λ̂ / d log nβ = 1 − Var(nβ L) / λ̂, by the fluctuation identity dE[L]/d(nβ) = −Var(L).
        growth: Mean |w − w*|² of the last quarter over that of the second quarter.
        gap: E[(w − w*)·G] / (d + (ε/4) E|G|²) − 1.
    """

    drift: float
    peak: float
    climb: float
    slope: float
    growth: float
    gap: float


def diagnose(
    trace: Trace, context: Context, llc: float, half_width: float, rhat: float
) -> tuple[Diagnostics, tuple[str, ...]]:
    """Computes the diagnostics and raises the flags."""
    with np.errstate(all="ignore"):
        values = context.n_beta * trace.rise.astype(np.float64)  # (C, T)
        early, late = np.array_split(values, 2, axis=1)
        second, last = (np.array_split(trace.distance.astype(np.float64), 4, axis=1)[q].mean(1) for q in (1, 3))
        gaps = _gaps(trace, context.lr)
        numbers = Diagnostics(
            drift=float((late.mean() - early.mean()) / abs(llc)),
            peak=_peak(trace),
            climb=_climb(trace, context.chance_loss),
            slope=_slope(values),
            growth=float(last.mean() / second.mean()),
            gap=float(gaps.mean()),
        )
        raised = {
            "diverged": _diverged(trace, values),
            "dead_chains": bool(trace.dead.any()),
            "negative": llc + half_width < 0,
            "not_converged": rhat > RHAT or (abs(numbers.drift) > DRIFT and _moved(late.mean(1) - early.mean(1))),
            "starting_peak": numbers.peak > PEAK,
            "chance_level": numbers.climb > CHANCE,
            "prior_dominated": numbers.slope > SLOPE and llc - half_width > 0,
            "improper": not context.confined and numbers.growth > 1 and _moved(last - second),
            "out_of_equilibrium": abs(numbers.gap) > max(GAP, 3 * _standard_error(gaps)),
        }
    return numbers, tuple(name for name in FLAGS if raised[name])


def _diverged(trace: Trace, values: np.ndarray) -> bool:
    return bool(trace.dead.any()) or float(values.max(initial=0)) > 10 * trace.dimension + 1000


def _peak(trace: Trace) -> float:
    """Smoothed over a twentieth of the chain and over chains; the start itself, where the rise is 0, counts too."""
    rise = np.concatenate([trace.burnin_rise, trace.rise], axis=1).mean(0)
    window = max(1, len(rise) // 20)
    smooth = np.convolve(rise, np.full(window, 1 / window), mode="valid")
    fifth = max(1, len(smooth) // 5)
    noise = smooth[len(smooth) // 2 :].std()
    level = smooth[len(smooth) // 2 :].mean()
    peak = smooth[:fifth].max()
    return float(peak / level) if level > 0 and peak > level + 4 * noise else min(1.0, float(peak / abs(level)))


def _climb(trace: Trace, chance: float | None) -> float:
    if chance is None:
        return np.nan
    start = float(trace.init_loss.mean())
    return float((trace.loss.mean() - start) / max(chance - start, 1e-9)) if start < chance else 1.0


def _slope(values: np.ndarray) -> float:
    """Var(nβ L) by extrapolating the autocovariances of lags one and two to lag zero, which leaves out minibatch noise.

    Where the chain forgets so fast that lag two says nothing, the plain variance is taken.
    """
    if values.shape[1] < 4 or values.mean() <= 0:
        return np.nan
    centred = values - values.mean()
    c0, c1, c2 = ((centred[:, k:] * centred[:, : values.shape[1] - k]).mean() for k in range(3))
    variance = min(c0, c1**2 / c2) if c2 > 0.1 * c0 else c0
    return float(1 - variance / values.mean())


def _gaps(trace: Trace, lr: float) -> np.ndarray:
    """Relative gap of the equilibrium identity for each chain, (C,)."""
    expected = trace.dimension + lr / 4 * trace.force.astype(np.float64).mean(1)
    return trace.work.astype(np.float64).mean(1) / expected - 1


def _standard_error(x: np.ndarray) -> float:
    return float(x.std(ddof=1) / np.sqrt(len(x))) if len(x) > 1 else 0.0


def _moved(differences: np.ndarray) -> bool:
    """Whether a difference is there in all chains alike, by a t-test; with one chain, whether there is any."""
    if len(differences) < 2:
        return bool(differences[0] != 0)
    return bool(ttest_1samp(differences, 0.0).pvalue < P)
