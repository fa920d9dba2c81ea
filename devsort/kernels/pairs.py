"""Tables over the (position, token) pairs that a minibatch uses, and the minibatch as row numbers of these tables."""

from dataclasses import dataclass

import torch
from torch import Tensor

from devsort.model import Shape
from devsort.task import Batch


@dataclass(frozen=True)
class Rows:
    """One minibatch a lane. A lane has a table of U pairs; those that only serve as keys come first.

    Attributes:
        keys: (G, B, 2L) int64, the row of each key position in its lane's table; the last L are the query positions.
        targets: (G, B, L) int64, answers.
        position: (G, U) int64, position of each table row.
        token: (G, U) int64, token of each table row.
        first_query: Number of leading rows that only serve as keys.
    """

    keys: Tensor
    targets: Tensor
    position: Tensor
    token: Tensor
    first_query: int

    @property
    def pairs(self) -> int:
        """U, rows of a lane's table."""
        return self.position.shape[1]

    def flat(self, heads: int = 1, kinds: int = 1, queries_only: bool = False, query_table: bool = False) -> Tensor:
        """Flat row numbers in a stack of tables (G, U, kinds, heads), in the order (kinds, heads, G, B, positions).

        Args:
            heads: Heads side by side in a table row.
            kinds: Tensors side by side in a table row, such as keys and values.
            queries_only: Only the L query positions.
            query_table: The tables hold the query rows alone.
        """
        L = self.targets.shape[2]
        keys = self.keys[..., L:] if queries_only else self.keys
        skip = self.first_query if query_table else 0
        lane = torch.arange(len(keys), device=keys.device).view(-1, 1, 1) * (self.pairs - skip) - skip
        column = torch.arange(kinds * heads, device=keys.device).view(-1, 1, 1, 1)
        return ((keys + lane) * (kinds * heads) + column).flatten()


class Buffers:
    """Memory that is allocated once, grows where it must, and is overwritten by every call."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._held: dict[str, Tensor] = {}

    def __call__(self, name: str, *size: int) -> Tensor:
        """A tensor of this size in the memory of this name."""
        numel = torch.Size(size).numel()
        held = self._held.get(name)
        if held is None or held.numel() < numel:
            held = self._held[name] = torch.empty(numel, device=self.device)
        return held[:numel].view(size)


class Pairs:
    """Numbers the pairs that can occur and finds those that a minibatch uses."""

    def __init__(self, shape: Shape, device: torch.device | str = "cpu") -> None:
        L, N = shape.list_length, shape.numbers
        self.L, self.V, self.device = L, N + 1, torch.device(device)
        self.offset = torch.arange(2 * L, device=self.device) * self.V  # pair = position · V + token

    def rows(self, batch: Batch) -> Rows:
        """Makes the tables of minibatches (G, B, 2L+1): only pairs that occur in them get a row."""
        pairs = batch.tokens[..., : 2 * self.L] + self.offset  # (G, B, 2L)
        lists, answers = (self._used(part) for part in (pairs[..., : self.L], pairs[..., self.L :]))
        first_query = lists[1].shape[1]
        keys = torch.cat([lists[0], answers[0] + first_query], 2)
        table = torch.cat([lists[1], answers[1]], 1)
        return Rows(keys, batch.targets, table // self.V, table % self.V, first_query)

    def _used(self, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """Row number of each pair (G, B, L) among those used, and the pair of each row (G, U), padded with pair 0."""
        G = len(pairs)
        used = torch.zeros(G, 2 * self.L * self.V, dtype=torch.int64, device=self.device)
        used.scatter_(1, pairs.flatten(1), 1)
        row = used.cumsum(1) - 1
        table = torch.zeros(G, int(row[:, -1].max()) + 1, dtype=torch.int64, device=self.device)
        lane, pair = used.nonzero(as_tuple=True)
        table[lane, row[lane, pair]] = pair
        return row.gather(1, pairs.flatten(1)).view(pairs.shape), table
