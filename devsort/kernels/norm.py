"""Both layer norms, with what can be pulled out of them.

    LN(x) = x̄ r ∘ w + b,    x̄ = x − mean(x),    r = (|x̄|²/D + 1e-5)^(−1/2)

Centring is linear, so everything that adds to the residual stream is centred once where it is small; r is a number for
each token and position, so it multiplies results instead of inputs. Without layer norm x̄ = x, r = 1, w = 1, b = 0.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from devsort.kernels.buffers import Buffers
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


@dataclass(frozen=True)
class Unembedding:
    """The final layer norm's gains folded into the unembedding: logits = r x̄ (w ∘ W_U) + (b_U + b W_U).

    Attributes:
        W: (G, D, V).
        bias: (G, 1, V).
        layer_norm: Whether r is there.
    """

    W: Tensor
    bias: Tensor
    layer_norm: bool

    def expand(self, lanes: int) -> "Unembedding":
        """The same for so many lanes, if it is there once."""
        return Unembedding(self.W.expand(lanes, -1, -1), self.bias, self.layer_norm)


@dataclass(frozen=True)
class Output:
    """What the backward pass needs, which overwrites it: x̄ (G, B·L, D), r (G, B·L, 1), x̄ W and log-probabilities."""

    resid: Tensor
    r: Tensor | None
    product: Tensor
    logp: Tensor


def unembedding(p: Params) -> Unembedding:
    """Folds the final layer norm into the unembedding."""
    W, bias = p["unembed.W_U"], p["unembed.b_U"][:, None]
    if "ln_final.w" not in p:
        return Unembedding(W, bias, False)
    bias = torch.baddbmm(bias, p["ln_final.b"][:, None], W)
    return Unembedding(W * p["ln_final.w"][:, :, None], bias, True)


def unembed(u: Unembedding, resid: Tensor, buffers: Buffers) -> Output:
    """Log-probabilities (G, B·L, V) of a centred residual stream (G, B·L, D)."""
    size = (*resid.shape[:2], u.W.shape[2])
    if not u.layer_norm:
        product = torch.baddbmm(u.bias, resid, u.W, out=buffers("product", *size))
        return Output(resid, None, product, torch.log_softmax(product, -1, out=buffers("logp", *size)))
    square = torch.linalg.vector_norm(resid, dim=-1, keepdim=True).square_()
    r = square.div_(resid.shape[2]).add_(LN_EPS).rsqrt_()
    product = torch.bmm(resid, u.W, out=buffers("product", *size))
    logits = torch.addcmul(u.bias, product, r, out=buffers("logits", *size))
    return Output(resid, r, product, torch.log_softmax(logits, -1, out=buffers("logp", *size)))


def cross_entropy_backward(u: Unembedding, y: Output, targets: Tensor, buffers: Buffers) -> tuple[Tensor, ...]:
    """From the targets (G, B·L, 1) to gradients of the mean cross-entropy.

    Returns:
        by the residual stream (G, B·L, D), by W (G, D, V) as a function to call where it is needed, and by the bias
        (G, V).
    """
    n = targets.shape[1]
    dlogits = torch.exp(y.logp, out=buffers("logits", *y.logp.shape))
    dlogits.scatter_add_(2, targets, y.logp.new_full((), -1.0).expand(targets.shape))
    dresid = buffers("dresid", *y.resid.shape)
    if y.r is None:
        dproduct = dlogits.mul_(1 / n)
        torch.bmm(dproduct, u.W.mT, out=dresid)
        return dresid, dproduct, dproduct.sum(1)
    along = y.product.mul_(dlogits).sum(2, keepdim=True)
    pull = along * y.r**3 / (-n * y.resid.shape[2])
    dbias = dlogits.sum(1) / n
    dproduct = dlogits.mul_(y.r / n)
    torch.mul(y.resid, pull, out=dresid)
    return dresid.baddbmm_(dproduct, u.W.mT), dproduct, dbias


def unembedding_backward(p: Params, g: Params, y: Output, grads: tuple[Tensor, Tensor]) -> None:
    """Writes the gradients of W_U, b_U and the final layer norm, from those by the product x̄ W and by the bias."""
    dproduct, dbias = grads
    g["unembed.b_U"].copy_(dbias)
    if y.r is None:
        g["unembed.W_U"].copy_(torch.bmm(y.resid.mT, dproduct))
        return
    dW, W, b = torch.bmm(y.resid.mT, dproduct), p["unembed.W_U"], p["ln_final.b"]
    torch.addcmul(b[:, :, None] * dbias[:, None], dW, p["ln_final.w"][:, :, None], out=g["unembed.W_U"])
    g["ln_final.w"].copy_((dW * W).sum(2))
    g["ln_final.b"].copy_(torch.bmm(W, dbias[..., None])[..., 0])
