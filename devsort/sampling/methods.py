"""Sampling methods: how a lane moves in one step. All implement `Method` and sample from

    exp(−U(w)),    U = nβ L(w) + γ/2 |w − w*|² + ρ/2 |w|²,    G = ∇U on a minibatch.

| method | step, with h = sqrt(ε) and c the setting `momentum`                             |
|--------|---------------------------------------------------------------------------------|
| sgld   | w ← w − (ε/2) G + sqrt(ε) R                                                     |
| baoab  | p ← p − h G;  w ← w + (h/2) p;  p ← c p + sqrt(1 − c²) R;  w ← w + (h/2) p      |

R is standard normal. SGLD is that of devinterp. It is a first-order method: its bias is
proportional to ε. BAOAB (Leimkuhler & Matthews 2013) is underdamped Langevin dynamics with mass 1
and friction −ln(c)/h; the two half kicks between draws are combined into one. It is a second-order
method, and on quadratics its positions are exact as long as h² a < 4 for every curvature a of U.
With c = 0 it is the Leimkuhler–Matthews method, w ← w − (ε/2) G + sqrt(ε) (R + R′)/2. The same ε
means the same step size in all three.

The noise of the minibatches heats a chain. In directions that relax more slowly than the momentum,
BAOAB turns the variance Σ of G over minibatches into the temperature 1 + k ε Σ/4, where
k = (1 + c)/(1 − c). To first order, λ̂ is then too high by

    (k ε / 8) tr(W Σ),    W = nβ H (nβ H + γ)⁻¹ = 1 − γ C

where H is the Hessian of the loss and C = (nβ H + γ)⁻¹ the covariance of the draws. If δ is the
difference of G between two minibatches at the same w, then E[δ δᵀ] = 2 Σ, so one more gradient at a
draw measures this excess (`heating`): (k ε / 16) (|δ|² − (γ + ρ) (u·δ)²). Here u is w − w* of
another chain, because a chain's own u is not independent of the noise at its position.
"""

import math
from typing import Protocol

import torch
from torch import Tensor

from devsort.sampling.config import SamplerConfig


class Method(Protocol):
    """A rule that moves lanes."""

    def step(self, w: Tensor, force: Tensor, noise: Tensor) -> None:
        """Moves w (G, F) in place by one step.

        Args:
            w: Free parameters.
            force: (G, F) the gradient G(w).
            noise: (G, F) standard normal numbers.
        """
        ...


class Sgld:
    """Stochastic gradient Langevin dynamics; see the module."""

    def __init__(self, config: SamplerConfig, like: Tensor) -> None:
        self.lr, self.noise = config.lr, math.sqrt(config.lr) * config.noise_level

    def step(self, w: Tensor, force: Tensor, noise: Tensor) -> None:
        """See `Method`."""
        w.add_(force, alpha=-self.lr / 2)
        if self.noise:
            w.add_(noise, alpha=self.noise)


class Baoab:
    """Underdamped Langevin dynamics; see the module. The momenta (G, F) start at zero."""

    def __init__(self, config: SamplerConfig, like: Tensor) -> None:
        self.h, self.momentum = math.sqrt(config.lr), config.momentum
        self.noise = math.sqrt(1 - self.momentum**2) * config.noise_level
        self.p = torch.zeros_like(like)

    def step(self, w: Tensor, force: Tensor, noise: Tensor) -> None:
        """See `Method`."""
        p = self.p.add_(force, alpha=-self.h)
        w.add_(p, alpha=self.h / 2)
        p.mul_(self.momentum)
        if self.noise:
            p.add_(noise, alpha=self.noise)
        w.add_(p, alpha=self.h / 2)


METHODS: dict[str, type[Sgld] | type[Baoab]] = {"sgld": Sgld, "baoab": Baoab}


def force_of(
    w: Tensor, star: Tensor, grad: Tensor, config: SamplerConfig, out: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Returns G = nβ ∇L + γ (w − w*) + ρ w and w − w*, both (G, F).

    Args:
        w: Free parameters.
        star: w*, broadcastable to w.
        grad: ∇L, which G overwrites.
        config: nβ, γ, ρ.
        out: Memory for w − w*.
    """
    moved = torch.sub(w, star, out=out)
    force = grad.mul_(config.n_beta).add_(moved, alpha=config.localization)
    if config.prior:
        force.add_(w, alpha=float(config.prior))
    return force, moved


def heating(delta: Tensor, others: Tensor, config: SamplerConfig) -> Tensor:
    """Returns the excess of nβ (L − L(w*)) caused by minibatch noise, to first order: (G,).

    Args:
        delta: (G, F), the difference of ∇L between two minibatches at the same w.
        others: (K, G, F), w − w* of K other chains of the same posterior. The correction for flat
            directions is averaged over them; with K = 0 (a single chain) it is left out.
        config: ε, nβ, γ, ρ and c.
    """
    c = config.momentum
    pull = config.localization + float(config.prior)
    size = torch.linalg.vector_norm(delta, dim=1).square_()
    along = torch.mul(others, delta).sum(2).square_().sum(0).div_(max(1, len(others)))
    scale = (1 + c) / (1 - c) * config.lr / 16 * config.n_beta**2
    return scale * (size - pull * along)
