"""The standard error of a mean over the draws of several chains.

It is estimated from the spread between chains and from the autocorrelation.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import stdtr, stdtrit  # scipy.stats takes half a second to import

FEWEST_DRAWS = 4  # the fewest draws for which split chains make sense


@dataclass(frozen=True)
class Mean:
    """The mean of (C, T) draws.

    Attributes:
        value: Mean over draws and chains.
        se: Its standard error: the root mean square of two estimates of it, from the spread between
            chains and from the autocorrelation.
        dof: Degrees of freedom of `se`: 2 (C − 1), or for one chain, the effective number of draws
            minus one; after a correction, see `corrected`.
        ess: Effective number of draws of the mean.
    """

    value: float
    se: float
    dof: float
    ess: float

    def half_width(self, share: float = 0.95) -> float:
        """Returns half the width of the interval that contains the expectation with probability
        `share`.
        """
        return float(stdtrit(self.dof, (1 + share) / 2) * self.se)

    def p_zero(self) -> float:
        """Returns the two-sided p-value of an expectation of zero; NaN if the error is unknown."""
        with np.errstate(all="ignore"):
            return float(2 * stdtr(self.dof, -abs(np.divide(self.value, self.se))))

    def corrected(self, shift: float, error: float = 0.0, dof: float = np.inf) -> "Mean":
        """Subtracts a shift that has a standard error of its own, independent of that of the mean.

        The errors add in quadrature, and 1/ν is the mean of their 1/ν weighted by the squared share
        of each in the variance (Welch–Satterthwaite).

        Args:
            shift: The shift.
            error: Its standard error.
            dof: Degrees of freedom ν of the error.
        """
        if not error:
            return replace(self, value=self.value - shift)
        se = float(np.hypot(self.se, error))
        own, other = (self.se / se) ** 2, (error / se) ** 2  # shares of the variance
        with np.errstate(divide="ignore"):
            total = float(np.divide(1.0, own**2 / self.dof + other**2 / dof))
        return replace(self, value=self.value - shift, se=se, dof=total)


UNKNOWN = Mean(np.nan, np.nan, np.nan, np.nan)


def mean_of(draws: np.ndarray) -> Mean:
    """Returns the mean of (C, T) draws with its standard error.

    The error is NaN if there are too few draws or values that are not finite. The variance of the
    mean is estimated twice: from the spread between the C chains, and from the autocorrelation, by
    the effective sample size. The result is the mean of the two; for one chain, it is the second.
    """
    C, ess = len(draws), _effective(draws)
    within = draws.var(ddof=1) / ess if np.isfinite(ess) else np.nan
    between = draws.mean(1).var(ddof=1) / C if C > 1 else np.nan
    variances = [v for v in (between, within) if np.isfinite(v)]
    se = float(np.sqrt(np.mean(variances))) if variances else np.nan
    return Mean(float(draws.mean()), se, 2 * (C - 1) if C > 1 else max(1.0, ess - 1), ess)


def split_rhat(draws: np.ndarray) -> float:
    """Returns the rank-normalised split R-hat of (C, T) draws (Vehtari et al. 2021).

    For one chain, it is R-hat of its two halves (Gelman & Rubin 1992). NaN for too few draws.
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
