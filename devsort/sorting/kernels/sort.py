"""Loss and gradient of all parameters of the sorting model, for stacked lanes."""

import torch
from torch import Tensor

from devsort.layout import Layout
from devsort.sorting.kernels.attention import Attended, Attention, r_backward, weights_backward
from devsort.sorting.kernels.buffers import Buffers, Views
from devsort.sorting.kernels.embed import Inputs, centre, inputs, inputs_backward
from devsort.sorting.kernels.lists import Lists, query_rows, rows_of
from devsort.sorting.kernels.unembed import (
    Output,
    cross_entropy,
    residual_backward,
    unembed,
    unembedding,
    unembedding_backward,
)
from devsort.sorting.model import ATTN, Params, Shape, future_mask, param_shapes
from devsort.sorting.task import Batch


class SortKernel:
    """Loss and gradient of all parameters.

    Args:
        shape: Dimensions of the model.
        device: Where parameters and batches are.
    """

    def __init__(self, shape: Shape, device: torch.device | str = "cpu") -> None:
        self.shape, self.device = shape, torch.device(device)
        self.layout = Layout(param_shapes(shape))
        self.views = Views(self.layout)
        self.buffers = Buffers(self.device)
        self.attention = Attention(self.buffers, causal_bias(shape, self.device))

    def value_and_grad(self, flat: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Cross-entropy and its gradient.

        Args:
            flat: (G, P) parameters, packed by `layout`.
            batch: Each lane's minibatch, tokens (G, B, 2L+1).

        Returns:
            losses (G, B, L) of each answer in nats, and the gradient (G, P) of their mean. The
            gradient is a buffer that the next call overwrites.
        """
        p, grad = self.views(flat), self.buffers("grad", *flat.shape)
        g, lists = self.views(grad), Lists.of(batch, self.shape.vocab)
        x, state, y = self._forward(p, lists)
        losses, grads = cross_entropy(y, lists.targets)
        unembedding_backward(p, g, y, grads)
        dresid = residual_backward(y, grads)
        dcentred = self._direct_backward(dresid, lists, x)
        total = dcentred[:, -self.shape.list_length :].sum(1)  # (G, D), over the answer positions
        g[ATTN + "b_O"].copy_(centre(total, self.shape.layer_norm))
        dtables, dr_key, dr_query = self.attention.backward(g, (dresid, total), state, lists)
        weights_backward(g, x.rows, dtables, self.buffers)
        drows = torch.bmm(dtables, state.W.mT, out=self.buffers("drows", *x.rows.shape))
        dr = None if x.r is None else r_backward(x.r, lists, dr_key, dr_query)
        inputs_backward(p, g, x, (drows, dr, dcentred), self.buffers)
        return losses, grad

    def log_probs(self, flat: Tensor, batch: Batch) -> Tensor:
        """Log-probabilities (G, B, L, V) at the answer positions, without a gradient."""
        p, lists = self.views(flat), Lists.of(batch, self.shape.vocab)
        return self._forward(p, lists)[2].logp.view(*lists.targets.shape, -1)

    def losses(self, flat: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy (G, B, L) of each answer in nats, without a gradient."""
        return -self.log_probs(flat, batch).gather(3, batch.targets[..., None])[..., 0]

    def residual(self, flat: Tensor, batch: Batch) -> Tensor:
        """The centred residual stream before the unembedding (G, B, L, D).

        It is a buffer that the next call overwrites.
        """
        lists = Lists.of(batch, self.shape.vocab)
        return self._residual(self.views(flat), lists)[2].view(*lists.targets.shape, -1)

    def _residual(self, p: Params, lists: Lists) -> tuple[Inputs, Attended, Tensor]:
        x = inputs(p, 2 * self.shape.list_length, self.buffers)
        state = self.attention.forward(p, x, lists)
        resid = self._direct(p, x, state, lists)
        add_heads(resid, state)
        return x, state, resid

    def _forward(self, p: Params, lists: Lists) -> tuple[Inputs, Attended, Output]:
        x, state, resid = self._residual(p, lists)
        return x, state, unembed(unembedding(p), resid, self.buffers)

    def _direct(self, p: Params, x: Inputs, s: Attended, lists: Lists) -> Tensor:
        """What reaches the residual stream whatever the heads attend to, centred: (G, B·L, D)."""
        (G, R), (L, D) = lists.queries.shape, (lists.targets.shape[2], self.shape.d_model)
        # (G, D)
        constant = centre(p[ATTN + "b_O"], self.shape.layer_norm) + s.output[:, :, -1].sum(0)
        queries = self.buffers("resid" if lists.answers is None else "queries", G * R, D)
        torch.index_select(
            x.centred.flatten(0, 1), 0, rows_of(lists.queries, x.centred.shape[1]), out=queries
        )
        queries = queries.view(G, R, D)
        queries.baddbmm_(lists.rows.place.expand(G, R, L), x.centred[:, -L:] + constant[:, None])
        if lists.answers is None:
            return queries
        answers = rows_of(lists.answers, R)
        resid = torch.index_select(
            queries.flatten(0, 1), 0, answers, out=self.buffers("resid", len(answers), D)
        )
        return resid.view(G, -1, D)

    def _direct_backward(self, dresid: Tensor, lists: Lists, x: Inputs) -> Tensor:
        """Gradient of the centred tokens and positions (G, T, D), through what `_direct` adds.

        Takes dresid (G, B·L, D).
        """
        (G, R), L = lists.queries.shape, lists.targets.shape[2]
        if lists.answers is not None:
            queries = self.buffers("queries", G * R, dresid.shape[2]).zero_()
            dresid = queries.index_add_(0, rows_of(lists.answers, R), dresid.flatten(0, 1)).view(
                G, R, -1
            )
        total = self.buffers("dcentred", *x.centred.shape).zero_()
        total.flatten(0, 1).index_add_(
            0, rows_of(lists.queries, total.shape[1]), dresid.flatten(0, 1)
        )
        torch.bmm(lists.rows.place.mT.expand(G, L, R), dresid, out=total[:, -L:])
        return total


def lane_bytes(shape: Shape, lists: int) -> int:
    """Bytes that a lane and its parameters take while its loss and gradient are computed.

    Args:
        shape: Dimensions of the model.
        lists: B, lists in a lane's minibatch.
    """
    L, D, d, H, V = shape.list_length, shape.d_model, shape.d_head, shape.heads, shape.vocab
    T, queries = V + 2 * L, len(query_rows(lists, L, V, torch.device("cpu")).positions)
    answers = lists * L * (D + 3 * V + H * (T + 5 * 2 * L))
    tables = H * (queries * (T + 3 * d) + (T + 1) * (12 * d + 3 * D))
    # rows of queries in the residual stream, indices of 64 bits, positions of keys
    if queries < lists * L:
        answers += queries * D + lists * L * (8 * L + H * 2 * L)
    return 4 * (answers + tables + 8 * Layout(param_shapes(shape)).size)


def add_heads(resid: Tensor, s: Attended) -> None:
    """Adds to the residual stream (G, B·L, D) what the heads write about what they attend to."""
    for weights, output in zip(s.weights, s.output, strict=True):
        resid.baddbmm_(weights, output[:, :-1])


def causal_bias(shape: Shape, device: torch.device) -> Tensor:
    """(L, 2L), −inf where the key comes after the query, else 0."""
    future = future_mask(shape.list_length, device)
    return torch.zeros(future.shape, device=device).masked_fill_(future, -torch.inf)
