"""Samplers: how a lane moves. All have one face, `Method`, and draw positions from

    exp(−U(w)),    U = nβ L(w) + γ/2 |w − w*|² + ρ/2 |w|²,    G = ∇U on a minibatch.

| method | step, with h = sqrt(ε) and c the `momentum` that is kept                        |
|--------|---------------------------------------------------------------------------------|
| sgld   | w ← w − (ε/2) G + sqrt(ε) R                                                     |
| baoab  | p ← p − h G;  w ← w + (h/2) p;  p ← c p + sqrt(1 − c²) R;  w ← w + (h/2) p      |

R is standard normal. SGLD is devinterp's, of first order: its bias grows with ε. BAOAB (Leimkuhler
& Matthews 2013) is underdamped Langevin of mass 1 and friction −ln(c)/h; the two half kicks between
draws are one. It is of second order, and exact in position on quadratics as long as h² a < 4 for
every curvature a of U. With c = 0 it is Leimkuhler–Matthews, w ← w − (ε/2) G + sqrt(ε) (R + R′)/2;
the same ε means the same size of a step in all of them.

Noise of the minibatches heats a chain. In directions that relax slower than the momentum, BAOAB
turns the variance Σ of G among minibatches into the temperature 1 + k ε Σ/4, k = (1 + c)/(1 − c),
so λ̂ is too high by, to first order,

    (k ε / 8) tr(W Σ),    W = nβ H (nβ H + γ)⁻¹ = 1 − γ C

with H the curvature of the loss and C = (nβ H + γ)⁻¹ the covariance of the draws. With δ the
difference of G between two minibatches at the same w, E[δ δᵀ] = 2 Σ, so one more gradient at a draw
measures it (`heating`): (k ε / 16) (|δ|² − (γ + ρ) (u·δ)²), with u the w − w* of other chains,
since a chain's own is not independent of the noise where it is.
"""

import math
from typing import Protocol

import torch
from torch import Tensor

from devsort.sampling.config import SamplerConfig


class Method(Protocol):
    """Moves lanes."""

    def step(self, w: Tensor, force: Tensor, noise: Tensor) -> None:
        """One step of w (G, F), in place, given G(w) and standard normal numbers, both (G, F)."""
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
    """Underdamped Langevin dynamics; see the module. Momenta (G, F) start at zero."""

    def __init__(self, config: SamplerConfig, like: Tensor) -> None:
        self.h, self.kept = math.sqrt(config.lr), config.momentum
        self.noise = math.sqrt(1 - self.kept**2) * config.noise_level
        self.p = torch.zeros_like(like)

    def step(self, w: Tensor, force: Tensor, noise: Tensor) -> None:
        """See `Method`."""
        p = self.p.add_(force, alpha=-self.h)
        w.add_(p, alpha=self.h / 2)
        p.mul_(self.kept)
        if self.noise:
            p.add_(noise, alpha=self.noise)
        w.add_(p, alpha=self.h / 2)


METHODS: dict[str, type[Sgld] | type[Baoab]] = {"sgld": Sgld, "baoab": Baoab}


def force_of(
    w: Tensor, star: Tensor, grad: Tensor, config: SamplerConfig, out: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """G = nβ ∇L + γ (w − w*) + ρ w, in place of ∇L, and w − w*; all (G, F).

    Args:
        w: Free parameters.
        star: w*, broadcastable.
        grad: ∇L, overwritten by G.
        config: nβ, γ, ρ.
        out: Memory for w − w*.
    """
    moved = torch.sub(w, star, out=out)
    force = grad.mul_(config.n_beta).add_(moved, alpha=config.localization)
    if config.prior:
        force.add_(w, alpha=float(config.prior))
    return force, moved


def heating(delta: Tensor, others: Tensor, config: SamplerConfig) -> Tensor:
    """How much too high nβ (L − L(w*)) is through the noise of minibatches, to first order: (G,).

    Args:
        delta: (G, F), difference of ∇L between two minibatches at the same w.
        others: (K, G, F), w − w* of other chains of the same posterior, over which the mean is
            taken; with K = 0, for a single chain, no direction is taken for flat.
        config: ε, nβ, γ, ρ and c.
    """
    kept = config.momentum
    pull = config.localization + float(config.prior)
    size = torch.linalg.vector_norm(delta, dim=1).square_()
    along = torch.mul(others, delta).sum(2).square_().sum(0).div_(max(1, len(others)))
    scale = (1 + kept) / (1 - kept) * config.lr / 16 * config.n_beta**2
    return scale * (size - pull * along)
