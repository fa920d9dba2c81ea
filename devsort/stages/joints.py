"""The candidate joints of a piecewise-linear curve, and their inner products.

    f(x) = a + b x + Σ_k c_k φ_k(x)
    φ(x) = max(x − ψ, 0) for a hinge,  1(x > ψ) for a jump,  1(x = x_i) for a spike

x is log10(step), and ψ is in decades. A spike removes point i from the fit, as an outlier. After
the noise has been whitened and the base a + b x projected out, a fit needs only the inner products
of its joints.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from devsort.stages.config import StagesConfig
from devsort.stages.noise import Noise

GRID = 400  # candidate hinges over the whole window: 0.01 decades apart in a window of four
# one point in 20 may be a spike, and at least two points: outliers are rare
SPARSE, FEWEST = 20, 2
MOST = 20  # the most hinges and jumps
SHORTEST = 0.04  # the shortest stage in decades: a tenth of its step
RIDGE = 1e-11  # relative increase of squared lengths that keeps the inner products non-singular
CALIBRATED = 40  # number of checkpoints for which the penalties are calibrated


@dataclass(frozen=True)
class Joints:
    """Candidate joints for S signals of n points: hinges, then jumps, then spikes.

    Each kind is in order of position.

    Attributes:
        position: (M,) ψ in decades.
        jump: (M,) true for a jump.
        spike: (M,) true for a spike.
        rank: (M,) number of points to the left.
        cost: (M,) gain in log-likelihood units that a joint must give.
        min_points: The fewest points between two joints; at both ends of the trajectory, one more.
        noise: The noise, which whitens values.
        base: (S, n, 2) orthonormal columns that span the whitened constant and line.
        columns: (S, n, M) whitened columns with the base projected out.
        products: (S, M, M) inner products of the columns.
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
        """The number of points, n."""
        return self.base.shape[1]

    @cached_property
    def norm(self) -> np.ndarray:
        """(S, M) squared lengths of the columns."""
        return np.einsum("smm->sm", self.products).copy()

    def apart(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Whether candidates are far enough to the right of others to end a stage."""
        points = self.rank[right] - self.rank[left]
        width = self.position[right] - self.position[left]
        return (points >= self.min_points) & (width >= SHORTEST)

    @cached_property
    def near(self) -> np.ndarray:
        """(M, M) whether two candidates are too close to each other. Spikes never are."""
        every = np.arange(len(self.rank))
        far = self.apart(every, every[:, None])
        return ~(far | far.T | self.spike | self.spike[:, None])

    def without_base(self, white: np.ndarray) -> np.ndarray:
        """Returns whitened values (S, n, m) with the base projected out."""
        return white - self.base @ (np.swapaxes(self.base, 1, 2) @ white)


def raw_columns(x: np.ndarray, position: np.ndarray, jump: np.ndarray) -> np.ndarray:
    """Returns (n, k), the values of φ_k at x."""
    return np.where(jump, x[:, None] > position, np.maximum(x[:, None] - position, 0.0))


def raw_base(x: np.ndarray) -> np.ndarray:
    """Returns (n, 2), a constant and a line."""
    return np.stack([np.ones_like(x), x], 1)


def candidates(
    x: np.ndarray, y: np.ndarray, noise: Noise, config: StagesConfig, spikes: bool = False
) -> Joints:
    """Returns hinges on a fine grid, one jump per cell of the grid, and a spike at each point.

    The jump of a cell is in the middle of the gap with the largest change of the values.

    Args:
        x: (n,) positions in decades.
        y: (S, n) values.
        noise: Noise of the values.
        config: Penalties, and the smallest number of points between joints.
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
    """Returns the middles of gaps between points, one for each cell of the grid that has any."""
    middle, leap = (x[1:] + x[:-1]) / 2, np.abs(np.diff(y)).max(0)
    cell = np.searchsorted(grid, middle)
    order = np.lexsort((leap, cell))  # by cell, the largest leap last
    last = np.append(np.diff(cell[order]) > 0, True)
    return middle[order[last]]


def _white(x: np.ndarray, raw: np.ndarray, noise: Noise) -> tuple[np.ndarray, np.ndarray]:
    """Returns the base and the columns of `Joints`."""
    signals = len(noise.s)
    base = np.linalg.qr(noise.whiten(np.stack([raw_base(x)] * signals)))[0]
    columns = noise.whiten(np.stack([raw] * signals))
    return base, columns - base @ (np.swapaxes(base, 1, 2) @ columns)


def costs(n: int, config: StagesConfig, signals: int = 1) -> tuple[float, float, float]:
    """Returns the costs of a hinge, a jump and a spike on n points of some signals.

    A joint has one position and one coefficient per signal, so with S signals it costs (1 + S)/2
    times as much as with one.

    There are about log n independent positions at which noise can look like a hinge, and n for a
    jump or a spike. The largest of m values of χ² grows as 2 log m. The penalties of the config are
    valid for `CALIBRATED` points.
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
    """Returns the largest number of joints: each needs three points, and the line needs four."""
    return min(most, max(0, (points - 4) // 3))


def allowed(joints: Joints, chosen: list[int]) -> np.ndarray:
    """Returns the candidates that can be added: far enough from the other joints.

    Spikes are among them only while there are fewer than allowed.
    """
    spikes = int(joints.spike[chosen].sum())
    most = min(max(FEWEST, joints.points // SPARSE), most_joints(joints.points, joints.points))
    ok = ~joints.spike | (spikes < most)
    return np.flatnonzero(ok & ~joints.near[chosen].any(0))
