"""Tables over the (position, token) pairs that can occur, and minibatches as row numbers of these tables."""

from dataclasses import dataclass

import torch
from torch import Tensor

from devsort.model import Shape
from devsort.task import Batch


@dataclass(frozen=True)
class Rows:
    """Minibatches as row numbers of the pair tables.

    Attributes:
        keys: (G, B, 2L) int64, pair of each key position; the last L are the query positions.
        targets: (G, B, L) int64, answers.
    """

    keys: Tensor
    targets: Tensor

    def __getitem__(self, index: Tensor | slice) -> "Rows":
        return Rows(self.keys[index], self.targets[index])


class Buffers:
    """Tensors that are allocated once and overwritten by every call."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._held: dict[str, Tensor] = {}

    def __call__(self, name: str, *size: int) -> Tensor:
        """The buffer of this name, made anew when its size changes."""
        held = self._held.get(name)
        if held is None or held.shape != size:
            held = self._held[name] = torch.empty(size, device=self.device)
        return held


class Pairs:
    """The pairs that can occur: all numbers at each list position, SEP, all numbers at each answer position."""

    def __init__(self, shape: Shape, device: torch.device | str = "cpu") -> None:
        L, N = shape.list_length, shape.numbers
        self.L, self.N, self.first_query = L, N, L * N
        self.count = L * N + 1 + (L - 1) * N
        offset = [p * N for p in range(L)] + [L * N - N] + [1 + p * N for p in range(L, 2 * L - 1)]
        self.offset = torch.tensor(offset, device=device)

    def rows(self, batch: Batch) -> Rows:
        """Row numbers of batches (…, B, 2L+1)."""
        return Rows(batch.tokens[..., : 2 * self.L] + self.offset, batch.targets)

    def query_index(self, rows: Rows, base: int) -> Tensor:
        """Flat rows (G·B·L) of the query positions in a stack of tables whose first query pair is row `base`.

        With base 0 the tables hold the query pairs alone (S rows), with base `first_query` all pairs (R rows).
        """
        height = self.count - self.first_query + base
        return (rows.keys[..., self.L :] - self.first_query + base + _lane(rows, height)).flatten()

    def head_index(self, rows: Rows, heads: int, kinds: int, queries: bool = False) -> Tensor:
        """Flat rows of tables (G, R or S, kinds, H) in the order (kinds, H, G, B, positions)."""
        skip = self.first_query if queries else 0
        keys = (rows.keys[..., self.L :] if queries else rows.keys) - skip + _lane(rows, self.count - skip)
        column = torch.arange(kinds * heads, device=keys.device).view(-1, 1, 1, 1)
        return (keys * (kinds * heads) + column).flatten()

    def embed(self, W_E: Tensor, W_pos: Tensor, out: Tensor) -> Tensor:
        """Token plus position for every pair: (G, R, D)."""
        L, N = self.L, self.N
        lists, answers = self._split(out)
        torch.add(W_E[:, None, :N], W_pos[:, :L, None], out=lists)
        torch.add(W_E[:, None, :N], W_pos[:, L + 1 : 2 * L, None], out=answers)
        out[:, L * N] = W_E[:, N] + W_pos[:, L]
        return out

    def embed_backward(self, dx: Tensor, dW_E: Tensor, dW_pos: Tensor) -> None:
        """Sums (G, R, D) gradients over the pairs that share a token or a position."""
        L, N = self.L, self.N
        lists, answers = self._split(dx)
        dW_E[:, :N] = lists.sum(1) + answers.sum(1)
        dW_E[:, N] = dW_pos[:, L] = dx[:, L * N]
        dW_pos[:, :L] = lists.sum(2)
        dW_pos[:, L + 1 : 2 * L] = answers.sum(2)
        dW_pos[:, 2 * L] = 0  # the last answer is never an input

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        lists, answers = x[:, : self.first_query], x[:, self.first_query + 1 :]
        return lists.unflatten(1, (self.L, self.N)), answers.unflatten(1, (self.L - 1, self.N))


def _lane(rows: Rows, height: int) -> Tensor:
    """First row of each lane's table in the stack, (G, 1, 1)."""
    return (torch.arange(len(rows.keys), device=rows.keys.device) * height).view(-1, 1, 1)
