"""Sums over draws: all that a covariance with its error needs, in memory that does not grow.

Of observables φ (M) and losses ℓ (N) at each draw, the sums of φ^i ℓ^j for i, j ≤ 2, for each lane
and each of a few blocks of successive draws. Give values less those at the start w*: a constant
changes no covariance, and small numbers lose no digits.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from devsort.errors import UserError

BLOCKS = 4  # of a chain; even, since R-hat splits a chain into halves
POWERS = [(i, j) for i in range(3) for j in range(3) if i or j]


@dataclass(frozen=True)
class Moments:
    """Sums over the draws of G lanes, in blocks.

    Attributes:
        counts: (B,) draws in each block.
        sums: (i, j) → Σ φ^i ℓ^j: (G, B, M, N), (G, B, M) where j = 0, (G, B, N) where i = 0.
        draws: Total number of draws expected of a lane.
    """

    counts: np.ndarray
    sums: dict[tuple[int, int], np.ndarray]
    draws: int

    @classmethod
    def empty(cls, lanes: int, observables: int, losses: int, draws: int) -> "Moments":
        """Room for `draws` draws of some lanes.

        Raises:
            UserError: There are fewer draws than two a block.
        """
        if draws < 2 * BLOCKS:
            what = f"{draws} draws are too few for a covariance with its error"
            raise UserError(what, f"take at least {2 * BLOCKS} draws a chain")
        sizes = {
            (i, j): ((observables,) if i else ()) + ((losses,) if j else ()) for i, j in POWERS
        }
        sums = {power: np.zeros((lanes, BLOCKS, *size)) for power, size in sizes.items()}
        return cls(np.zeros(BLOCKS, np.int64), sums, draws)

    @classmethod
    def of(cls, observables: np.ndarray, losses: np.ndarray) -> "Moments":
        """The sums of draws that are all in memory.

        Args:
            observables: (C, T, M).
            losses: (C, T, N).
        """
        (chains, draws, many), size = observables.shape, losses.shape[2]
        found = cls.empty(chains, many, size, draws)
        block = np.arange(draws) * BLOCKS // draws
        for b in range(BLOCKS):
            found._add(b, observables[:, block == b], losses[:, block == b])
        return found

    def add(self, observables: np.ndarray, losses: np.ndarray) -> None:
        """The next draw of all lanes, φ (G, M) and ℓ (G, N)."""
        block = int(self.counts.sum()) * BLOCKS // self.draws
        self._add(block, observables[:, None], losses[:, None])

    def _add(self, block: int, observables: np.ndarray, losses: np.ndarray) -> None:
        """Draws (G, t, M) and (G, t, N) of one block."""
        self.counts[block] += observables.shape[1]
        phi = [observables.astype(np.float64) ** i for i in range(3)]
        loss = [losses.astype(np.float64) ** j for j in range(3)]
        for (i, j), total in self.sums.items():
            if i and j:
                total[:, block] += phi[i].swapaxes(1, 2) @ loss[j]
            else:
                total[:, block] += (phi[i] if i else loss[j]).sum(1)

    def lanes(self, chosen: slice | Sequence[int]) -> "Moments":
        """The moments of some lanes."""
        return Moments(self.counts, {p: s[chosen] for p, s in self.sums.items()}, self.draws)

    @classmethod
    def join(cls, parts: Sequence["Moments"]) -> "Moments":
        """The lanes of several moments with equal numbers of draws."""
        sums = {p: np.concatenate([part.sums[p] for part in parts]) for p in POWERS}
        return cls(parts[0].counts, sums, parts[0].draws)

    def means(self, blocks: int) -> dict[tuple[int, int], np.ndarray]:
        """Means over each of `blocks` equal runs of blocks: (G, blocks, …); 1 is the whole chain.

        φ^i of (2, 0) and (1, 0) comes as (…, M, 1) and ℓ^j as (…, 1, N), so that all broadcast.
        """
        count = self.counts.reshape(blocks, -1).sum(1)
        found = {}
        for (i, j), total in self.sums.items():
            merged = total.reshape(len(total), blocks, -1, *total.shape[2:]).sum(2)
            merged = merged if i and j else merged[..., None] if i else merged[:, :, None]
            found[i, j] = merged / count.reshape(1, -1, 1, 1)
        return found
