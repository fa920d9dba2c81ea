"""Losses whose posterior mean is known at finite nβ, as known answers for any sampler.

Every potential has its minimum at the starting point w*, where it is 0.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from devsort.sampling.config import SamplerConfig
from devsort.sampling.objective import Params
from devsort.validation.formulas import (
    LearningCoefficient,
    Quadratic,
    UnderdampedQuadratic,
    deep_linear,
    normal_crossing,
    quasi_homogeneous,
    rank_regression,
)
from devsort.validation.quadrature import Truth, chain_mean, grid, linear_layers, wishart


@dataclass(frozen=True)
class Potential:
    """A loss with a known answer.

    Attributes:
        loss: `loss(params)`, as `devsort.sampling.sample` takes it.
        star: w*, name → float32 tensor.
        truth: Sampler settings → nβ E[L] of the chain with these settings.
        limit: λ, the limit of nβ E[L] for nβ → ∞.
    """

    loss: Callable[[Params], Tensor]
    star: Params
    truth: Callable[[SamplerConfig], Truth]
    limit: LearningCoefficient


def quadratic(curvature: list[float], center: float = 0.0) -> Potential:
    """Returns ½ Σ h_i (w_i − w*_i)² with all w*_i = center."""
    h = torch.tensor(curvature)
    rank = sum(c > 0 for c in curvature)

    def truth(config: SamplerConfig) -> Truth:
        chain = Quadratic if config.sampling_method == "sgld" else UnderdampedQuadratic
        return Truth(chain(np.array(curvature), config, center=center).expected())

    star = {"w": torch.full((len(curvature),), center)}
    return Potential(
        lambda p: (h * (p["w"] - center) ** 2).sum() / 2,
        star,
        truth,
        LearningCoefficient(rank / 2, 1),
    )


def powers(*exponents: int) -> Potential:
    """Returns Σ w_i^{p_i} with at most three even p_i; λ = Σ 1/p_i."""
    limit = quasi_homogeneous([1 / p for p in exponents])
    return _on_grid(
        lambda w: sum(w[i] ** p for i, p in enumerate(exponents)), len(exponents), limit, 1.0
    )


def radial(dimension: int, half_power: int) -> Potential:
    """Returns |w|^{2k} in at most three dimensions; λ = d/(2k)."""
    limit = quasi_homogeneous([1 / (2 * half_power)] * dimension)
    return _on_grid(lambda w: w.square().sum() ** half_power, dimension, limit, 1.0)


def crossing(a: int, b: int) -> Potential:
    """Returns 4 w1^{2a} w2^{2b}. For a = b, the convergence to λ is logarithmic."""
    return _on_grid(lambda w: 4 * w[0] ** (2 * a) * w[1] ** (2 * b), 2, normal_crossing(a, b), 8.0)


def reduced_rank(inputs: int, hidden: int, outputs: int) -> Potential:
    """Returns |B A|², with a true map of rank 0; for min(inputs, hidden) ≤ 3.

    The truth is an integral over the eigenvalues of A Aᵀ.
    """
    stars = {"W1": torch.zeros(hidden, inputs), "W2": torch.zeros(outputs, hidden)}
    nodes = {1: 2000, 2: 300, 3: 80}[min(inputs, hidden)]

    def truth(config: SamplerConfig) -> Truth:
        return chain_mean(
            _misfit(stars), stars, config, wishart(inputs, hidden, outputs, config, nodes)
        )

    return Potential(_misfit(stars), stars, truth, rank_regression(inputs, hidden, outputs, 0))


def linear_network(widths: tuple[int, ...], rank: int) -> Potential:
    """Returns |W_L … W_1 − T|² around W*_l = T = the identity on the first `rank` coordinates.

    Only for small networks.
    """
    sizes = enumerate(pairwise(widths), 1)
    stars = {f"W{layer}": torch.eye(n, m) * (torch.arange(m) < rank) for layer, (m, n) in sizes}

    def truth(config: SamplerConfig) -> Truth:
        return chain_mean(
            _misfit(stars), stars, config, linear_layers(list(stars.values()), config)
        )

    return Potential(_misfit(stars), stars, truth, deep_linear(widths, rank))


def blocks(**parts: Potential) -> Potential:
    """Returns the sum of independent potentials. Parameters are named part.name."""
    star = {f"{name}.{k}": v for name, part in parts.items() for k, v in part.star.items()}

    def loss(params: Params) -> Tensor:
        return sum(
            part.loss({k: params[f"{name}.{k}"] for k in part.star}) for name, part in parts.items()
        )

    def truth(config: SamplerConfig) -> Truth:
        truths = [part.truth(config) for part in parts.values()]
        return Truth(sum(t.value for t in truths), sum(t.error for t in truths))

    return Potential(
        loss, star, truth, quasi_homogeneous([part.limit.value for part in parts.values()])
    )


def _on_grid(
    K: Callable[[Tensor], Tensor], dimension: int, limit: LearningCoefficient, crowding: float
) -> Potential:
    star = {"w": torch.zeros(dimension)}
    size = {1: 2000, 2: 400, 3: 60}[dimension]

    def loss(params: Params) -> Tensor:
        return K(params["w"])

    def truth(config: SamplerConfig) -> Truth:
        return chain_mean(loss, star, config, grid(loss, star, config, size, crowding))

    return Potential(loss, star, truth, limit)


def _misfit(stars: Params) -> Callable[[Params], Tensor]:
    """|W_L … W_1 − W*_L … W*_1|²."""

    def product(layers: Params) -> Tensor:
        return torch.linalg.multi_dot([layers[name] for name in sorted(layers, reverse=True)])

    target = product(stars)
    return lambda params: (product(params) - target.to(params["W1"].dtype)).square().sum()
