"""Loss and gradient of all parameters of the sorting model, for stacked lanes."""

import torch
from torch import Tensor

from devsort.layout import Layout
from devsort.sorting.kernels.attention import Attention, Tables, weights_backward
from devsort.sorting.kernels.buffers import Buffers, Views
from devsort.sorting.kernels.compiled import operations
from devsort.sorting.kernels.embed import Inputs, centre, inputs, inputs_backward
from devsort.sorting.kernels.lists import Lists, query_rows
from devsort.sorting.kernels.plain import Pattern
from devsort.sorting.kernels.unembed import (
    Output,
    log_probs,
    residual_backward,
    unembedding,
    unembedding_backward,
)
from devsort.sorting.model import ATTN, Params, Shape, param_shapes
from devsort.sorting.task import Batch


class SortKernel:
    """Loss and gradient of all parameters.

    Batches must be of the task: tokens and answers in 0 … V−1, the right half of a list sorted. The
    compiled functions do not check this.

    Args:
        shape: Dimensions of the model.
        device: Where parameters and batches are.
        compiled: Whether to use the compiled functions where they exist, for one core of a CPU.
    """

    def __init__(
        self, shape: Shape, device: torch.device | str = "cpu", compiled: bool = True
    ) -> None:
        self.shape, self.device = shape, torch.device(device)
        self.layout = Layout(param_shapes(shape))
        self.views = Views(self.layout)
        self.buffers = Buffers(self.device)
        self.ops = operations(shape, self.buffers, compiled)
        self.attention = Attention(self.buffers, self.ops)

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
        x, tables, pattern, y = self._forward(p, lists)
        losses, grads = self.ops.cross_entropy(y, lists.targets)
        unembedding_backward(p, g, y, grads)
        dresid = residual_backward(y, grads)
        dcentred = self.ops.direct_backward(dresid, lists, x.centred.shape[1])
        total = dcentred[:, -self.shape.list_length :].sum(1)  # (G, D), over the answer positions
        g[ATTN + "b_O"].copy_(centre(total, self.shape.layer_norm))
        dr = None if x.r is None else torch.zeros_like(x.r)
        dtables = self.attention.backward(g, (dresid, total), tables, pattern, lists, dr)
        weights_backward(g, x.rows, dtables, self.buffers)
        drows = torch.bmm(dtables, tables.W.mT, out=self.buffers("drows", *x.rows.shape))
        inputs_backward(p, g, x, (drows, dr, dcentred), self.buffers)
        return losses, grad

    def log_probs(self, flat: Tensor, batch: Batch) -> Tensor:
        """Log-probabilities (G, B, L, V) at the answer positions, without a gradient."""
        p, lists = self.views(flat), Lists.of(batch, self.shape.vocab)
        y = self._forward(p, lists)[3]
        return log_probs(y, self.buffers).view(*lists.targets.shape, -1)

    def losses(self, flat: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy (G, B, L) of each answer in nats, without a gradient."""
        y = self._forward(self.views(flat), Lists.of(batch, self.shape.vocab))[3]
        return self.ops.losses(y, batch.targets)

    def residual(self, flat: Tensor, batch: Batch) -> Tensor:
        """The centred residual stream before the unembedding (G, B, L, D).

        It is a buffer that the next call overwrites.
        """
        lists = Lists.of(batch, self.shape.vocab)
        return self._residual(self.views(flat), lists)[3].view(*lists.targets.shape, -1)

    def _residual(self, p: Params, lists: Lists) -> tuple[Inputs, Tables, Pattern, Tensor]:
        x = inputs(p, 2 * self.shape.list_length, self.buffers)
        tables = self.attention.tables(p, x, lists)
        constant = centre(p[ATTN + "b_O"], self.shape.layer_norm) + tables.output[:, :, -1].sum(0)
        resid = self.ops.direct(x.centred, constant, lists)
        return x, tables, self.attention.add_heads(tables, lists, resid), resid

    def _forward(self, p: Params, lists: Lists) -> tuple[Inputs, Tables, Pattern, Output]:
        x, tables, pattern, resid = self._residual(p, lists)
        return x, tables, pattern, self.ops.unembed(unembedding(p), resid)


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
