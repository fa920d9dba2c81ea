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
from devsort.sorting.kernels.embed import Inputs, centre_
from devsort.sorting.kernels.lists import Lists, collect, collect_rows, rows_of, spread, spread_rows
from devsort.sorting.model import ATTN, Params


@dataclass(frozen=True)
class Attended:
    """What the backward pass needs from the forward pass; R query rows, see `lists.Rows`.

    Attributes:
        W: (G, D, 3·H·d), W_Q, W_K, W_V side by side.
        W_O: (H·G, d, D).
        tables: (3, H, G, T+1, d), queries, keys over sqrt(d), and values of each row of `Inputs`.
        output: (H, G, T+1, D), values times W_O, centred; the last row is added whatever a head
            attends to.
        sums: (H, G, R, d), a query before its r and bias.
        q: (H·G, R, d).
        scores: (H, G, B, L, 2L), before r.
        pattern: (H, G, B, L, 2L).
        weights: (H, G, B·L, T), pattern times r, spread over the columns; the backward pass
            overwrites it.
        r_query: (G, R, 1), None without layer norm.
        r_key: (G, B, 1, 2L), None without layer norm.
    """

    W: Tensor
    W_O: Tensor
    tables: Tensor
    output: Tensor
    sums: Tensor
    q: Tensor
    scores: Tensor
    pattern: Tensor
    weights: Tensor
    r_query: Tensor | None
    r_key: Tensor | None


