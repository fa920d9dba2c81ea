"""From the residual stream to log-probabilities and the loss, forward and backward.

The final layer norm is pulled apart as in `embed`: logits = r x̄ (w ∘ W_U) + (b_U + b W_U).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from devsort.kernels.buffers import Buffers
from devsort.model import LN_EPS, Params


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

    unembedding: Unembedding
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
        return Output(u, resid, None, product, torch.log_softmax(product, -1, out=buffers("logp", *size)))
    square = torch.linalg.vector_norm(resid, dim=-1, keepdim=True).square_()
    r = square.div_(resid.shape[2]).add_(LN_EPS).rsqrt_()
    product = torch.bmm(resid, u.W, out=buffers("product", *size))
    logits = torch.addcmul(u.bias, product, r, out=buffers("logits", *size))
    return Output(u, resid, r, product, torch.log_softmax(logits, -1, out=buffers("logp", *size)))


def cross_entropy(y: Output, targets: Tensor, buffers: Buffers) -> tuple[Tensor, ...]:
    """Cross-entropy of every answer, and the gradients of its mean.

    Args:
        y: What `unembed` gave; it is overwritten.
        targets: (G, B, L), answers.
        buffers: Memory.

    Returns:
        losses (G, B, L) in nats, and gradients by the residual stream (G, B·L, D), by the product x̄ W (G, B·L, V) and
        by the bias (G, V).
    """
    u, at = y.unembedding, targets.flatten(1)[..., None]  # (G, B·L, 1)
    losses = -y.logp.gather(2, at).view(targets.shape)
    n = at.shape[1]
    dlogits = torch.exp(y.logp, out=buffers("logits", *y.logp.shape))
    dlogits.scatter_add_(2, at, y.logp.new_full((), -1.0).expand(at.shape))
    dresid = buffers("dresid", *y.resid.shape)
    if y.r is None:
        dproduct = dlogits.mul_(1 / n)
        return losses, torch.bmm(dproduct, u.W.mT, out=dresid), dproduct, dproduct.sum(1)
    along = y.product.mul_(dlogits).sum(2, keepdim=True)
    pull = along * y.r**3 / (-n * y.resid.shape[2])
    dbias = dlogits.sum(1) / n
    dproduct = dlogits.mul_(y.r / n)
    torch.mul(y.resid, pull, out=dresid)
    return losses, dresid.baddbmm_(dproduct, u.W.mT), dproduct, dbias


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
