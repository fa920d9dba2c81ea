"""Loss and gradient of all parameters of the sorting model, lanes stacked."""

import torch
from torch import Tensor

from devsort.kernels.attention import Attended, Attention, r_backward, weights_backward
from devsort.kernels.buffers import Buffers, Views
from devsort.kernels.embed import Inputs, centre, inputs, inputs_backward
from devsort.kernels.lists import Lists
from devsort.kernels.unembed import Output, cross_entropy, residual_backward, unembed, unembedding, unembedding_backward
from devsort.layout import Layout
from devsort.model import ATTN, Params, Shape, future_mask, param_shapes
from devsort.task import Batch


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
            losses (G, B, L) of each answer in nats, and the gradient (G, P) of their mean. The gradient is a buffer
            that the next call overwrites.
        """
        p, grad = self.views(flat), self.buffers("grad", *flat.shape)
        g, lists = self.views(grad), Lists.of(batch, self.shape.vocab)
        x, state, y = self._forward(p, lists)
        losses, grads = cross_entropy(y, lists.targets)
        unembedding_backward(p, g, y, grads)
        dresid = residual_backward(y, grads)
        by_position = dresid.view(*lists.targets.shape, -1).sum(1)  # (G, L, D)
        dtables, dr_key, dr_query = self.attention.backward(g, (dresid, by_position.sum(1)), state, lists)
        weights_backward(g, x.rows, dtables)
        drows = torch.bmm(dtables, state.W.mT, out=self.buffers("drows", *x.rows.shape))
        dr = None if x.r is None else r_backward(x.r, lists, dr_key, dr_query)
        inputs_backward(p, g, x, (drows, dr, self._direct_backward(g, (dresid, by_position), lists, x)))
        return losses, grad

    def log_probs(self, flat: Tensor, batch: Batch) -> Tensor:
        """Log-probabilities (G, B, L, V) at the answer positions, without a gradient."""
        p, lists = self.views(flat), Lists.of(batch, self.shape.vocab)
        return self._forward(p, lists)[2].logp.view(*lists.targets.shape, -1)

    def losses(self, flat: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy (G, B, L) of each answer in nats, without a gradient."""
        return -self.log_probs(flat, batch).gather(3, batch.targets[..., None])[..., 0]

    def residual(self, flat: Tensor, batch: Batch) -> Tensor:
        """The centred residual stream before the unembedding (G, B, L, D), a buffer that the next call overwrites."""
        lists = Lists.of(batch, self.shape.vocab)
        return self._residual(self.views(flat), lists)[2].view(*lists.targets.shape, -1)

    def _residual(self, p: Params, lists: Lists) -> tuple[Inputs, Attended, Tensor]:
        x = inputs(p, 2 * self.shape.list_length)
        state = self.attention.forward(p, x, lists)
        resid = self._direct(p, x, state, lists)
        add_heads(resid, state)
        return x, state, resid

    def _forward(self, p: Params, lists: Lists) -> tuple[Inputs, Attended, Output]:
        x, state, resid = self._residual(p, lists)
        return x, state, unembed(unembedding(p), resid, self.buffers)

    def _direct(self, p: Params, x: Inputs, s: Attended, lists: Lists) -> Tensor:
        """What reaches the residual stream whatever the heads attend to, centred: (G, B·L, D)."""
        G, B, L = lists.targets.shape
        D, V = self.shape.d_model, self.shape.vocab
        constant = centre(p[ATTN + "b_O"], self.shape.layer_norm) + s.output[:, :, -1].sum(0)  # (G, D)
        positions = x.centred[:, V + L :] + constant[:, None]  # (G, L, D)
        index = _flat_rows(lists.tokens[..., L:], V + 2 * L)
        resid = torch.index_select(x.centred.flatten(0, 1), 0, index, out=self.buffers("resid", G * B * L, D))
        return resid.view(G, B, L, D).add_(positions[:, None]).view(G, B * L, D)

    def _direct_backward(self, g: Params, grads: tuple[Tensor, Tensor], lists: Lists, x: Inputs) -> Tensor:
        """Gradient of the centred tokens and positions (G, T, D) by that way; writes the gradient of b_O.

        `grads` are those by the residual stream (G, B·L, D) and by its sum over lists (G, L, D).
        """
        (dresid, by_position), L = grads, lists.targets.shape[2]
        g[ATTN + "b_O"].copy_(centre(by_position.sum(1), self.shape.layer_norm))
        total = torch.zeros_like(x.centred)
        index = _flat_rows(lists.tokens[..., L:], total.shape[1])
        total.flatten(0, 1).index_add_(0, index, dresid.flatten(0, 1))
        total[:, -L:] = by_position
        return total


def lane_bytes(shape: Shape, lists: int) -> int:
    """Memory that a lane takes while its loss and gradient are computed, and that its parameters take.

    Args:
        shape: Dimensions of the model.
        lists: B, lists in a lane's minibatch.
    """
    L, D, d, H, V = shape.list_length, shape.d_model, shape.d_head, shape.heads, shape.vocab
    T, queries = V + 2 * L, min(lists * L, 1 + (L - 1) * (V - L))
    answers = lists * L * (D + 3 * V + H * (2 * T + 5 * 2 * L))
    tables = H * (queries * (T + 3 * d) + (T + 1) * (12 * d + 3 * D))
    return 4 * (answers + tables + 8 * Layout(param_shapes(shape)).size)


def add_heads(resid: Tensor, s: Attended) -> None:
    """Adds to the residual stream (G, B·L, D) what the heads write for what they attend to."""
    for weights, output in zip(s.weights, s.output, strict=True):
        resid.baddbmm_(weights, output[:, :-1])


def causal_bias(shape: Shape, device: torch.device) -> Tensor:
    """(L, 2L), 0 where a query may look and −inf where the key lies after it."""
    future = future_mask(shape.list_length, device)
    return torch.zeros(future.shape, device=device).masked_fill_(future, -torch.inf)


def _flat_rows(tokens: Tensor, height: int) -> Tensor:
    """Row numbers of tokens (G, …) in stacked tables of a height, flat."""
    lane = torch.arange(len(tokens), device=tokens.device)[:, None] * height
    return (tokens.flatten(1) + lane).flatten()
