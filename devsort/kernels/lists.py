"""A minibatch as row numbers of the tables over tokens and positions, and the two ways between keys and table columns.

A table has T = V + 2L columns: one for each token, then one for each key position.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from devsort.task import Batch


@dataclass(frozen=True)
class Lists:
    """One minibatch a lane.

    A query is a pair (token, answer position). There are as many table rows as queries that can differ: one for each
    answer of the minibatch, or, where that is fewer, one for each token and answer position.

    Attributes:
        tokens: (G, B, 2L) int64, the token at each key position; the last L are those of the queries.
        targets: (G, B, L) int64, answers.
        queries: (G, K, L) int64, token of each query row; K is B or V.
        rows: (G·B·L) int64, the query row of each answer among the G·K·L; None where the rows are the answers.
    """

    tokens: Tensor
    targets: Tensor
    queries: Tensor
    rows: Tensor | None

    @classmethod
    def of(cls, batch: Batch, vocab: int) -> "Lists":
        """Numbers the minibatches (G, B, 2L+1)."""
        G, B, L = batch.targets.shape
        tokens = batch.tokens[..., : 2 * L]
        if vocab >= B:
            return cls(tokens, batch.targets, tokens[..., L:], None)
        device = tokens.device
        every = torch.arange(vocab, device=device)[:, None].expand(G, vocab, L)
        lane = torch.arange(G, device=device).view(G, 1, 1) * vocab
        rows = (tokens[..., L:] + lane) * L + torch.arange(L, device=device)
        return cls(tokens, batch.targets, every, rows.flatten())

    def of_heads(self, heads: int) -> Tensor | None:
        """`rows` for tables of several heads, one after the other: (H·G·B·L)."""
        if self.rows is None:
            return None
        size = self.queries.numel()
        return (self.rows + torch.arange(heads, device=self.rows.device)[:, None] * size).flatten()


def collect(table: Tensor, tokens: Tensor, out: Tensor) -> Tensor:
    """Sums the columns of each key's token and position.

    Args:
        table: (H, G, B, L, T).
        tokens: (G, B, 2L).
        out: Memory for the result (H, G, B, L, 2L).
    """
    vocab = table.shape[-1] - tokens.shape[-1]
    torch.gather(table[..., :vocab], -1, tokens[:, :, None].expand(out.shape), out=out)
    return out.add_(table[..., vocab:])


def spread(values: Tensor, tokens: Tensor, out: Tensor) -> Tensor:
    """The adjoint of `collect`: adds the values (H, G, B, L, 2L) of keys to the columns of a table (H, G, B, L, T)."""
    vocab = out.shape[-1] - tokens.shape[-1]
    out.zero_()
    out[..., :vocab].scatter_add_(-1, tokens[:, :, None].expand(values.shape), values)
    out[..., vocab:] = values
    return out
