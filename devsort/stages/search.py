"""The search for joints: forward selection and backward elimination.

After each change the other joints are moved to their best positions. Everything works on inner
products (see `joints`), so the cost does not depend on the number of points.
"""

from dataclasses import dataclass

import numpy as np

from devsort.stages.evidence import Evidence
from devsort.stages.joints import Joints, allowed, most_joints

PATIENCE = 4  # joints in a row that may cost more than they gain before the search ends
SWEEPS = 2  # number of times that each joint is moved while the others stay
DEPENDENT = 1e-7  # fraction of its squared length below which a column is linearly dependent


@dataclass(frozen=True)
class Target:
    """The white values z (S, n) to be explained, given by their inner products.

    Attributes:
        joints: The candidates.
        products: (S, M) inner products of the values with each candidate.
        total: (S,) squared length of the values with the base projected out.
        evidence: −2 log p as a function of χ².
    """

    joints: Joints
    products: np.ndarray
    total: np.ndarray
    evidence: Evidence

    def chi2(self, chosen: list[int]) -> np.ndarray:
        """Returns the residual sum of squares (S,) of a fit with the chosen joints."""
        own = self.products[:, None, chosen]  # (S, 1, k)
        explained = own @ inverse(self.joints, chosen) @ np.swapaxes(own, 1, 2)
        return np.maximum(self.total - explained[:, 0, 0], 0.0)

    def score(self, chosen: list[int]) -> float:
        """Returns −2 log p of the values, plus the cost of the joints."""
        return float(self.evidence(self.chi2(chosen)) + self.joints.cost[chosen].sum())


def target_of(joints: Joints, white: np.ndarray, evidence: Evidence) -> Target:
    """Returns the target for white values (S, n)."""
    rest = joints.without_base(white[..., None])[..., 0]
    products = (rest[:, None] @ joints.columns)[:, 0]
    return Target(joints, products, (rest**2).sum(1), evidence)


def inverse(joints: Joints, chosen: list[int]) -> np.ndarray:
    """Returns the inverse (S, k, k) of the inner products of the chosen joints."""
    return np.linalg.inv(joints.products[:, chosen][:, :, chosen])


def best_candidate(target: Target, chosen: list[int], index: np.ndarray) -> int:
    """Returns the candidate that lowers the score most when it is added to the chosen ones.

    It lowers the χ² of a signal by (r·c)² / |c|², where the chosen joints are projected out of r
    and c.

    Args:
        target: The values.
        chosen: The joints that are already chosen.
        index: (m,) candidates that are allowed.

    Returns:
        The index of the candidate; −1 if none is allowed.
    """
    if not len(index):
        return -1
    joints = target.joints
    own = target.products[:, None, chosen]  # (S, 1, k)
    along = joints.products[:, chosen]  # (S, k, M)
    solver = inverse(joints, chosen)
    solved = solver @ along
    free = joints.norm - (along * solved).sum(1)
    left = target.products - (own @ solved)[:, 0]
    dependent = free <= DEPENDENT * joints.norm
    fall = np.where(dependent, 0.0, left**2 / np.where(dependent, 1.0, free))
    before = target.total - (own @ solver @ np.swapaxes(own, 1, 2))[:, 0, 0]
    after = target.evidence(np.maximum(before - fall.T, 0.0)) + joints.cost
    after[dependent.any(0)] = np.inf
    best = int(index[np.argmin(after[index])])
    return best if np.isfinite(after[best]) else -1


def worths(target: Target, chosen: list[int]) -> np.ndarray:
    """Returns (k,), the increase of −2 log p if one joint is left out and the others stay."""
    solver = inverse(target.joints, chosen)
    solved = (solver @ target.products[:, chosen, None])[..., 0]
    lost = solved**2 / np.einsum("skk->sk", solver)
    chi2 = target.chi2(chosen)
    return target.evidence(chi2 + lost.T) - target.evidence(chi2)


def sweep(target: Target, chosen: list[int]) -> list[int]:
    """Moves each hinge and jump to its best position in turn, until nothing changes."""
    joints = target.joints
    for _ in range(SWEEPS):
        before = list(chosen)
        for k in np.flatnonzero(~joints.spike[chosen]):
            rest = chosen[:k] + chosen[k + 1 :]
            j = best_candidate(target, rest, allowed(joints, rest))
            chosen = [*chosen[:k], j if j >= 0 else chosen[k], *chosen[k + 1 :]]
        if chosen == before:
            break
    return chosen


def candidate_sets(target: Target) -> list[list[int]]:
    """Returns the sets of joints that the search visits, each in order of position.

    First they grow, then they shrink.
    """
    sets = _forward(target)
    chosen = sets[-1]
    while chosen:
        excess = target.joints.cost[chosen] - worths(target, chosen)
        weakest = int(np.argmax(excess))
        chosen = sweep(target, chosen[:weakest] + chosen[weakest + 1 :])
        sets.append(chosen)
    return [sorted(one, key=lambda j: target.joints.position[j]) for one in sets]


def _forward(target: Target) -> list[list[int]]:
    """Returns sets of 0, 1, … joints, where each adds the best candidate to the previous one."""
    joints, scores = target.joints, [target.score([])]
    sets: list[list[int]] = [[]]
    most = most_joints(joints.points)
    while True:
        free = allowed(joints, sets[-1])
        if (~joints.spike[sets[-1]]).sum() >= most:
            free = free[joints.spike[free]]
        j = best_candidate(target, sets[-1], free)
        if j < 0:
            return sets
        grown = [*sets[-1], j]
        sets.append(grown if joints.spike[j] else sweep(target, grown))
        scores.append(target.score(sets[-1]))
        if len(sets) > PATIENCE and min(scores[-PATIENCE:]) > min(scores):
            return sets
