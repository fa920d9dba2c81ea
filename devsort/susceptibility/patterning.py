"""Patterning: which shift of the data has a wanted effect, to first order (arXiv 2601.13548).

A shift h over parts of the data changes observables φ by nβ χ h. The smallest h with the wanted
change d solves χ h = d; of measured χ it is the regularised

    h = χᵀ (χ χᵀ + Λ)⁻¹ d,    Λ = diag(Σ_x se²),

for the noise of χ adds Λ to χ χᵀ on average. Rows are brought to one scale first, so that d is in
units of each observable's largest response.
"""

from dataclasses import dataclass

import numpy as np

from devsort.susceptibility.response import Response

FLOOR = 1e-12  # smallest scale of a row, for an observable that responds to nothing


def shift(response: Response, wanted: np.ndarray) -> np.ndarray:
    """The direction in which to shift the data (N,), of length 1.

    Args:
        response: χ of M observables to N parts.
        wanted: (M,) wanted changes; 0 keeps an observable as it is.
    """
    scale = np.maximum(np.abs(response.value).max(1, keepdims=True), FLOOR)
    chi, noise = response.value / scale, (response.se / scale) ** 2
    h = chi.T @ np.linalg.solve(chi @ chi.T + np.diag(noise.sum(1)), wanted)
    return h / max(float(np.linalg.norm(h)), FLOOR)


@dataclass(frozen=True)
class Tilt:
    """Weights of examples by the parts that they belong to, 1 + (m − m̄)·slope within bounds.

    Attributes:
        mean: (N,) m̄, share of the examples that belong to each part.
        slope: (N,).
        bound: Largest weight, and the inverse of the smallest.
    """

    mean: np.ndarray
    slope: np.ndarray
    bound: float

    @classmethod
    def along(cls, h: np.ndarray, members: np.ndarray, size: float, bound: float) -> "Tilt":
        """Weights that shift the data along h.

        Args:
            h: (N,) the shift; zero leaves the data as they are.
            members: (n, N) bool, which example belongs to which part.
            size: Standard deviation of the weights before they are cut.
            bound: See the class.
        """
        mean = members.mean(0)
        spread = float(((members - mean) @ h).std())
        return cls(mean, h * (size / max(spread, FLOOR)), bound)

    def __call__(self, members: np.ndarray) -> np.ndarray:
        """The weights (n,) of examples with these parts (n, N)."""
        return np.clip(1 + (members - self.mean) @ self.slope, 1 / self.bound, self.bound)


def predicted(response: Response, members: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """χ of each observable along what the weights do to the parts (M,), per nβ.

    The shift of L is Σ_i (w_i − 1) ℓ_i / n, w of mean 1. Its projection on the parts has the
    coefficients of least squares of w − 1 on their membership.

    Args:
        response: χ of M observables to N parts.
        members: (n, N) bool, which example belongs to which part.
        weight: (n,) of each example.
    """
    centred, moved = members - members.mean(0), weight / weight.mean() - 1
    coefficient = np.linalg.lstsq(centred, moved, rcond=None)[0]
    return response.value @ (coefficient * members.mean(0))
