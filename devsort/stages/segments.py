"""Segments of a fit: the stretches between corners, with rates and intervals.

A corner is one joint, or several adjacent joints that form a round corner. Its position is where
the lines on both sides meet: ψ = Σ c_k ψ_k / Σ c_k over its hinges, where c_k is the change of
slope at hinge k.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from devsort.stages.fit import Fit, coefficients, design
from devsort.stages.resample import Draws

Direction = Literal["rising", "falling", "flat"]
Corner = tuple[int, ...]  # ranks among the joints of a fit
INTERVAL = (0.025, 0.975)
INSIDE = 1e-9  # decades
STRONG = 0.95  # fraction of the resamples that contain a strong boundary


@dataclass(frozen=True)
class Boundary:
    """A boundary at 10**x steps.

    Attributes:
        x: Position in decades.
        low: Start of its 95 % interval.
        high: End of its 95 % interval.
        present: Fraction of resamples in which it gains more than the penalty.
        vanishes_at: Penalty in log-likelihood units above which it is not found.
        jump: Size of the jump there, in nats; None if there is no jump.
    """

    x: float
    low: float
    high: float
    present: float = 1.0
    vanishes_at: float = np.inf
    jump: float | None = None

    @property
    def strong(self) -> bool:
        """Whether nearly all resamples contain it."""
        return self.present >= STRONG


@dataclass(frozen=True)
class Segment:
    """The segment between two boundaries.

    Attributes:
        low: Start in decades.
        high: End in decades.
        rate: Mean rate over the segment, in nats per decade.
        rate_ci: 95 % interval of the rate.
        start: Fitted value at the start with its 95 % interval, in nats: (value, low, high).
        end: The same at the end.
        direction: rising or falling if the interval of the rate excludes 0, otherwise flat.
        edge_draws: (B, 2) start and end in the resamples, in decades.
        change_draws: (B,) change over the segment in the resamples, in nats.
    """

    low: float
    high: float
    rate: float
    rate_ci: tuple[float, float]
    start: tuple[float, float, float]
    end: tuple[float, float, float]
    direction: Direction
    edge_draws: np.ndarray = field(default_factory=lambda: np.empty((0, 2)), repr=False)
    change_draws: np.ndarray = field(default_factory=lambda: np.empty(0), repr=False)

    def __eq__(self, other: object) -> bool:
        """Whether two segments are equal, apart from their resamples."""
        names = ("low", "high", "rate", "rate_ci", "start", "end", "direction")
        return all(getattr(self, name) == getattr(other, name, None) for name in names)

    __hash__ = None  # type: ignore[assignment]  # as in any class with __eq__


@dataclass(frozen=True)
class Stretches:
    """The stretches between some corners, and their resamples.

    Attributes:
        edges: (m + 1,) edges in decades.
        ends: (S, m, 2) fitted values at start and end.
        rate: (S, m) mean rate.
        edge_draws: (B, m + 1) the edges in the resamples.
        end_draws: (B, S, m, 2) the fitted values in the resamples.
        rate_draws: (B, S, m) the mean rates in the resamples.
    """

    edges: np.ndarray
    ends: np.ndarray
    rate: np.ndarray
    edge_draws: np.ndarray
    end_draws: np.ndarray
    rate_draws: np.ndarray

    @property
    def interval(self) -> np.ndarray:
        """(2, S, m) 95 % intervals of the rates."""
        return np.quantile(self.rate_draws, INTERVAL, axis=0)

    def directions(self) -> np.ndarray:
        """Returns the directions (S, m): −1, 0 or 1."""
        low, high = self.interval
        return np.where(low > 0, 1, np.where(high < 0, -1, 0))


def stretches(model: Fit, draws: Draws, corners: list[Corner]) -> Stretches:
    """Returns the stretches between corners.

    The mean rate is (f(b) − f(a)) / (b − a), without any jumps at the ends.
    """
    fitted = coefficients(model, model.z[None], model.position[None])
    edges, ends = _ends(model, model.position[None], fitted, corners)
    edge_draws, end_draws = _ends(model, draws.position, draws.coefficients, corners)
    rate_draws = np.diff(end_draws)[..., 0] / np.diff(edge_draws)[:, None]
    rate = np.diff(ends)[0, ..., 0] / np.diff(edges[0])
    return Stretches(edges[0], ends[0], rate, edge_draws, end_draws, rate_draws)


def _ends(
    model: Fit, position: np.ndarray, coefficients: np.ndarray, corners: list[Corner]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns edges (B, m + 1), and values (B, S, m, 2) at both ends of each stretch, inside it.

    Args:
        model: The fit.
        position: (B, k) positions ψ of its joints.
        coefficients: (B, S, 2+k) coefficients of the curve.
        corners: The m − 1 corners.
    """
    bend = np.abs(coefficients[:, 0, 2:]) + 1e-300
    parts = [list(corner) for corner in corners]
    inner = [(bend * position)[:, c].sum(1) / bend[:, c].sum(1) for c in parts]
    outer = np.full((2, len(position)), [[model.x[0]], [model.x[-1]]])
    edges = np.stack([outer[0], *inner, outer[1]], 1)
    at = np.stack([edges[:, :-1] + INSIDE, edges[:, 1:] - INSIDE], -1)  # (B, m, 2)
    raw = design(at.reshape(len(at), -1), position, model.jump)
    values = coefficients @ np.swapaxes(raw, 1, 2)
    return edges, values.reshape(*coefficients.shape[:2], -1, 2)
