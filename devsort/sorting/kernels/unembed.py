"""From the residual stream to log-probabilities and the loss, forward and backward.

The final layer norm is factored as in `embed`: logits = r x̄ (w ∘ W_U) + (b_U + b W_U).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from devsort.sorting.kernels.buffers import Buffers
from devsort.sorting.model import LN_EPS, Params

LOG2_E = 1.4426950408889634


@dataclass(frozen=True)
class Unembedding:
    """The final layer norm's gains folded into the unembedding.

    Logits = r x̄ (w ∘ W_U) + (b_U + b W_U).

    Attributes:
        W: (G, D, V).
        bias: (G, 1, V).
        layer_norm: Whether there is layer norm, and therefore r.
    """

    W: Tensor
    bias: Tensor
    layer_norm: bool

    def expand(self, lanes: int) -> "Unembedding":
        """The same for several lanes, if there is one for all."""
        return Unembedding(self.W.expand(lanes, -1, -1), self.bias, self.layer_norm)


@dataclass(frozen=True)
class Output:
    """What the backward pass needs and overwrites.

    `resid` is x̄ (G, B·L, D), r has shape (G, B·L, 1), `product` is x̄ W, and `logp` the
    log-probabilities.
    """

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
        return Output(
            u, resid, None, product, torch.log_softmax(product, -1, out=buffers("logp", *size))
        )
    square = torch.linalg.vector_norm(resid, dim=-1, keepdim=True).square_()
    r = square.div_(resid.shape[2]).add_(LN_EPS).rsqrt_()
    product = torch.bmm(resid, u.W, out=buffers("product", *size))
    logits = torch.addcmul(u.bias, product, r, out=buffers("logits", *size))
    return Output(u, resid, r, product, torch.log_softmax(logits, -1, out=buffers("logp", *size)))


@dataclass(frozen=True)
class Gradients:
    """Gradients of the mean cross-entropy with respect to x̄ W (G, B·L, V) and the bias (G, V).

    `pull` (G, B·L, 1) is that with respect to half the squared norm of x̄; None without layer norm.
    """

    product: Tensor
    bias: Tensor
    pull: Tensor | None


def cross_entropy(y: Output, targets: Tensor) -> tuple[Tensor, Gradients]:
    """Cross-entropy of every answer, and the gradients of its mean.

    Args:
        y: The result of `unembed`; its product and log-probabilities are overwritten.
        targets: (G, B, L), answers.

    Returns:
        losses (G, B, L) in nats, and the gradients.
    """
    at = targets.flatten(1)[..., None]  # (G, B·L, 1)
    losses = -y.logp.gather(2, at).view(targets.shape)
    n = at.shape[1]
    dlogits = y.logp.mul_(LOG2_E).exp2_()  # three times as fast as exp_ on many CPUs
    dlogits.scatter_add_(2, at, dlogits.new_full((), -1.0).expand(at.shape))
    if y.r is None:
        dproduct = dlogits.mul_(1 / n)
        return losses, Gradients(dproduct, dproduct.sum(1), None)
    along = y.product.mul_(dlogits).sum(2, keepdim=True)
    dbias = dlogits.sum(1) / n
    return losses, Gradients(dlogits.mul_(y.r / n), dbias, along * y.r**3 / (-n * y.resid.shape[2]))


def residual_backward(y: Output, grads: Gradients) -> Tensor:
    """Gradient with respect to the residual stream (G, B·L, D), which it overwrites."""
    W = y.unembedding.W.mT
    if grads.pull is None:
        return torch.bmm(grads.product, W, out=y.resid)
    return y.resid.mul_(grads.pull).baddbmm_(grads.product, W)


def unembedding_backward(p: Params, g: Params, y: Output, grads: Gradients) -> None:
    """Writes the gradients of W_U, b_U and the final layer norm, before `residual_backward`."""
    g["unembed.b_U"].copy_(grads.bias)
    dW = torch.bmm(y.resid.mT, grads.product)
    if y.r is None:
        g["unembed.W_U"].copy_(dW)
        return
    W, b = p["unembed.W_U"], p["ln_final.b"]
    torch.addcmul(
        b[:, :, None] * grads.bias[:, None], dW, p["ln_final.w"][:, :, None], out=g["unembed.W_U"]
    )
    g["ln_final.w"].copy_((dW * W).sum(2))
    g["ln_final.b"].copy_(torch.bmm(W, grads.bias[..., None])[..., 0])
