"""From the residual stream to log-probabilities and the loss, forward and backward.

The final layer norm is factored as in `embed`: logits = r x̄ (w ∘ W_U) + (b_U + b W_U).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from devsort.sorting.kernels.buffers import Buffers
from devsort.sorting.model import Params


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

    def times(self, resid: Tensor, buffers: Buffers) -> Tensor:
        """The product x̄ W (G, B·L, V)."""
        size = (*resid.shape[:2], self.W.shape[2])
        return torch.bmm(resid, self.W, out=buffers("product", *size))


@dataclass(frozen=True)
class Output:
    """What the backward pass needs and overwrites.

    `resid` is x̄ (G, B·L, D), r has shape (G, B·L, 1), and `product` is x̄ W (G, B·L, V).
    """

    unembedding: Unembedding
    resid: Tensor
    r: Tensor | None
    product: Tensor


def unembedding(p: Params) -> Unembedding:
    """Folds the final layer norm into the unembedding."""
    W, bias = p["unembed.W_U"], p["unembed.b_U"][:, None]
    if "ln_final.w" not in p:
        return Unembedding(W, bias, False)
    bias = torch.baddbmm(bias, p["ln_final.b"][:, None], W)
    return Unembedding(W * p["ln_final.w"][:, :, None], bias, True)


def log_probs(y: Output, buffers: Buffers) -> Tensor:
    """Log-probabilities (G, B·L, V)."""
    logits = buffers("logits", *y.product.shape)
    bias = y.unembedding.bias
    torch.add(y.product, bias, out=logits) if y.r is None else torch.addcmul(
        bias, y.product, y.r, out=logits
    )
    return torch.log_softmax(logits, -1, out=buffers("logp", *logits.shape))


@dataclass(frozen=True)
class Gradients:
    """Gradients of the mean cross-entropy with respect to x̄ W (G, B·L, V) and the bias (G, V).

    `pull` (G, B·L, 1) is that with respect to half the squared norm of x̄; None without layer norm.
    """

    product: Tensor
    bias: Tensor
    pull: Tensor | None


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
