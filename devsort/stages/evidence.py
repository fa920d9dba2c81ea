"""How well a curve explains a trajectory when the size of the noise is unknown.

χ² is the sum of squares of n whitened residuals, whose noise has standard deviation φ. There are
two priors for φ:

    as reported   φ² ~ scaled inverse χ²(ν, 1)
                  −2 log p = (n+ν) log(χ²+ν) − 2 log Γ((n+ν)/2) + 2 log Γ(ν/2) − ν log ν + n log π
    unknown       log φ uniform over a range of N = log(10⁴)
                  −2 log p = n log χ² − 2 log Γ(n/2) + 2 log(2N) + n log π

If the reported errors are right, the first prior adds power. If they are wrong, the second explains
the data better, and the reported errors have no influence.
"""

from dataclasses import dataclass
from functools import cached_property
from math import lgamma

import numpy as np

PRIOR_POINTS = 10.0  # ν: the number of points that the reported standard errors count for
RANGE = np.log(1e4)  # N


@dataclass(frozen=True)
class Evidence:
    """−2 log p as a function of χ², for signals of n points each.

    Attributes:
        points: n.
        reported: (S,) whether the size of the noise of a signal was reported.
        least: (S,) the smallest plausible χ²; smaller values are replaced by it.
    """

    points: int
    reported: np.ndarray
    least: np.ndarray

    def __call__(self, chi2: np.ndarray) -> np.ndarray:
        """Returns (…), the sum over signals of the smaller of both, for χ² of shape (…, S)."""
        chi2 = np.maximum(chi2, self.least)
        unknown = self._unknown(chi2)
        if self.reported.any():
            as_reported = np.where(self.reported, self._as_reported(chi2), np.inf)
            unknown = np.minimum(unknown, as_reported)
        return unknown.sum(-1)

    def scale(self, chi2: np.ndarray, parameters: int) -> np.ndarray:
        """Returns φ (S,) under the prior that explains χ² better."""
        chi2 = np.maximum(chi2, self.least)
        left = max(self.points - parameters, 1)
        honest = self.reported & (self._as_reported(chi2) <= self._unknown(chi2))
        weight = np.where(honest, PRIOR_POINTS, 0.0)
        return np.sqrt((chi2 + weight) / (left + weight))

    def _unknown(self, chi2: np.ndarray) -> np.ndarray:
        return self.points * np.log(chi2) + self._constants[0]

    def _as_reported(self, chi2: np.ndarray) -> np.ndarray:
        weight = self.points + PRIOR_POINTS
        return weight * np.log(chi2 + PRIOR_POINTS) + self._constants[1]

    @cached_property
    def _constants(self) -> tuple[float, float]:
        n, v = self.points, PRIOR_POINTS
        unknown = 2 * np.log(2 * RANGE) - 2 * lgamma(n / 2)
        reported = 2 * lgamma(v / 2) - 2 * lgamma((n + v) / 2) - v * np.log(v)
        return unknown + n * np.log(np.pi), reported + n * np.log(np.pi)
