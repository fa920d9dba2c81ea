"""From draws to the local learning coefficient: λ̂ = nβ (mean L(w) − L(w*)).

An estimate comes with its error and with what is wrong with it. L(w) − L(w*) is taken draw by draw
on the chain's own minibatch, so minibatch noise cancels to first order. What the same noise adds by
heating the chain is measured where the sampler can (`sampling.methods`) and subtracted;
HEATING_ERROR of it goes into the standard error, since it is known to first order only.
"""

from dataclasses import dataclass

import numpy as np

from devsort.llc.flags import Diagnostics, diagnose
from devsort.llc.uncertainty import UNKNOWN, mean_of, split_rhat
from devsort.sampling.trace import Trace

HEATING_ERROR = 0.5  # standard error of the heating that is taken off, as a share of it


@dataclass(frozen=True)
class Estimate:
    """λ̂ and its evidence.

    Attributes:
        llc: λ̂, mean over chains; NaN (withheld) if a chain died.
        se: Standard error of λ̂: root mean square of the error between chains and of the error by
            autocorrelation.
        ci95: 95 % interval, λ̂ ± t se with Student's t of the standard error's degrees of freedom.
        llc_chain: (C,) λ̂ of each chain.
        heat: What was subtracted from λ̂ as the heat of minibatches; 0 for SGLD.
        rhat: Rank-normalised split R-hat (Vehtari et al. 2021); of one chain, that of its halves.
        ess: Effective number of draws behind the mean.
        chains_failed: Chains that died.
        diagnostics: Numbers behind the flags.
        flags: Names of what is wrong, see `devsort.llc.flags`; empty for a healthy estimate.
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

    The standard error and its degrees of freedom are those of `uncertainty.mean_of`.

    Args:
        trace: Draws of C chains, with the settings that they were drawn with.
        chance_loss: Loss of a uniform guess in nats, such as ln V; None if that means nothing for
            this loss.
        confined: Whether the posterior is proper; None: if there is a localization or a prior.
        allow_dead: Estimate from the surviving chains even if some died, which is biased.
    """
    values = trace.config.n_beta * trace.rise.astype(np.float64)  # (C, T)
    alive = ~trace.dead
    usable = bool(alive.all()) or (allow_dead and bool(alive.any()))
    mean, rhat = (
        (mean_of(values[alive]), split_rhat(values[alive])) if usable else (UNKNOWN, np.nan)
    )
    heat, error = _heat(trace, alive) if usable else (0.0, 0.0)
    mean = mean.corrected(heat, error)
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


def _heat(trace: Trace, alive: np.ndarray) -> tuple[float, float]:
    """The heat and its standard error, that of first order included."""
    heating = trace.heating[alive].astype(np.float64)
    if not heating.size:
        return 0.0, 0.0
    value, chains = float(heating.mean()), heating.mean(1)
    scatter = chains.std(ddof=1) / np.sqrt(len(chains)) if len(chains) > 1 else 0.0
    return value, float(np.hypot(scatter, HEATING_ERROR * value))
