"""The largest curvature h of a loss, which limits the step size.

The chain diverges if ε (nβ h + γ) ≥ 4.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from devsort.rng import torch_stream

ITERATIONS = 12  # power iterations; they give the top eigenvalue to within a few per cent
NUDGE = 1e-3  # relative size of the finite difference, near the cube root of float32's precision


def largest_curvature(
    gradient: Callable[[Tensor], Tensor], w: Tensor, iterations: int = ITERATIONS
) -> float:
    """Returns the largest |eigenvalue| of the Hessian of a loss, by power iteration.

    Hessian-vector products are central differences, H v ≈ (∇L(w + δv) − ∇L(w − δv)) / 2δ.

    Args:
        gradient: (2, P) parameters of two lanes → (2, P) gradients of the loss.
        w: (P,) the parameters at which to compute the curvature.
        iterations: Number of power iterations.
    """
    v = torch.randn(w.shape, generator=torch_stream(0, "power-iteration")).to(w.device)
    step, value = NUDGE * float(w.norm()), 0.0
    for _ in range(iterations):
        v /= v.norm()
        above, below = gradient(torch.stack([w + step * v, w - step * v]))
        product = (above - below) / (2 * step)
        value, v = float(product.norm()), product
    return value
