"""The joints that a broken line may have, and their inner products.

    f(x) = a + b x + Σ_k c_k φ_k(x)
    φ(x) = max(x − ψ, 0) for a hinge,  1(x > ψ) for a jump,  1(x = x_i) for a spike

x is log10(step) and ψ in decades. A spike takes point i out of the fit: it is an outlier. With the
noise made white and the base a + b x taken out, a fit needs the inner products of its joints alone.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from devsort.stages.config import StagesConfig
from devsort.stages.noise import Noise

GRID = 400  # candidate hinges over the whole window: 0.01 decades in a window of four
# one point in 20 may be a spike, and two in any case: what is more frequent is no outlier
SPARSE, FEWEST = 20, 2
MOST = 20  # hinges and jumps
SHORTEST = 0.04  # decades of a stage: it lasts a tenth of its step
RIDGE = 1e-11  # of its squared length, added to it, so that no inner products are singular
CALIBRATED = 40  # checkpoints at which the penalties hold


@dataclass(frozen=True)
class Joints:
    """Candidates for joints of S signals of n points: hinges, jumps, spikes, each by position.

    Attributes:
        position: (M,) ψ in decades.
        jump: (M,) true for a jump.
        spike: (M,) true for a spike.
        rank: (M,) how many points lie to the left.
        cost: (M,) log-likelihood units that a joint must earn.
        min_points: Points that must lie between two joints; outside the outermost it is one more.
        noise: What makes values white.
        base: (S, n, 2) orthonormal columns that span the white constant and line.
        columns: (S, n, M) white columns without their part along the base.
        products: (S, M, M) their inner products.
    """

    position: np.ndarray
    jump: np.ndarray
    spike: np.ndarray
    rank: np.ndarray
    cost: np.ndarray
    min_points: int
    noise: Noise
    base: np.ndarray
    columns: np.ndarray
    products: np.ndarray

    @property
    def points(self) -> int:
        """n."""
        return self.base.shape[1]

    @cached_property
    def norm(self) -> np.ndarray:
        """(S, M) squared lengths of the columns."""
        return np.einsum("smm->sm", self.products).copy()

    def apart(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Whether candidates lie far enough to the right of others to end a stage."""
        points = self.rank[right] - self.rank[left]
        width = self.position[right] - self.position[left]
        return (points >= self.min_points) & (width >= SHORTEST)

    @cached_property
    def near(self) -> np.ndarray:
        """(M, M) whether two candidates lie too near to each other; spikes are near to none."""
        every = np.arange(len(self.rank))
        far = self.apart(every, every[:, None])
        return ~(far | far.T | self.spike | self.spike[:, None])

    def without_base(self, white: np.ndarray) -> np.ndarray:
        """(S, n, m) white values without their part along the base."""
        return white - self.base @ (np.swapaxes(self.base, 1, 2) @ white)


def raw_columns(x: np.ndarray, position: np.ndarray, jump: np.ndarray) -> np.ndarray:
    """(n, k) values of φ_k at x."""
    return np.where(jump, x[:, None] > position, np.maximum(x[:, None] - position, 0.0))


def raw_base(x: np.ndarray) -> np.ndarray:
    """(n, 2) constant and line."""
    return np.stack([np.ones_like(x), x], 1)


def candidates(
    x: np.ndarray, y: np.ndarray, noise: Noise, config: StagesConfig, spikes: bool = False
) -> Joints:
    """Hinges on a fine grid, a jump in each of its cells, a spike at each point.

    The jump of a cell lies in the middle of the gap over which the values leap most.

    Args:
        x: (n,) positions in decades.
        y: (S, n) values.
        noise: Of the values.
        config: Penalties, and the least number of points between joints.
        spikes: Whether points may be outliers.
    """
    grid = np.linspace(x[0], x[-1], GRID)
    position = np.concatenate([grid, _jumps(x, y / noise.s, grid)])
    jump = np.arange(len(position)) >= GRID
    rank = np.searchsorted(x, position)
    inside = (rank > config.min_points) & (rank < len(x) - config.min_points)
    inside &= (position >= x[0] + SHORTEST) & (position <= x[-1] - SHORTEST)
    position, jump, rank = position[inside], jump[inside], rank[inside]
    count = len(x) if spikes else 0
    raw = np.concatenate([raw_columns(x, position, jump), np.eye(len(x))[:, :count]], 1)
    hinge, step, off = costs(len(x), config, len(noise.s))
    base, columns = _white(x, raw, noise)
    return Joints(
        position=np.concatenate([position, x[:count]]),
        jump=np.pad(jump, (0, count)),
        spike=np.arange(raw.shape[1]) >= len(position),
        rank=np.concatenate([rank, np.arange(count)]),
        cost=np.concatenate([np.where(jump, step, hinge), np.full(count, off)]),
        min_points=config.min_points,
        noise=noise,
        base=base,
        columns=columns,
        products=np.swapaxes(columns, 1, 2) @ columns * (1 + RIDGE * np.eye(raw.shape[1])),
    )


def _jumps(x: np.ndarray, y: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Middles of gaps between points, one in each cell of the grid that has any."""
    middle, leap = (x[1:] + x[:-1]) / 2, np.abs(np.diff(y)).max(0)
    cell = np.searchsorted(grid, middle)
    order = np.lexsort((leap, cell))  # by cell, the largest leap last
    last = np.append(np.diff(cell[order]) > 0, True)
    return middle[order[last]]


def _white(x: np.ndarray, raw: np.ndarray, noise: Noise) -> tuple[np.ndarray, np.ndarray]:
    """Base and columns of `Joints`."""
    signals = len(noise.s)
    base = np.linalg.qr(noise.whiten(np.stack([raw_base(x)] * signals)))[0]
    columns = noise.whiten(np.stack([raw] * signals))
    return base, columns - base @ (np.swapaxes(base, 1, 2) @ columns)


def costs(n: int, config: StagesConfig, signals: int = 1) -> tuple[float, float, float]:
    """What a hinge, a jump and a spike must earn on n points of some signals.

    A joint has one position, and a number for each signal: with S of them it costs (1 + S)/2 times
    as much.

    Chance has about log n independent places for a hinge and n for a jump or a spike; the largest
    of m values of χ² grows by 2 log m. The penalties are those at `CALIBRATED` points.
    """
    more = max(1.0, n / CALIBRATED)
    places = 2 * np.log(more)
    hinge = 2 * np.log(np.log(more * CALIBRATED) / np.log(CALIBRATED))
    more_numbers = (1 + signals) / 2
    spike = config.outlier**2 + places
    return (
        more_numbers * (config.penalty + hinge),
        more_numbers * (config.jump_penalty + places),
        spike,
    )


def most_joints(points: int, most: int = MOST) -> int:
    """How many joints so many points may have: three of them for each, and four more."""
    return min(most, max(0, (points - 4) // 3))


def allowed(joints: Joints, chosen: list[int]) -> np.ndarray:
    """Candidates far enough from the other joints; spikes only where there may be more of them."""
    spikes = int(joints.spike[chosen].sum())
    most = min(max(FEWEST, joints.points // SPARSE), most_joints(joints.points, joints.points))
    ok = ~joints.spike | (spikes < most)
    return np.flatnonzero(ok & ~joints.near[chosen].any(0))
