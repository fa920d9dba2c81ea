"""What attention reads: embeddings of tokens and positions, and the factors of layer norm.

    LN(x) = x̄ r ∘ w + b,    x̄ = x − mean(x),    r = (|x̄|²/D + 1e-5)^(−1/2)

Centring is linear, so everything that is added to the residual stream is centred once, while it is
small. r is one number for each token and position, so it multiplies results instead of inputs.
Without layer norm x̄ = x, r = 1, w = 1, b = 0.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from devsort.sorting.kernels.buffers import Buffers
from devsort.sorting.model import LN_EPS, Params


@dataclass(frozen=True)
class Inputs:
    """What attention reads: embeddings of tokens and positions, and the factors of layer norm.

    Attributes:
        centred: (G, T, D), x̄ of each token and of each key position.
        rows: (G, T+1, D), x̄ ∘ w, and b as the last row.
        r: (G, 2L, V), None without layer norm.
    """

    centred: Tensor
    rows: Tensor
    r: Tensor | None


def centre(x: Tensor, layer_norm: bool) -> Tensor:
    """x − mean(x) over the last axis."""
    return x - x.mean(-1, keepdim=True) if layer_norm else x


def centre_(x: Tensor, layer_norm: bool) -> Tensor:
    """x − mean(x) in place."""
    return x.sub_(x.mean(-1, keepdim=True)) if layer_norm else x


def inputs(p: Params, keys: int, buffers: Buffers) -> Inputs:
    """Embeds every token and the `keys` positions that can be keys, in memory of `buffers`."""
    tokens, positions = p["embed.W_E"], p["pos_embed.W_pos"][:, :keys]
    (G, vocab, D), layer_norm = tokens.shape, "blocks.0.ln1.w" in p
    x = torch.cat([tokens, positions], 1, out=buffers("centred", G, vocab + keys, D))
    rows = buffers("inputs", G, vocab + keys + 1, D)
    if not layer_norm:
        rows[:, :-1] = x
        rows[:, -1] = 0
        return Inputs(x, rows, None)
    centre_(x, True)
    square = torch.linalg.vecdot(x, x)  # (G, T)
    cross = torch.bmm(x[:, vocab:], x[:, :vocab].mT)  # (G, 2L, V)
    variance = (square[:, vocab:, None] + square[:, None, :vocab] + 2 * cross) / D
    torch.mul(x, p["blocks.0.ln1.w"][:, None], out=rows[:, :-1])
    rows[:, -1] = p["blocks.0.ln1.b"]
    return Inputs(x, rows, (variance + LN_EPS).rsqrt())


def inputs_backward(
    p: Params, g: Params, x: Inputs, grads: tuple[Tensor, Tensor | None, Tensor], buffers: Buffers
) -> None:
    """Writes the gradients of embeddings, positions and the first layer norm.

    Args:
        p: Parameters.
        g: Receives the gradients, under the same names and in the same shapes.
        x: The result of `inputs`.
        grads: Gradients of `rows` (G, T+1, D), of `r` (G, 2L, V), and of `centred` (G, T, D) from
            elsewhere; the last is overwritten.
        buffers: Memory.
    """
    (drows, dr, dcentred), centred = grads, x.centred
    vocab, keys = p["embed.W_E"].shape[1], centred.shape[1] - p["embed.W_E"].shape[1]
    if x.r is None:
        dcentred += drows[:, :-1]
    else:
        by_gain = torch.mul(drows[:, :-1], centred, out=buffers("by gain", *centred.shape))
        g["blocks.0.ln1.w"].copy_(by_gain.sum(1))
        g["blocks.0.ln1.b"].copy_(drows[:, -1])
        # (G, 2L, V), the gradient of half the squared norm of a token at a position
        pull = dr * x.r**3 / -centred.shape[2]
        dcentred.addcmul_(drows[:, :-1], p["blocks.0.ln1.w"][:, None])
        dcentred.addcmul_(centred, torch.cat([pull.sum(1), pull.sum(2)], 1)[..., None])
        dcentred[:, :vocab].baddbmm_(pull.mT, centred[:, vocab:])
        dcentred[:, vocab:].baddbmm_(pull, centred[:, :vocab])
        centre_(dcentred, True)
    g["embed.W_E"].copy_(dcentred[:, :vocab])
    g["pos_embed.W_pos"][:, :keys] = dcentred[:, vocab:]
    g["pos_embed.W_pos"][:, keys:] = 0
