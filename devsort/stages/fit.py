"""A fit of a trajectory: a continuous piecewise-linear curve with jumps, under correlated noise."""

from dataclasses import dataclass

import numpy as np

from devsort.stages import hinges


@dataclass(frozen=True)
class Fit:
    """A continuous piecewise-linear fit with jumps.

    Attributes:
        x: (n,) positions of the points that were used, in decades.
        s: (S, n) standard errors used, smoothed.
        y: (S, n) values.
        z: (S, n) whitened values.
        candidates: The joints that could be chosen.
        chosen: Indices of the joints, in order of position.
        length: ℓ in decades.
        scale: φ, factor on the standard errors.
        score: The objective with its penalties; the least is best.
        used: (N,) which points of the trajectory were used; the others are outliers.
    """

    x: np.ndarray
    s: np.ndarray
    y: np.ndarray
    z: np.ndarray
    candidates: hinges.Dictionary
    chosen: list[int]
    length: float
    scale: float
    score: float
    used: np.ndarray

    @property
    def position(self) -> np.ndarray:
        """(k,) ψ in decades."""
        return self.candidates.position[self.chosen]

    @property
    def jump(self) -> np.ndarray:
        """(k,) true for a jump."""
        return self.candidates.jump[self.chosen]


def curve(model: Fit) -> np.ndarray:
    """(S, n) fitted values at the points."""
    raw = design(model.x, model.position, model.jump)
    return coefficients(model, model.z, model.chosen) @ raw.T


def design(x: np.ndarray, position: np.ndarray, jump: np.ndarray) -> np.ndarray:
    """(n, 2+k) columns 1, x, φ_1, …"""
    return np.concatenate([hinges.raw_base(x), hinges.raw_columns(x, position, jump)], 1)


def coefficients(model: Fit, z: np.ndarray, chosen: list[int]) -> np.ndarray:
    """(S, 2+k) least-squares coefficients of whitened values z (S, n)."""
    d = model.candidates
    white = np.concatenate([d.base, d.columns[:, :, chosen]], 2)
    return np.stack(
        [np.linalg.lstsq(w, one, rcond=None)[0] for w, one in zip(white, z, strict=True)]
    )