class Attention:
    """Attention with its buffers.

    Args:
        buffers: Memory.
        mask: (L, 2L), −inf where the key comes after the query, else 0.
    """

    def __init__(self, buffers: Buffers, mask: Tensor) -> None:
        self.buffers, self.mask = buffers, mask

    def forward(self, p: Params, x: Inputs, lists: Lists) -> Attended:
        """Attention patterns, and what is needed to add the heads' output to the residual stream.

        Args:
            p: W_Q, W_K, W_V (G, H, D, d), W_O (G, H, d, D) and biases (G, H, d), under their full
                names.
            x: What attention reads; a leading axis of 1 is shared by all lanes.
            lists: Minibatches.
        """
        (G, H), (B, L2) = p[ATTN + "b_Q"].shape[:2], lists.tokens.shape[1:]
        L, T = L2 // 2, x.centred.shape[1]
        W, tables = self._tables(p, x.rows)
        r_query, r_key = _norms(x.r, lists)
        sums, q = self._queries(tables[0], r_query, lists)
        products = torch.bmm(
            q, _columns(tables[1]).mT, out=self.buffers("products", H * G, q.shape[1], T)
        )
        scores = collect_rows(
            products.view(H, G, -1, T), lists, self.buffers("scores", H, G, B, L, L2), self.buffers
        )
        pattern, weighted = self._pattern(scores, r_key)
        weights = spread(weighted, lists.tokens, self.buffers("weights", H, G, B, L, T)).view(
            H, G, B * L, T
        )
        W_O, output = self._output(p, tables[2], x.r is not None)
        return Attended(W, W_O, tables, output, sums, q, scores, pattern, weights, r_query, r_key)

    def backward(
        self, g: Params, dresid: tuple[Tensor, Tensor], s: Attended, lists: Lists
    ) -> tuple[Tensor, ...]:
        """Takes the gradient from the centred residual stream to the tables.

        Writes the gradients of W_O and all biases.

        Args:
            g: Receives the gradients.
            dresid: (G, B·L, D), and its sum over the answers (G, D).
            s: The result of `forward`.
            lists: Minibatches.

        Returns:
            the gradient of the tables (G, T+1, 3·H·d), and of r, by key (G, B, 2L) and by query row
            (G, R), both None without layer norm.
        """
        H, G, B, L, _ = s.pattern.shape
        T, d = s.weights.shape[3], s.q.shape[2]
        dtables = self.buffers("dtables", *s.tables.shape)
        dweights = self._output_backward(g, dresid, s, dtables[2])
        dscores, dr_key = self._pattern_backward(dweights.view(H, G, B, L, T), s, lists.tokens)
        products = spread_rows(dscores, lists, self.buffers).flatten(0, 1)
        dtables[1, :, :, -1] = 0
        torch.bmm(products.mT, s.q, out=_columns(dtables[1])).mul_(1 / math.sqrt(d))
        dq = torch.bmm(products, _columns(s.tables[1]), out=self.buffers("dq", *s.q.shape))
        dr_query = self._queries_backward(dq.view(s.sums.shape), s, lists, dtables[0])
        for which, dbias in zip("QKV", dtables[..., -1, :], strict=True):
            g[f"{ATTN}b_{which}"].copy_(dbias.transpose(0, 1))
        side = self.buffers("dtables side", G, T + 1, 3, H, d).copy_(dtables.permute(2, 3, 0, 1, 4))
        return side.view(G, T + 1, -1), dr_key, dr_query

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

    def _queries(self, table: Tensor, r: Tensor | None, lists: Lists) -> tuple[Tensor, Tensor]:
        """Every query row before its r and bias (H, G, R, d), and after (H·G, R, d)."""
        (H, G, height, d), (R, L) = table.shape, lists.rows.place.shape
        index = rows_of(lists.queries, height, H)
        sums = torch.index_select(
            table.view(-1, d), 0, index, out=self.buffers("sums", H * G * R, d)
        ).view(-1, R, d)
        sums.baddbmm_(
            lists.rows.place.expand(H * G, R, L),
            table.flatten(0, 1)[:, height - 1 - L : height - 1],
        )
        sums, q, bias = sums.view(H, G, R, d), self.buffers("q", H, G, R, d), table[:, :, -1:]
        torch.add(sums, bias, out=q) if r is None else torch.addcmul(bias, sums, r, out=q)
        return sums, q.view(H * G, R, d)

    def _queries_backward(
        self, dq: Tensor, s: Attended, lists: Lists, dtable: Tensor
    ) -> Tensor | None:
        """Writes the gradient of the query table; returns that of each row's r (G, R)."""
        (H, G, height, d), (R, L) = dtable.shape, lists.rows.place.shape
        dtable.zero_()
        dtable[:, :, -1] = dq.sum(2)
        dr = None
        if s.r_query is not None:
            dr = s.sums.mul_(dq).sum(3).sum(0)
            dq *= s.r_query
        dtable.view(-1, d).index_add_(0, rows_of(lists.queries, height, H), dq.view(-1, d))
        by_position = torch.bmm(lists.rows.place.mT.expand(H * G, L, R), dq.view(-1, R, d))
        dtable[:, :, height - 1 - L : height - 1] = by_position.view(H, G, L, d)
        return dr

    def _pattern(self, scores: Tensor, r: Tensor | None) -> tuple[Tensor, Tensor]:
        """The pattern, and the pattern times r."""
        masked = self.buffers("weighted", *scores.shape)
        torch.add(scores, self.mask, out=masked) if r is None else torch.addcmul(
            self.mask, scores, r, out=masked
        )
        pattern = torch.softmax(masked, -1, out=self.buffers("pattern", *scores.shape))
        return pattern, pattern if r is None else torch.mul(pattern, r, out=masked)

    def _pattern_backward(
        self, dweights: Tensor, s: Attended, tokens: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Gradients of the scores before r, and of the keys' r (G, B, 2L)."""
        dweighted = collect(dweights, tokens, self.buffers("weighted", *s.pattern.shape))
        dpattern, dscores = dweighted, self.buffers("dscores", *s.pattern.shape)
        if s.r_key is not None:
            dpattern = torch.mul(dweighted, s.r_key, out=self.buffers("dpattern", *s.pattern.shape))
        backward = torch.ops.aten._softmax_backward_data.out
        backward(dpattern, s.pattern, -1, torch.float32, grad_input=dscores)
        if s.r_key is None:
            return dscores, None
        dr = dweighted.mul_(s.pattern).addcmul_(dscores, s.scores).sum(3).sum(0)
        return dscores.mul_(s.r_key), dr

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

    def _output_backward(
        self, g: Params, grads: tuple[Tensor, Tensor], s: Attended, dvalues: Tensor
    ) -> Tensor:
        """Writes the gradients of W_O and of the value table.

        Returns the gradient of `s.weights`, which it overwrites.
        """
        dresid, total = grads
        doutput = self.buffers("doutput", *s.output.shape)
        doutput[:, :, -1] = total
        for h in range(len(doutput)):
            torch.bmm(s.weights[h].mT, dresid, out=doutput[h, :, :-1])
            torch.bmm(dresid, s.output[h, :, :-1].mT, out=s.weights[h])
        doutput = centre_(doutput, s.r_key is not None).flatten(0, 1)
        dW_O = torch.bmm(
            s.tables[2].flatten(0, 1).mT, doutput, out=self.buffers("dW_O", *s.W_O.shape)
        )
        g[ATTN + "W_O"].copy_(dW_O.view(*dvalues.shape[:2], *dW_O.shape[1:]).transpose(0, 1))
        torch.bmm(doutput, s.W_O.mT, out=dvalues.flatten(0, 1))
        return s.weights


def weights_backward(g: Params, rows: Tensor, dtables: Tensor, buffers: Buffers) -> None:
    """Writes the gradients of W_Q, W_K, W_V, from those of the tables."""
    (G, _, width), (H, d) = dtables.shape, g[ATTN + "b_Q"].shape[1:]
    dW = torch.bmm(rows.expand(G, -1, -1).mT, dtables, out=buffers("dW", G, rows.shape[2], width))
    dW = dW.unflatten(2, (3, H, d))
    for i, which in enumerate("QKV"):
        g[f"{ATTN}W_{which}"].copy_(dW[:, :, i].transpose(1, 2))


def r_backward(r: Tensor, lists: Lists, dr_key: Tensor, dr_query: Tensor) -> Tensor:
    """Gradient of `Inputs.r` (G, 2L, V), from those by key (G, B, 2L) and by query row (G, R)."""
    dr = torch.zeros_like(r)
    query, key = _pairs(lists, r.shape[2])
    dr.flatten(1).scatter_add_(1, key, dr_key.flatten(1)).scatter_add_(1, query, dr_query)
    return dr


def _norms(r: Tensor | None, lists: Lists) -> tuple[Tensor | None, Tensor | None]:
    """r of each query row (G, R, 1) and of each key (G, B, 1, 2L)."""
    if r is None:
        return None, None
    flat = r.flatten(1).expand(len(lists.tokens), -1)
    query, key = (flat.gather(1, pairs) for pairs in _pairs(lists, r.shape[2]))
    return query[..., None], key.view(*lists.tokens.shape)[:, :, None]


def _pairs(lists: Lists, vocab: int) -> tuple[Tensor, Tensor]:
    """Indices of query rows (G, R) and of keys (G, B·2L) in a table (2L, V).

    The table is over positions and tokens.
    """
    keys = lists.tokens.shape[2]
    query = lists.queries + (lists.rows.positions + keys // 2) * vocab
    return query, (lists.tokens + torch.arange(keys, device=query.device) * vocab).flatten(1)


def _columns(table: Tensor) -> Tensor:
    """All but the last row of each table (H, G, T+1, d), stacked: (H·G, T, d)."""
    return table.flatten(0, 1)[:, :-1]
