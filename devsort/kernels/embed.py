"""What attention reads: embeddings of tokens and positions, with what can be pulled out of the layer norm.

    LN(x) = x̄ r ∘ w + b,    x̄ = x − mean(x),    r = (|x̄|²/D + 1e-5)^(−1/2)

Centring is linear, so everything that adds to the residual stream is centred once where it is small; r is a number for
each token and position, so it multiplies results instead of inputs. Without layer norm x̄ = x, r = 1, w = 1, b = 0.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from devsort.model import LN_EPS, Params


@dataclass(frozen=True)
class Inputs:
    """What attention reads of the token t at position p: r[p, t] (rows[t] + rows[V + p]) + rows[T].

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


def inputs(p: Params, keys: int) -> Inputs:
    """Embeds every token and every one of the `keys` positions that can be a key."""
    x = torch.cat([p["embed.W_E"], p["pos_embed.W_pos"][:, :keys]], 1)  # (G, T, D)
    if "blocks.0.ln1.w" not in p:
        return Inputs(x, torch.cat([x, torch.zeros_like(x[:, :1])], 1), None)
    x = centre(x, True)
    vocab, D = x.shape[1] - keys, x.shape[2]
    square = torch.linalg.vecdot(x, x)  # (G, T)
    cross = torch.bmm(x[:, vocab:], x[:, :vocab].mT)  # (G, 2L, V)
    variance = (square[:, vocab:, None] + square[:, None, :vocab] + 2 * cross) / D
    rows = torch.cat([x * p["blocks.0.ln1.w"][:, None], p["blocks.0.ln1.b"][:, None]], 1)
    return Inputs(x, rows, (variance + LN_EPS).rsqrt())


def inputs_backward(p: Params, g: Params, x: Inputs, grads: tuple[Tensor, Tensor | None, Tensor]) -> None:
    """Writes the gradients of embeddings, positions and the first layer norm.

    Args:
        p: Parameters.
        g: Where gradients go, same names and shapes.
        x: What `inputs` gave.
        grads: Gradients by `rows` (G, T+1, D), by `r` (G, 2L, V), and by `centred` from elsewhere (G, T, D).
    """
    drows, dr, dcentred = grads
    vocab, keys = p["embed.W_E"].shape[1], x.centred.shape[1] - p["embed.W_E"].shape[1]
    if x.r is None:
        dcentred = dcentred + drows[:, :-1]
    else:
        g["blocks.0.ln1.w"].copy_((drows[:, :-1] * x.centred).sum(1))
        g["blocks.0.ln1.b"].copy_(drows[:, -1])
        pull = dr * x.r**3 / -x.centred.shape[2]  # (G, 2L, V), by half the squared norm of a token at a position
        weight = torch.cat([pull.sum(1), pull.sum(2)], 1)[..., None]
        other = torch.cat([pull.mT @ x.centred[:, vocab:], pull @ x.centred[:, :vocab]], 1)
        dcentred = dcentred + drows[:, :-1] * p["blocks.0.ln1.w"][:, None] + weight * x.centred + other
        dcentred = centre(dcentred, True)
    g["embed.W_E"].copy_(dcentred[:, :vocab])
    g["pos_embed.W_pos"][:, :keys] = dcentred[:, vocab:]
    g["pos_embed.W_pos"][:, keys:] = 0
