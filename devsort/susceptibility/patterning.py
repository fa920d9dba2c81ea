"""Patterning: which shift of the data has a wanted effect, to first order (arXiv 2601.13548).

A shift h over parts of the data changes observables φ by nβ χ h. The smallest h with the wanted
change d solves χ h = d; of measured χ it is the regularised

    h = χᵀ (χ χᵀ + Λ)⁻¹ d,    Λ = diag(Σ_x se²),

for the noise of χ adds Λ to χ χᵀ on average. Rows are brought to one scale first, so that d is in
units of each observable's largest response.
"""

import numpy as np

from devsort.susceptibility.response import Response

FLOOR = 1e-12  # of a row's scale, against an observable that answers to nothing


def shift(response: Response, wanted: np.ndarray) -> np.ndarray:
    """The direction of the data's shift (N,), of length 1.

    Args:
        response: χ of M observables to N parts.
        wanted: (M,) wanted changes; 0 holds an observable where it is.
    """
    scale = np.maximum(np.abs(response.value).max(1, keepdims=True), FLOOR)
    chi, noise = response.value / scale, (response.se / scale) ** 2
    h = chi.T @ np.linalg.solve(chi @ chi.T + np.diag(noise.sum(1)), wanted)
    return h / max(float(np.linalg.norm(h)), FLOOR)


def weights(h: np.ndarray, members: np.ndarray, size: float, bound: float) -> np.ndarray:
    """Weights of examples of mean 1 that shift the data along h: (n,).

    1 + s Σ_x h_x m_x, m the centred membership, cut off at 1/bound and bound, with the s that gives
    the weights the standard deviation `size` before they are cut.

    Args:
        h: (N,) the shift.
        members: (n, N) bool, which example belongs to which part.
        size: Standard deviation of the weights.
        bound: Largest weight, and the inverse of the smallest, before the mean is brought to 1.
    """
    along = (members - members.mean(0)) @ h
    steep = size / max(float(along.std()), FLOOR)
    cut = np.clip(1 + steep * along, 1 / bound, bound)
    return cut / cut.mean()


def predicted(response: Response, members: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """χ of each observable along what the weights do to the parts (M,), per nβ.

    The shift of L is Σ_i (w_i − 1) ℓ_i / n. Its projection on the parts has the coefficients of
    least squares of w − 1 on their membership.
    """
    centred = members - members.mean(0)
    coefficient = np.linalg.lstsq(centred, weight - 1, rcond=None)[0]
    return response.value @ (coefficient * members.mean(0))
