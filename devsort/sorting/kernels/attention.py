"""Attention, forward and backward, for any number of heads, on tables over tokens and positions.

Keys and values are r (table row of the token + table row of the position). So the scores of a query
with all tokens and positions are one matrix product, from which each key collects two columns. What
a head adds to the residual stream is also one matrix product: that of the attention, spread over
the columns, with the tables' values times W_O:

    score_ij    = r_j (q_i · k[t_j] + q_i · k[V + p_j]) / sqrt(d)
    head_out_i  = Σ_j pattern_ij r_j (v[t_j] + v[V + p_j]) W_O + (b_V + b W_V) W_O

A bias of the keys shifts all scores of a query equally, so it changes nothing; its gradient is 0.
Per-head tensors are laid out head first, (H, G, …), so that each head's slice is contiguous.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from devsort.sorting.kernels.buffers import Buffers
from devsort.sorting.kernels.compiled import Operations
from devsort.sorting.kernels.embed import Inputs, centre_
from devsort.sorting.kernels.lists import Lists
from devsort.sorting.kernels.plain import Pattern
from devsort.sorting.model import ATTN, Params


@dataclass(frozen=True)
class Tables:
    """What attention needs of the weights; R query rows, see `lists.Rows`.

    Attributes:
        W: (G, D, 3·H·d), W_Q, W_K, W_V side by side.
        W_O: (H·G, d, D).
        tables: (3, H, G, T+1, d), queries, keys over sqrt(d), and values of each row of `Inputs`.
        output: (H, G, T+1, D), values times W_O, centred; the last row is added whatever a head
            attends to.
        sums: (H, G, R, d), a query before its r and bias.
        q: (H, G, R, d).
        r: See `Inputs`.
    """

    W: Tensor
    W_O: Tensor
    tables: Tensor
    output: Tensor
    sums: Tensor
    q: Tensor
    r: Tensor | None


class Attention:
    """Attention with its buffers.

    Args:
        buffers: Memory.
        ops: What is no matrix product.
    """

    def __init__(self, buffers: Buffers, ops: Operations) -> None:
        self.buffers, self.ops = buffers, ops

    def tables(self, p: Params, x: Inputs, lists: Lists) -> Tables:
        """Queries, and what every head writes about every token and position.

        Args:
            p: W_Q, W_K, W_V (G, H, D, d), W_O (G, H, d, D) and biases (G, H, d), under their full
                names.
            x: What attention reads; a leading axis of 1 is shared by all lanes.
            lists: Minibatches.
        """
        W, tables = self._tables(p, x.rows)
        sums, q = self.ops.queries(tables[0], x.r, lists)
        W_O, output = self._output(p, tables[2], x.r is not None)
        return Tables(W, W_O, tables, output, sums, q, x.r)

    def add_heads(self, s: Tables, lists: Lists, resid: Tensor) -> Pattern:
        """Adds to the residual stream (G, B·L, D) what the heads write; returns their patterns."""
        H, G, R, _ = s.q.shape
        products = self.buffers("products", H * G, R, s.output.shape[2] - 1)
        torch.bmm(s.q.flatten(0, 1), _columns(s.tables[1]).mT, out=products)
        return self.ops.attend(products.view(H, G, R, -1), s.output, s.r, lists, resid)

    def backward(
        self,
        g: Params,
        dresid: tuple[Tensor, Tensor],
        s: Tables,
        pattern: Pattern,
        lists: Lists,
        dr: Tensor | None = None,
    ) -> Tensor:
        """Takes the gradient from the centred residual stream to the tables.

        Writes the gradients of W_O and all biases.

        Args:
            g: Receives the gradients.
            dresid: (G, B·L, D), and its sum over the answers (G, D).
            s: The result of `tables`.
            pattern: The result of `add_heads`.
            lists: Minibatches.
            dr: (G, 2L, V); the gradient of r is added to it, if it is wanted.

        Returns:
            the gradient of the tables (G, T+1, 3·H·d).
        """
        _, H, G, height, d = s.tables.shape
        dtables, doutput = (
            self.buffers("dtables", *s.tables.shape),
            self.buffers("doutput", *s.output.shape),
        )
        products = self.ops.attend_backward(
            dresid[0], pattern, s.output, s.r, lists, (doutput, dr)
        ).flatten(0, 1)
        doutput[:, :, -1] = dresid[1]
        self._output_backward(g, doutput, s, dtables[2])
        dtables[1, :, :, -1] = 0
        torch.bmm(products.mT, s.q.flatten(0, 1), out=_columns(dtables[1])).mul_(1 / math.sqrt(d))
        dq = torch.bmm(
            products, _columns(s.tables[1]), out=self.buffers("dq", *products.shape[:2], d)
        )
        self.ops.queries_backward(dq.view(s.sums.shape), s.sums, s.r, lists, (dtables[0], dr))
        for which, dbias in zip("QKV", dtables[..., -1, :], strict=True):
            g[f"{ATTN}b_{which}"].copy_(dbias.transpose(0, 1))
        side = self.buffers("dtables side", G, height, 3, H, d)
        return side.copy_(dtables.permute(2, 3, 0, 1, 4)).view(G, height, -1)

    def _tables(self, p: Params, rows: Tensor) -> tuple[Tensor, Tensor]:
        """All weights side by side, and queries, keys over sqrt(d), and values of all rows."""
        G, H, D, d = p[ATTN + "W_Q"].shape
        W, b = self.buffers("W", G, D, 3, H, d), self.buffers("b", 3, H, G, d)
        for i, which in enumerate("QKV"):
            W[:, :, i] = p[f"{ATTN}W_{which}"].transpose(1, 2)
            b[i] = p[f"{ATTN}b_{which}"].transpose(0, 1)
        W = W.view(G, D, -1)
        side = torch.bmm(
            rows.expand(G, -1, -1), W, out=self.buffers("tables side", G, rows.shape[1], W.shape[2])
        )
        tables = self.buffers("tables", 3, H, G, rows.shape[1], d)
        tables.copy_(side.view(G, -1, 3, H, d).permute(2, 3, 0, 1, 4))
        tables[..., -1, :] += b
        tables[1] *= 1 / math.sqrt(d)
        return W, tables

    def _output(self, p: Params, values: Tensor, layer_norm: bool) -> tuple[Tensor, Tensor]:
        """W_O head first, and what each row of the values writes, centred."""
        H, G, rows, d = values.shape
        W_O = self.buffers("W_O", H, G, d, p[ATTN + "W_O"].shape[3]).copy_(
            p[ATTN + "W_O"].transpose(0, 1)
        )
        W_O = W_O.view(H * G, d, -1)
        output = torch.bmm(
            values.flatten(0, 1), W_O, out=self.buffers("output", H * G, rows, W_O.shape[2])
        )
        return W_O, centre_(output, layer_norm).view(H, G, rows, -1)

    def _output_backward(self, g: Params, doutput: Tensor, s: Tables, dvalues: Tensor) -> None:
        """Writes the gradients of W_O and of the value table."""
        doutput = centre_(doutput, s.r is not None).flatten(0, 1)
        dW_O = torch.bmm(
            s.tables[2].flatten(0, 1).mT, doutput, out=self.buffers("dW_O", *s.W_O.shape)
        )
        g[ATTN + "W_O"].copy_(dW_O.view(*dvalues.shape[:2], *dW_O.shape[1:]).transpose(0, 1))
        torch.bmm(doutput, s.W_O.mT, out=dvalues.flatten(0, 1))


def weights_backward(g: Params, rows: Tensor, dtables: Tensor, buffers: Buffers) -> None:
    """Writes the gradients of W_Q, W_K, W_V, from those of the tables."""
    (G, _, width), (H, d) = dtables.shape, g[ATTN + "b_Q"].shape[1:]
    dW = torch.bmm(rows.expand(G, -1, -1).mT, dtables, out=buffers("dW", G, rows.shape[2], width))
    dW = dW.unflatten(2, (3, H, d))
    for i, which in enumerate("QKV"):
        g[f"{ATTN}W_{which}"].copy_(dW[:, :, i].transpose(1, 2))


def _columns(table: Tensor) -> Tensor:
    """All but the last row of each table (H, G, T+1, d), stacked: (H·G, T, d)."""
    return table.flatten(0, 1)[:, :-1]
