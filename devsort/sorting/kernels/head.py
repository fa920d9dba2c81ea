"""Loss and gradient of one head's parameters, with the rest of the network at a checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from devsort.layout import Layout
from devsort.sorting.kernels.attention import Attention, Tables, weights_backward
from devsort.sorting.kernels.buffers import Buffers, Views
from devsort.sorting.kernels.compiled import operations
from devsort.sorting.kernels.embed import Inputs, inputs
from devsort.sorting.kernels.lists import Lists
from devsort.sorting.kernels.plain import Pattern
from devsort.sorting.kernels.sort import SortKernel
from devsort.sorting.kernels.unembed import Output, Unembedding, residual_backward, unembedding
from devsort.sorting.model import ATTN, Params, Shape, param_shapes
from devsort.sorting.task import Batch

CHUNK = 256  # lists per forward pass of the rest of the network
HEAD_PARAMS = tuple(ATTN + leaf for leaf in ("W_K", "W_O", "W_Q", "W_V", "b_K", "b_Q", "b_V"))


@dataclass(frozen=True)
class Frozen:
    """What one head needs from the rest of a checkpoint; a leading axis of 1 is for all lanes.

    Attributes:
        inputs: What attention reads.
        unembedding: The unembedding, with the final layer norm folded in.
        rest: (n, L, D), for each list of the data set what everything but the head adds to the
            residual stream, centred.
    """

    inputs: Inputs
    unembedding: Unembedding
    rest: Tensor


def stack(parts: Sequence[Frozen], chains: int) -> Frozen:
    """One `Frozen` for `chains` lanes at each checkpoint.

    In `rest` the checkpoints' data sets follow each other.
    """
    if len(parts) == 1:
        return parts[0]

    def lanes(values: Sequence[Tensor | None]) -> Tensor | None:
        return None if values[0] is None else torch.cat(list(values)).repeat_interleave(chains, 0)

    x = Inputs(
        *(
            lanes([getattr(part.inputs, name) for part in parts])
            for name in ("centred", "rows", "r")
        )
    )
    W, bias = (lanes([getattr(part.unembedding, name) for part in parts]) for name in ("W", "bias"))
    return Frozen(
        x, Unembedding(W, bias, x.r is not None), torch.cat([part.rest for part in parts])
    )


class HeadKernel:
    """Loss and gradient of one head.

    Its parameters are W_Q, W_K, W_V, W_O, b_Q, b_K, b_V; b_O belongs to no head. Batches must be of
    the task, as for `SortKernel`.

    Args:
        shape: Dimensions of the model.
        device: Where parameters and batches are.
        compiled: Whether to use the compiled functions where they exist, for one core of a CPU.
    """

    def __init__(
        self, shape: Shape, device: torch.device | str = "cpu", compiled: bool = True
    ) -> None:
        self.shape, self.device = shape, torch.device(device)
        full = param_shapes(shape)
        self.layout = Layout({name: full[name][1:] for name in HEAD_PARAMS})
        self.views = Views(Layout({name: (1, *full[name][1:]) for name in HEAD_PARAMS}))
        self.buffers = Buffers(self.device)
        self.ops = operations(shape, self.buffers, compiled)
        self.attention = Attention(self.buffers, self.ops)

    def freeze(self, full: SortKernel, params: Params, data: Batch, head: int) -> Frozen:
        """Computes what stays fixed while `head` moves.

        Args:
            full: The kernel of the whole model.
            params: The checkpoint.
            data: The data set, n lists.
            head: Index of the head.
        """
        p = {name: value[None] for name, value in params.items()}
        W_O = params[ATTN + "W_O"].clone()
        W_O[head] = 0
        flat = full.layout.flatten(params | {ATTN + "W_O": W_O})[None]
        parts = [data[slice(i, i + CHUNK)] for i in range(0, len(data), CHUNK)]
        rest = torch.cat([full.residual(flat, part[None])[0].clone() for part in parts])
        return Frozen(
            inputs(p, 2 * self.shape.list_length, Buffers(self.device)), unembedding(p), rest
        )

    def value_and_grad(
        self, flat: Tensor, batch: Batch, frozen: Frozen, index: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropy and its gradient with respect to one head's parameters.

        Args:
            flat: (G, F) parameters of the head, packed by `layout`.
            batch: Each lane's minibatch, tokens (G, B, 2L+1).
            frozen: The rest of the checkpoint.
            index: (G, B) int64, the lists of the minibatches in `frozen.rest`.

        Returns:
            losses (G, B, L) in nats and the gradient (G, F) of their mean, a buffer that the next
            call overwrites.
        """
        grad = self.buffers("grad", *flat.shape)
        g, lists = self.views(grad), Lists.of(batch, self.shape.vocab)
        tables, pattern, y = self._forward(flat, lists, frozen, index)
        losses, grads = self.ops.cross_entropy(y, lists.targets)
        dresid = residual_backward(y, grads)
        dtables = self.attention.backward(g, (dresid, dresid.sum(1)), tables, pattern, lists)
        weights_backward(g, frozen.inputs.rows, dtables, self.buffers)
        return losses, grad

    def losses(self, flat: Tensor, batch: Batch, frozen: Frozen, index: Tensor) -> Tensor:
        """Cross-entropy (G, B, L) of each answer in nats, without a gradient.

        See `value_and_grad`.
        """
        y = self._forward(flat, Lists.of(batch, self.shape.vocab), frozen, index)[2]
        return self.ops.losses(y, batch.targets)

    def _forward(
        self, flat: Tensor, lists: Lists, frozen: Frozen, index: Tensor
    ) -> tuple[Tables, Pattern, Output]:
        tables = self.attention.tables(self.views(flat), frozen.inputs, lists)
        resid = self.buffers("resid", index.numel(), *frozen.rest.shape[1:])
        resid = torch.index_select(frozen.rest, 0, index.flatten(), out=resid).view(
            len(flat), -1, self.shape.d_model
        )
        resid += tables.output[0, :, -1:]
        pattern = self.attention.add_heads(tables, lists, resid)
        return tables, pattern, self.ops.unembed(frozen.unembedding.expand(len(flat)), resid)
