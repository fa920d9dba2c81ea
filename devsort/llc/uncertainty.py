"""The error of a mean over draws of several chains.

It comes from the scatter between chains and from autocorrelation.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import stdtr, stdtrit  # scipy.stats takes half a second to import

FEWEST_DRAWS = 4  # that split chains need


@dataclass(frozen=True)
class Mean:
    """The mean of (C, T) draws.

    Attributes:
        value: Mean over draws and chains.
        se: Its standard error: root mean square of the error between chains and of the error by
            autocorrelation.
        dof: Degrees of freedom of `se`: 2 (C − 1); with one chain, the effective number of draws
            less one.
        ess: Effective number of draws behind the mean.
    """

    value: float
    se: float
    dof: float
    ess: float

    def half_width(self, share: float = 0.95) -> float:
        """Half of the central interval that holds the expectation with this probability."""
        return float(stdtrit(self.dof, (1 + share) / 2) * self.se)

    def p_zero(self) -> float:
        """p-value of an expectation of zero, two-sided; NaN where the error is not known."""
        with np.errstate(all="ignore"):
            return float(2 * stdtr(self.dof, -abs(np.divide(self.value, self.se))))

    def corrected(self, shift: float, error: float) -> "Mean":
        """The mean less a shift that is known up to a standard error of its own."""
        return replace(self, value=self.value - shift, se=float(np.hypot(self.se, error)))


UNKNOWN = Mean(np.nan, np.nan, np.nan, np.nan)


def mean_of(draws: np.ndarray) -> Mean:
    """The mean of (C, T) draws with its error.

    Both are NaN where there are too few draws, or values that are not finite. The variance of the
    mean is estimated twice: between the C chains, and from autocorrelation through the effective
    sample size. Their mean is taken; with one chain only the second is there.
    """
    C, ess = len(draws), _effective(draws)
    within = draws.var(ddof=1) / ess if np.isfinite(ess) else np.nan
    between = draws.mean(1).var(ddof=1) / C if C > 1 else np.nan
    variances = [v for v in (between, within) if np.isfinite(v)]
    se = float(np.sqrt(np.mean(variances))) if variances else np.nan
    return Mean(float(draws.mean()), se, 2 * (C - 1) if C > 1 else max(1.0, ess - 1), ess)


def split_rhat(draws: np.ndarray) -> float:
    """Rank-normalised split R-hat of (C, T) draws (Vehtari et al. 2021).

    Of one chain, R-hat of its two halves (Gelman & Rubin 1992). NaN for too few draws.
    """
    if not _varied(draws):
        return np.nan
    from arviz_stats.base import array_stats

    method = "rank"
    if len(draws) == 1:
        half = draws.shape[1] // 2
        draws, method = np.stack([draws[0, :half], draws[0, -half:]]), "identity"
        if half < FEWEST_DRAWS:
            return np.nan
    return float(array_stats.rhat(draws, chain_axis=0, draw_axis=1, method=method))


def _effective(draws: np.ndarray) -> float:
    if not _varied(draws):
        return np.nan
    from arviz_stats.base import array_stats

    return float(array_stats.ess(draws, method="mean", chain_axis=0, draw_axis=1))


def _varied(draws: np.ndarray) -> bool:
    return draws.shape[1] >= FEWEST_DRAWS and bool(np.isfinite(draws).all()) and np.ptp(draws) > 0
