"""A minibatch as row numbers of the tables over tokens and positions.

`collect` and `spread` go from table columns to keys and back. A table has T = V + 2L columns: one
for each token, then one for each key position.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from devsort.sorting.kernels.buffers import Buffers
from devsort.sorting.task import Batch


@dataclass(frozen=True)
class Rows:
    """The query rows: pairs of a token and an answer position, one for each different query.

    They are the answers of the minibatch or, if that is fewer, all pairs that sorted lists of
    distinct numbers can have: SEP at the first answer position, and at the i-th after it one of the
    V − L numbers i−1 … V−L+i−2.

    Attributes:
        tokens: (1, R) int64, or None if the rows are the answers.
        positions: (R) int64, 0 … L−1.
        place: (R, L), 1 at each row's position.
        offset: (L) int64, the row of a token at each answer position minus the token; empty if the
            rows are the answers.
    """

    tokens: Tensor | None
    positions: Tensor
    place: Tensor
    offset: Tensor


@dataclass(frozen=True)
class Lists:
    """One minibatch per lane.

    Attributes:
        tokens: (G, B, 2L) int64, the token at each key position; the last L are those of the
            queries.
        targets: (G, B, L) int64, answers.
        rows: The query rows, the same for all lanes except for their tokens.
        queries: (G, R) int64, token of each query row.
        answers: (G, B, L) int64, the query row of each answer; None if the rows are the answers.
        width: T, columns of a table.
    """

    tokens: Tensor
    targets: Tensor
    rows: Rows
    queries: Tensor
    answers: Tensor | None
    width: int

    @classmethod
    def of(cls, batch: Batch, vocab: int) -> "Lists":
        """The row numbers of minibatches (G, B, 2L+1) as in `devsort.sorting.task`."""
        G, B, L = batch.targets.shape
        tokens = batch.tokens[..., : 2 * L]
        rows = query_rows(B, L, vocab, tokens.device)
        if rows.tokens is None:
            return cls(tokens, batch.targets, rows, tokens[..., L:].flatten(1), None, vocab + 2 * L)
        answers = tokens[..., L:] + rows.offset
        return cls(tokens, batch.targets, rows, rows.tokens.expand(G, -1), answers, vocab + 2 * L)


@lru_cache(maxsize=16)
def query_rows(lists: int, length: int, vocab: int, device: torch.device) -> Rows:
    """The query rows of a minibatch; see `Rows`."""
    position = torch.arange(length)
    inner = vocab - length  # distinct numbers that can stand at one position of a sorted list
    every = 1 + (length - 1) * inner
    if lists * length <= every:
        tokens, offset, positions = None, position[:0], position.repeat(lists)
    else:
        positions = torch.cat([position[:1], position[1:].repeat_interleave(inner)])
        tokens = torch.cat(
            [
                position.new_tensor([vocab - 1]),
                (position[1:, None] - 1 + torch.arange(inner)).flatten(),
            ]
        )
        offset = 1 + (position - 1) * (inner - 1)
        offset[0] = 1 - vocab
        tokens = tokens[None].to(device)
    place = torch.nn.functional.one_hot(positions, length).float()
    return Rows(tokens, positions.to(device), place.to(device), offset.to(device))


def rows_of(numbers: Tensor, height: int, heads: int = 1) -> Tensor:
    """Row numbers (G, …) of each lane, as rows of tables (H, G, height) end to end: (H·G·…)."""
    lane = torch.arange(heads * len(numbers), device=numbers.device).view(heads, -1, 1) * height
    return (numbers.flatten(1) + lane).flatten()


def collect(table: Tensor, tokens: Tensor, out: Tensor) -> Tensor:
    """For each key, the sum of the columns of its token and of its position.

    Args:
        table: (H, G, B, L, T).
        tokens: (G, B, 2L).
        out: Memory for the result (H, G, B, L, 2L).
    """
    vocab = table.shape[-1] - tokens.shape[-1]
    torch.gather(table[..., :vocab], -1, tokens[:, :, None].expand(out.shape), out=out)
    return out.add_(table[..., vocab:])


def spread(values: Tensor, tokens: Tensor, out: Tensor) -> Tensor:
    """The adjoint of `collect`.

    Adds the values (H, G, B, L, 2L) of keys to the columns of a table (H, G, B, L, T).
    """
    vocab = out.shape[-1] - tokens.shape[-1]
    out.zero_()
    out[..., :vocab].scatter_add_(-1, tokens[:, :, None].expand(values.shape), values)
    out[..., vocab:] = values
    return out


def flat(lists: Lists, columns: Tensor, out: Tensor) -> Tensor:
    """Indices of each answer's columns (…, 2L) in a flattened table (R, T).

    `out` is (G, B, L, 2L) int64.
    """
    return torch.add(lists.answers[..., None] * lists.width, columns, out=out).view(len(out), -1)


def collect_rows(table: Tensor, lists: Lists, out: Tensor, buffers: Buffers) -> Tensor:
    """`collect` from a table with a row for each query (H, G, R, T)."""
    if lists.answers is None:
        return collect(table.view(*out.shape[:4], -1), lists.tokens, out)
    H, G, R, T = table.shape
    keys = out.shape[-1]
    tokens = flat(
        lists, lists.tokens[:, :, None], buffers("tokens", *out.shape[1:], dtype=torch.int64)
    )
    torch.gather(table.view(H, G, -1), -1, tokens.expand(H, G, -1), out=out.view(H, G, -1))
    columns = table[..., T - keys :].reshape(-1, keys)
    rows = rows_of(lists.answers, R, H)
    return out.add_(
        torch.index_select(columns, 0, rows, out=buffers("columns", len(rows), keys)).view(
            out.shape
        )
    )


def spread_rows(values: Tensor, lists: Lists, buffers: Buffers) -> Tensor:
    """The adjoint of `collect_rows`, which must have been called before.

    Returns a table (H, G, R, T) in the memory named `products`.
    """
    (H, G, B, L, keys), T = values.shape, lists.width
    out = buffers("products", H, G, lists.queries.shape[1], T)
    if lists.answers is None:
        return spread(values, lists.tokens, out.view(H, G, B, L, T)).view(out.shape)
    tokens, positions = (
        buffers(name, G, B, L, keys, dtype=torch.int64) for name in ("tokens", "positions")
    )
    flat(lists, torch.arange(T - keys, T, device=out.device), positions)
    out.zero_()
    for columns in (tokens, positions):
        out.view(H, G, -1).scatter_add_(
            -1, columns.view(G, -1).expand(H, G, -1), values.view(H, G, -1)
        )
    return out
