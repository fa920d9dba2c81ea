"""Loss and gradient of one head's parameters, the rest of the network held at a checkpoint."""

from dataclasses import dataclass

import torch
from torch import Tensor

from devsort.kernels.attention import attend, attend_backward, projections_backward
from devsort.kernels.norm import Gains, gains, normalise, normalise_backward
from devsort.kernels.pairs import Buffers, Pairs, Rows
from devsort.kernels.sort import causal_bias, cross_entropy, fold_unembed
from devsort.layout import Layout
from devsort.model import ATTN, Params, Shape, activations, param_shapes

HEAD_PARAMS = tuple(ATTN + leaf for leaf in ("W_K", "W_O", "W_Q", "W_V", "b_K", "b_Q", "b_V"))


@dataclass(frozen=True)
class Frozen:
    """What one head needs of the rest of a checkpoint.

    Attributes:
        xhat: (2L, V, D), normalised input of every position and token.
        norm: Gains of the layer norm before attention, (1, D) each; a leading axis of 1 serves all lanes.
        unembed: Folded unembedding, (1, D, V) and (1, 1, V).
        rest: (n, L, D), for each list of the data set what everything but the head adds to the residual stream.
    """

    xhat: Tensor
    norm: Gains
    unembed: tuple[Tensor, Tensor]
    rest: Tensor


class HeadKernel:
    """Loss and gradient of one head: W_Q, W_K, W_V, W_O, b_Q, b_K, b_V of that head; b_O belongs to no head.

    Args:
        shape: Dimensions of the model.
        device: Where parameters and batches are.
    """

    def __init__(self, shape: Shape, device: torch.device | str = "cpu") -> None:
        self.shape, self.device = shape, torch.device(device)
        full = param_shapes(shape)
        self.layout = Layout({name: full[name][1:] for name in HEAD_PARAMS})
        self.pairs = Pairs(shape, self.device)
        self.buffers = Buffers(self.device)
        self.mask = causal_bias(shape, self.device)

    def freeze(self, params: Params, tokens: Tensor, head: int) -> Frozen:
        """Computes what stays fixed while `head` moves, for the data set's tokens (n, 2L+1)."""
        positions = params["pos_embed.W_pos"][: 2 * self.shape.list_length]
        x = params["embed.W_E"] + positions[:, None]  # (2L, V, D)
        p = {name: value[None] for name, value in params.items()}
        rest = torch.cat([_rest(params, part, head) for part in tokens.split(1024)])
        return Frozen(normalise(x, self.shape.layer_norm).hat, gains(p, "blocks.0.ln1"), fold_unembed(p), rest)

    def value_and_grad(self, flat: Tensor, rows: Rows, frozen: Frozen, index: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy and its gradient by one head's parameters.

        Args:
            flat: (G, F) parameters of the head, packed by `layout`.
            rows: Each lane's minibatch.
            frozen: The rest of the checkpoint.
            index: (G, B) int64, which lists of the data set the minibatches are.

        Returns:
            losses (G, B, L) in nats and the gradient (G, F) of their mean, a buffer that the next call overwrites.
        """
        G, D = len(flat), self.shape.d_model
        p, grad = self._one_head(flat), self.buffers("grad", *flat.shape)
        g, norm = self._one_head(grad), _spread(frozen.norm, G)
        pairs = (rows.position * self.shape.vocab + rows.token).flatten()
        xhat = torch.index_select(frozen.xhat.flatten(0, 1), 0, pairs).view(G, -1, D)
        resid = self.buffers("resid", index.numel(), *frozen.rest.shape[1:])
        resid = torch.index_select(frozen.rest, 0, index.flatten(), out=resid).view(G, -1, D)  # (G, B·L, D)
        state = attend(p, norm, xhat, rows, (self.buffers, self.mask, resid))
        y = normalise(resid, self.shape.layer_norm)
        W, bias = _spread(frozen.unembed, G)
        losses, dlogits = cross_entropy(W, bias, y.hat, rows, self.buffers)
        dresid = normalise_backward(torch.bmm(dlogits, W.mT), y)
        dkv, dq = attend_backward(p, g, dresid, state, (rows, self.buffers))
        projections_backward(p, g, norm, xhat, (dkv, dq, rows.first_query))
        return losses, grad

    def _one_head(self, flat: Tensor) -> Params:
        return {name: view[:, None] for name, view in self.layout.views(flat).items()}


def _rest(params: Params, tokens: Tensor, head: int) -> Tensor:
    a = activations(params, tokens)
    return a.resid_pre + params[ATTN + "b_O"] + a.head_out.sum(1) - a.head_out[:, head]


def _spread(pair: Gains, lanes: int) -> Gains:
    return pair and tuple(t.expand(lanes, *t.shape[1:]) for t in pair)
