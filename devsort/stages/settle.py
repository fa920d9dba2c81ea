"""Fits the positions of joints to many resamples at once: a vectorized `search.sweep`."""

from dataclasses import dataclass

import numpy as np

from devsort.stages.fit import Fit
from devsort.stages.search import DEPENDENT, SWEEPS


@dataclass(frozen=True)
class Resamples:
    """The white values of B resamples, given by their inner products with the candidates.

    Attributes:
        model: The fit that was resampled.
        products: (S, B, M) inner products with the candidates.
        total: (S, B) squared lengths of the values with the base projected out.
    """

    model: Fit
    products: np.ndarray
    total: np.ndarray

    def inverse(self, chosen: np.ndarray) -> np.ndarray:
        """Returns the inverse (S, B, k, k) of the inner products of the chosen joints (B, k)."""
        return np.linalg.inv(self.model.joints.products[:, chosen[:, :, None], chosen[:, None, :]])

    def own(self, chosen: np.ndarray) -> np.ndarray:
        """Returns the inner products (S, B, k) of the values with the chosen joints."""
        return np.take_along_axis(self.products, chosen[None], 2)


def settled(model: Fit, white: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the joints (B, k) of white values (S, n, B), and the gain (B, k) of each joint.

    A joint keeps its kind, and stays between its neighbours.
    """
    joints = model.joints
    rest = joints.without_base(white)
    products = np.swapaxes(rest, 1, 2) @ joints.columns
    many = Resamples(model, products, (rest**2).sum(1))
    chosen = np.tile(np.array(model.chosen, int), (white.shape[-1], 1))
    for _ in range(SWEEPS):
        before = chosen.copy()
        for k in range(chosen.shape[1]):
            chosen[:, k] = _placed(many, chosen, k)
        if (chosen == before).all():
            break
    return chosen, _worths(many, chosen)


def _placed(many: Resamples, chosen: np.ndarray, k: int) -> np.ndarray:
    """Returns the best candidate (B,) for joint k, given the other joints."""
    joints, evidence = many.model.joints, many.model.target.evidence
    index, free = _between(many, chosen, k)  # (m,), (B, m)
    others = np.delete(chosen, k, 1)
    own = many.own(others)[:, :, None]  # (S, B, 1, k−1)
    along = joints.products[:, others[:, :, None], index]  # (S, B, k−1, m)
    solver = many.inverse(others)
    solved = solver @ along
    norm = joints.norm[:, None, index]
    open_ = norm - (along * solved).sum(2)
    left = many.products[:, :, index] - (own @ solved)[:, :, 0]
    dependent = open_ <= DEPENDENT * norm
    fall = np.where(dependent, 0.0, left**2 / np.where(dependent, 1.0, open_))
    before = many.total - (own @ solver @ np.swapaxes(own, 2, 3))[..., 0, 0]
    after = evidence(np.moveaxis(np.maximum(before[..., None] - fall, 0.0), 0, -1))
    return index[np.argmin(np.where(free, after, np.inf), 1)]


def _between(many: Resamples, chosen: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns candidates (m,) of the kind of joint k.

    Also returns (B, m), which of them are between the neighbours of the joint.
    """
    joints = many.model.joints
    kind = np.flatnonzero((joints.jump == joints.jump[chosen[0, k]]) & ~joints.spike)
    free = np.ones((len(chosen), len(kind)), bool)
    if k:
        free &= joints.apart(chosen[:, k - 1, None], kind)
    if k + 1 < chosen.shape[1]:
        free &= joints.apart(kind, chosen[:, k + 1, None])
    free |= kind == chosen[:, k, None]
    some = free.any(0)
    return kind[some], free[:, some]


def _worths(many: Resamples, chosen: np.ndarray) -> np.ndarray:
    """Returns (B, k), the increase of −2 log p if one joint is left out and the others stay."""
    solver, own, evidence = many.inverse(chosen), many.own(chosen), many.model.target.evidence
    solved = (solver @ own[..., None])[..., 0]
    lost = solved**2 / np.einsum("sbkk->sbk", solver)
    chi2 = np.maximum(many.total - (own * solved).sum(2), 0.0)[..., None]  # (S, B, 1)
    without, within = (np.moveaxis(v, 0, -1) for v in (chi2 + lost, chi2))
    return evidence(without) - evidence(within)
