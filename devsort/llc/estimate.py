"""From draws to the local learning coefficient: λ̂ = nβ (mean L(w) − L(w*)), its error, and what is wrong with it.

L(w) − L(w*) is taken draw by draw on the chain's own minibatch, so minibatch noise cancels to first order.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student_t

from devsort.llc.flags import Context, Diagnostics, diagnose
from devsort.sampling.trace import Trace


@dataclass(frozen=True)
class Estimate:
    """λ̂ and its evidence.

    Attributes:
        llc: λ̂, mean over chains; NaN (withheld) if a chain died.
        se: Standard error of λ̂: root mean square of the error between chains and of the error by autocorrelation.
        ci95: 95 % interval, λ̂ ± t_{2(C−1)} se.
        llc_chain: (C,) λ̂ of each chain.
        rhat: Rank-normalised split R-hat (Vehtari et al. 2021).
        ess: Effective number of draws behind the mean.
        chains_failed: Chains that died.
        diagnostics: Numbers behind the flags.
        flags: Names of what is wrong, see `devsort.llc.flags`; empty for a healthy estimate.
    """

    llc: float
    se: float
    ci95: tuple[float, float]
    llc_chain: np.ndarray
    rhat: float
    ess: float
    chains_failed: int
    diagnostics: Diagnostics
    flags: tuple[str, ...]


def estimate(trace: Trace, context: Context, allow_dead: bool = False) -> Estimate:
    """Estimates λ̂ from a trace.

    The variance of the mean is estimated twice: between the C chains, with C − 1 degrees of freedom, and from
    autocorrelation through the effective sample size. Their mean is taken, and the interval uses Student's t with
    2 (C − 1) degrees of freedom; docs/sampling.md has the measured coverage. With one chain only the second is there.

    Args:
        trace: Draws of C chains.
        context: nβ and the other settings that the flags need.
        allow_dead: Estimate from the surviving chains even if some died, which is biased.
    """
    values = context.n_beta * trace.rise.astype(np.float64)  # (C, T)
    llc_chain = values.mean(1)
    alive = ~trace.dead
    usable = bool(alive.all()) or (allow_dead and bool(alive.any()))
    rhat, ess, mcse = _mixing(values[alive]) if usable else (np.nan, np.nan, np.nan)
    llc = float(llc_chain[alive].mean()) if usable else np.nan
    se = _standard_error(llc_chain[alive], mcse) if usable else np.nan
    half = float(student_t.ppf(0.975, max(1, 2 * (int(alive.sum()) - 1))) * se)
    diagnostics, flags = diagnose(trace, context, llc, half, rhat)
    failed = int((~alive).sum())
    return Estimate(llc, se, (llc - half, llc + half), llc_chain, rhat, ess, failed, diagnostics, flags)


def _standard_error(llc_chain: np.ndarray, mcse: float) -> float:
    if len(llc_chain) < 2:
        return mcse
    between = llc_chain.var(ddof=1) / len(llc_chain)
    return float(np.sqrt((between + mcse**2) / 2)) if np.isfinite(mcse) else float(np.sqrt(between))


def _mixing(values: np.ndarray) -> tuple[float, float, float]:
    """R-hat, ESS of the mean and its Monte Carlo standard error; NaN where there are too few draws (below 4)."""
    if values.shape[1] < 4 or np.ptp(values) == 0:
        return np.nan, np.nan, np.nan
    from arviz_stats.base import array_stats

    axes = {"chain_axis": 0, "draw_axis": 1}
    rhat = float(array_stats.rhat(values, **axes)) if len(values) > 1 else np.nan
    ess = float(array_stats.ess(values, method="mean", **axes))
    return rhat, ess, float(array_stats.mcse(values, method="mean", **axes))
