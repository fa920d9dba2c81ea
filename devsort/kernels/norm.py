"""Layer norm without gains, and its gains folded into the matrix product that follows.

    LN(x) W + c = x̂ (w ∘ W) + (c + b W),    x̂ = (x − mean) / sqrt(var + 1e-5)

Without layer norm x̂ = x, w = 1, b = 0.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from devsort.model import LN_EPS, Params

Gains = tuple[Tensor, Tensor] | None  # w and b, each (G, D); None without layer norm


@dataclass(frozen=True)
class Normalised:
    """x̂ with what the backward pass needs; mean is None without layer norm."""

    hat: Tensor
    x: Tensor
    mean: Tensor | None = None
    rstd: Tensor | None = None


def gains(p: Params, name: str) -> Gains:
    """w and b of the layer norm called `name`."""
    return (p[f"{name}.w"], p[f"{name}.b"]) if f"{name}.w" in p else None


def normalise(x: Tensor, layer_norm: bool) -> Normalised:
    """x̂ over the last axis."""
    if not layer_norm:
        return Normalised(x, x)
    hat, mean, rstd = torch.native_layer_norm(x, x.shape[-1:], None, None, LN_EPS)
    return Normalised(hat, x, mean, rstd)


def normalise_backward(dhat: Tensor, y: Normalised) -> Tensor:
    """dL/dx from dL/dx̂."""
    if y.mean is None:
        return dhat
    backward = torch.ops.aten.native_layer_norm_backward
    return backward(dhat, y.x, y.x.shape[-1:], y.mean, y.rstd, None, None, [True, False, False])[0]


def fold(W: Tensor, c: Tensor, norm: Gains) -> tuple[Tensor, Tensor]:
    """w ∘ W (G, D, n) and c + b W (G, 1, n), for W (G, D, n) and c (G, n)."""
    if norm is None:
        return W, c[:, None]
    w, b = norm
    return W * w[:, :, None], torch.baddbmm(c[:, None], b[:, None], W)


def fold_backward(dfold: Tensor, dbias: Tensor, W: Tensor, norm: Gains) -> tuple[Tensor, Gains]:
    """dL/dW and dL/d(w, b) from the gradients of `fold`'s results (G, D, n) and (G, n)."""
    if norm is None:
        return dfold, None
    w, b = norm
    dW = torch.addcmul(b[:, :, None] * dbias[:, None], dfold, w[:, :, None])
    return dW, ((dfold * W).sum(2), torch.bmm(W, dbias[:, :, None])[..., 0])
