"""The largest curvature of the loss, which bounds the stable step: the chain diverges where ε (nβ h + γ) ≥ 4."""

import torch
from torch import Tensor

from devsort.kernels import SortKernel
from devsort.model import Params
from devsort.rng import torch_stream
from devsort.task import Batch

ITERATIONS = 12  # power iterations; the top eigenvalue is then known to a few per cent
NUDGE = 1e-3  # relative length of the finite difference, near the cube root of float32's precision


def largest_curvature(kernel: SortKernel, params: Params, data: Batch, iterations: int = ITERATIONS) -> float:
    """Largest |eigenvalue| of the Hessian of the mean loss on `data`, by power iteration.

    Hessian-vector products are central differences of the gradient, H v ≈ (∇L(w + δv) − ∇L(w − δv)) / 2δ.
    """
    w = kernel.layout.flatten(params)  # (P,)
    both = Batch(data.tokens.expand(2, -1, -1), data.targets.expand(2, -1, -1))
    v = torch.randn(w.shape, generator=torch_stream(0, "power-iteration")).to(w.device)
    step, value = NUDGE * float(w.norm()), 0.0
    for _ in range(iterations):
        v /= v.norm()
        gradient = kernel.value_and_grad(torch.stack([w + step * v, w - step * v]), both)[1]
        product: Tensor = (gradient[0] - gradient[1]) / (2 * step)
        value, v = float(product.norm()), product
    return value
