"""Estimates the local learning coefficient from draws: λ̂ = nβ (mean L(w) − L(w*)).

Every estimate has a standard error and flags for what is wrong with it. L(w) − L(w*) is computed at
each draw on the chain's own minibatch, so minibatch noise cancels to first order. The same noise
also heats the chain, which makes λ̂ too large. Samplers that can measure this excess
(`sampling.methods`) do so, and it is subtracted. It is known only to first order, so HEATING_ERROR
times the excess is added to the standard error in quadrature.
"""

from dataclasses import dataclass

import numpy as np

from devsort.llc.flags import Diagnostics, diagnose
from devsort.llc.uncertainty import UNKNOWN, mean_of, split_rhat
from devsort.sampling.trace import Trace

HEATING_ERROR = 0.5  # relative standard error of the heating that is subtracted


@dataclass(frozen=True)
class Estimate:
    """λ̂ with its standard error, diagnostics and flags.

    Attributes:
        llc: λ̂, mean over chains; NaN (withheld) if a chain died.
        se: Standard error of λ̂: the root mean square of two estimates of it, from the spread
            between chains and from the autocorrelation.
        ci95: 95 % interval, λ̂ ± t se, where t is the quantile of Student's t distribution for the
            degrees of freedom of the standard error (`uncertainty.Mean`).
        llc_chain: (C,) λ̂ of each chain.
        heat: Correction for minibatch noise, subtracted from λ̂; 0 for SGLD.
        rhat: Rank-normalised split R-hat (Vehtari et al. 2021); for one chain, R-hat of its halves.
        ess: Effective number of draws of the mean.
        chains_failed: Number of chains that died.
        diagnostics: The numbers that the flags are based on.
        flags: Names of the problems, see `devsort.llc.flags`; empty for a healthy estimate.
    """

    llc: float
    se: float
    ci95: tuple[float, float]
    llc_chain: np.ndarray
    heat: float
    rhat: float
    ess: float
    chains_failed: int
    diagnostics: Diagnostics
    flags: tuple[str, ...]


def estimate(
    trace: Trace,
    *,
    chance_loss: float | None = None,
    confined: bool | None = None,
    allow_dead: bool = False,
) -> Estimate:
    """Estimates λ̂ from a trace.

    The standard error is that of `uncertainty.mean_of`, and in quadrature, the scatter of the heat
    between chains (C − 1 degrees of freedom) and HEATING_ERROR of the heat (exact).

    Args:
        trace: Draws of C chains, with their sampler settings.
        chance_loss: Loss of a uniform guess in nats, such as ln V; None if this has no meaning for
            the loss.
        confined: Whether the posterior is proper. With None, it is if there is a localization or a
            prior.
        allow_dead: Estimate from the surviving chains if some died. Such an estimate is biased.
    """
    values = trace.config.n_beta * trace.rise.astype(np.float64)  # (C, T)
    alive = ~trace.dead
    usable = bool(alive.all()) or (allow_dead and bool(alive.any()))
    mean, rhat = (
        (mean_of(values[alive]), split_rhat(values[alive])) if usable else (UNKNOWN, np.nan)
    )
    heat, scatter = heat_of(trace, alive) if usable else (0.0, 0.0)
    mean = mean.corrected(heat, scatter, alive.sum() - 1).corrected(0.0, HEATING_ERROR * abs(heat))
    half = mean.half_width()
    diagnostics, flags = diagnose(trace, mean, rhat, chance_loss, confined)
    return Estimate(
        llc=mean.value,
        se=mean.se,
        ci95=(mean.value - half, mean.value + half),
        llc_chain=values.mean(1) - heat,
        heat=heat,
        rhat=rhat,
        ess=mean.ess,
        chains_failed=int((~alive).sum()),
        diagnostics=diagnostics,
        flags=flags,
    )


def heat_of(trace: Trace, alive: np.ndarray) -> tuple[float, float]:
    """Returns the mean heat of the living chains, and its standard error from their scatter.

    The heat is zero if the sampler does not measure it, and the error if there is one chain.
    """
    heating = trace.heating[alive].astype(np.float64)
    if not heating.size:
        return 0.0, 0.0
    value, chains = float(heating.mean()), heating.mean(1)
    scatter = chains.std(ddof=1) / np.sqrt(len(chains)) if len(chains) > 1 else 0.0
    return value, float(scatter)
