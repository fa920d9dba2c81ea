"""Linear splines with free joints under correlated noise: the arithmetic behind `piecewise`.

    f(x) = a + b x + Σ_k c_k φ_k(x)
    φ(x) = max(x − ψ, 0) for a hinge,  1(x > ψ) for a jump,  1(x = x_i) for a spike
    y_i = f(x_i) + φ s_i η_i,  corr(η_i, η_j) = exp(−|x_i − x_j| / ℓ)

x is log10(step), y and s are in nats, ψ and ℓ in decades. A spike takes point i out of the fit: it
is an outlier. With ℓ and s given, multiplying by a bidiagonal matrix makes the noise white, and
each candidate can be scored by one inner product (orthogonal matching pursuit).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

GRID = 400  # candidate hinges over the whole window: 0.01 decades in a window of four
# one point in 20 may be a spike, and two in any case: what is more frequent is no outlier
SPARSE, FEWEST = 20, 2
PATIENCE = 3  # joints in a row that may cost more than they earn before the search ends
SWEEPS = 2  # times that each joint is placed anew while the others stay


@dataclass(frozen=True)
class Dictionary:
    """Candidate joints and their columns, whitened for S signals.

    Attributes:
        position: (M,) ψ in decades, hinges first, then jumps, then spikes.
        jump: (M,) true for a jump.
        spike: (M,) true for a spike.
        rank: (M,) how many points lie to the left.
        columns: (S, n, M) whitened φ.
        base: (S, n, 2) whitened constant and line.
        cost: (M,) what a joint must earn, in units of χ².
        min_points: Points that must lie between two joints; outside the outermost it is one more.
    """

    position: np.ndarray
    jump: np.ndarray
    spike: np.ndarray
    rank: np.ndarray
    columns: np.ndarray
    base: np.ndarray
    cost: np.ndarray
    min_points: int

    @property
    def points(self) -> int:
        """n."""
        return self.base.shape[1]


def whiten(values: np.ndarray, x: np.ndarray, s: np.ndarray, length: float) -> np.ndarray:
    """Makes the noise white.

    Rows are (v_i/s_i − a_i v_{i−1}/s_{i−1}) / sqrt(1 − a_i²), a_i = exp(−(x_i − x_{i−1})/ℓ).

    Args:
        values: (n,) or (n, m).
        x: (n,) positions in decades, increasing.
        s: (n,) standard errors.
        length: ℓ in decades; 0 for independent noise.
    """
    z = (values.T / s).T
    if length == 0:
        return z
    a = np.exp(-np.diff(x) / length)
    out = z.copy()
    out[1:] = ((z[1:].T - a * z[:-1].T) / np.sqrt(1 - a**2)).T
    return out


def colour(white: np.ndarray, x: np.ndarray, s: np.ndarray, length: float) -> np.ndarray:
    """The inverse of `whiten` for (n, m)."""
    z = white.copy()
    if length > 0:
        a = np.exp(-np.diff(x) / length)
        for i in range(1, len(x)):
            z[i] = a[i - 1] * z[i - 1] + np.sqrt(1 - a[i - 1] ** 2) * white[i]
    return (z.T * s).T


def log_determinant(x: np.ndarray, length: float) -> float:
    """log det of the correlation matrix of the noise."""
    return float(np.log1p(-np.exp(-2 * np.diff(x) / length)).sum()) if length > 0 else 0.0


def raw_columns(x: np.ndarray, position: np.ndarray, jump: np.ndarray) -> np.ndarray:
    """(n, k) values of φ_k at x."""
    return np.where(jump, x[:, None] > position, np.maximum(x[:, None] - position, 0.0))


def raw_base(x: np.ndarray) -> np.ndarray:
    """(n, 2) constant and line."""
    return np.stack([np.ones_like(x), x], 1)


def dictionary(
    x: np.ndarray, s: np.ndarray, length: float, min_points: int, costs: Sequence[float]
) -> Dictionary:
    """Candidates for joints.

    Hinges on a fine grid, jumps in the middle of each gap between points, a spike at each point.

    Args:
        x: (n,) positions in decades.
        s: (S, n) standard errors of each signal.
        length: ℓ in decades.
        min_points: See `Dictionary`.
        costs: What a hinge, a jump and a spike must earn; no spikes if the third is left out.
    """
    hinges, jumps = np.linspace(x[0], x[-1], GRID), (x[1:] + x[:-1]) / 2
    position = np.concatenate([hinges, jumps])
    jump = np.arange(len(position)) >= len(hinges)
    rank = np.searchsorted(x, position)
    inside = (rank > min_points) & (rank < len(x) - min_points)
    position, jump, rank = position[inside], jump[inside], rank[inside]
    raw, cost = raw_columns(x, position, jump), np.where(jump, costs[1], costs[0])
    spikes = np.arange(len(x) if len(costs) > 2 else 0)
    raw = np.concatenate([raw, np.eye(len(x))[:, spikes]], 1)
    return Dictionary(
        np.concatenate([position, x[spikes]]),
        np.pad(jump, (0, len(spikes))),
        np.arange(raw.shape[1]) >= len(position),
        np.concatenate([rank, spikes]),
        np.stack([whiten(raw, x, one, length) for one in s]),
        np.stack([whiten(raw_base(x), x, one, length) for one in s]),
        np.concatenate([cost, np.full(len(spikes), costs[-1])]),
        min_points,
    )


def chi2(d: Dictionary, z: np.ndarray, chosen: list[int]) -> np.ndarray:
    """(S,) residual sum of squares of whitened values z (S, n) with the chosen joints."""
    return (_residual(d, z, chosen)[1] ** 2).sum(1)


def penalised(d: Dictionary, z: np.ndarray, chosen: list[int]) -> float:
    """χ² summed over signals plus the cost of the joints."""
    return float(chi2(d, z, chosen).sum() + d.cost[chosen].sum())


def _residual(d: Dictionary, z: np.ndarray, chosen: list[int]) -> tuple[np.ndarray, np.ndarray]:
    design = np.concatenate([d.base, d.columns[:, :, chosen]], 2)
    q = np.linalg.qr(design)[0]  # (S, n, 2+k)
    return q, z - np.einsum("snk,sk->sn", q, np.einsum("snk,sn->sk", q, z))


def best_candidate(
    d: Dictionary, z: np.ndarray, chosen: list[int], allowed: np.ndarray
) -> tuple[int, float]:
    """The candidate that lowers χ² most beside the chosen ones.

    It lowers χ² by (r·c)² / |c − QQᵀc|², summed over signals.

    Returns:
        Its index and the gain; (−1, 0) if none is allowed.
    """
    index = np.flatnonzero(allowed)
    if not len(index):
        return -1, 0.0
    q, r = _residual(d, z, chosen)
    columns = d.columns[:, :, index]
    norm = (columns**2).sum(1)  # (S, M)
    left = norm - ((np.swapaxes(q, 1, 2) @ columns) ** 2).sum(1)
    gain = np.where(
        left > 1e-6 * norm, (r[:, None] @ columns)[:, 0] ** 2 / np.maximum(left, 1e-300), 0.0
    ).sum(0)
    best = int(np.argmax(gain - d.cost[index]))
    return int(index[best]), float(gain[best])


def allowed(d: Dictionary, chosen: list[int]) -> np.ndarray:
    """(M,) candidates with enough points between joints.

    Spikes only where there may be more of them.
    """
    ok = ~d.spike | (d.spike[chosen].sum() < max(FEWEST, d.points // SPARSE))
    for j in chosen:
        if not d.spike[j]:
            ok &= d.spike | (np.abs(d.rank - d.rank[j]) >= d.min_points)
    return ok


def sweep(
    d: Dictionary, z: np.ndarray, chosen: list[int], sweeps: int = SWEEPS, same_kind: bool = False
) -> list[int]:
    """Places each joint anew in turn while the others stay, until nothing moves.

    Args:
        d: Candidates.
        z: (S, n) whitened values.
        chosen: Indices of the joints.
        sweeps: Rounds at most.
        same_kind: Whether a hinge must stay a hinge, between its neighbours.
    """
    for _ in range(sweeps):
        before = list(chosen)
        for k in range(len(chosen)):
            rest = chosen[:k] + chosen[k + 1 :]
            mask = allowed(d, rest)
            if same_kind:
                mask &= _between(d, chosen, k) & (d.jump == d.jump[chosen[k]])
            j, _ = best_candidate(d, z, rest, mask)
            chosen = [*chosen[:k], j if j >= 0 else chosen[k], *chosen[k + 1 :]]
        if chosen == before:
            break
    return chosen


def _between(d: Dictionary, chosen: list[int], k: int) -> np.ndarray:
    here = d.position[chosen[k]]
    others = d.position[[j for i, j in enumerate(chosen) if i != k]]
    low = others[others < here].max(initial=-np.inf)
    high = others[others > here].min(initial=np.inf)
    return (d.position > low) & (d.position < high)


def path(d: Dictionary, z: np.ndarray, most: int) -> list[list[int]]:
    """The best set of joints found of each size 0…most.

    Forward selection, then backward elimination, with sweeps.
    """
    sets: list[list[int]] = [[]]
    for _ in range(most):
        j, gain = best_candidate(d, z, sets[-1], allowed(d, sets[-1]))
        if j < 0 or gain <= 0:
            break
        sets.append(sweep(d, z, [*sets[-1], j]))
        if len(sets) > PATIENCE and penalised(d, z, sets[-1]) > penalised(
            d, z, sets[-1 - PATIENCE]
        ):
            break
    chosen = sets[-1]
    for k in range(len(sets) - 2, 0, -1):
        trials = [chosen[:i] + chosen[i + 1 :] for i in range(len(chosen))]
        chosen = sweep(d, z, min(trials, key=lambda t: penalised(d, z, t)))
        if penalised(d, z, chosen) < penalised(d, z, sets[k]):
            sets[k] = chosen
        else:
            chosen = sets[k]
    return [sorted(s, key=lambda j: d.position[j]) for s in sets]
