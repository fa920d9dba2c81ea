"""Slow, independent reference samplers for the LLC, nβ E[L − L(w*)] under

    exp(−U),    U = nβ L(w) + γ/2 |w − w*|²    (in u = (w − w*)/s in relative geometry).

They have no code, noise or minibatches in common with `devsort.sampling`.

`extrapolated` is underdamped Langevin dynamics (kick, half drift, partial renewal of the momentum,
half drift), a second-order method. It uses a small step and two sizes of minibatch, and the heat is
linear in 1/B:

    V(B) = V₀ + a/B,    V₀ = V(B) − [V(B/4) − V(B)]/3

Half of the chains start at w*, the others at w* + N(0, 1/(4γ)) in every entry, and R-hat measures
whether they agree. `hmc` is Hamiltonian Monte Carlo on the full data with a Metropolis test, which
has no error from the step or from minibatches. Its integrator is the three-stage one of Blanes,
Casas & Sanz-Serna (2014), which accepts more than leapfrog at the same cost in many dimensions.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from devsort.llc.uncertainty import mean_of, split_rhat

Gradient = Callable[[Tensor], tuple[Tensor, Tensor]]  # w (C, F) → L − L(w*) (C,), ∇L (C, F)
Drawn = Callable[[int, int], Gradient]  # (batch size, seed) → the gradient on minibatches
KEPT = 0.8  # fraction of the momentum that is kept in a step
KICK, DRIFT = 0.11888010966548, 0.29619504261126  # of the integrator of `hmc`
STARTS = 0.5  # spread of the starting points of half of the chains, in units of 1/sqrt(γ)


@dataclass(frozen=True)
class Reference:
    """nβ E[L − L(w*)], its standard error, and the largest R-hat of its chains."""

    llc: float
    se: float
    rhat: float


@dataclass(frozen=True)
class Target:
    """The posterior to sample.

    Attributes:
        star: (F,), w*.
        n_beta: nβ.
        localization: γ.
    """

    star: Tensor
    n_beta: float
    localization: float

    def starts(self, chains: int, generator: torch.Generator) -> Tensor:
        """Returns the starting points (C, F): every other chain at w*, the rest around it."""
        spread = torch.full((chains, 1), STARTS / math.sqrt(self.localization))
        spread[::2] = 0
        return self.star + spread * self.normal(chains, generator)

    def normal(self, chains: int, generator: torch.Generator) -> Tensor:
        """Returns standard normal numbers (C, F)."""
        return torch.randn(chains, len(self.star), generator=generator, dtype=self.star.dtype)

    def slope(self, w: Tensor, grad: Tensor) -> Tensor:
        """Returns ∇U, given ∇L."""
        return self.n_beta * grad + self.localization * (w - self.star)


def extrapolated(
    target: Target, drawn: Drawn, lr: float, batch: int, chains: int, steps: int, seed: int = 0
) -> Reference:
    """Returns the LLC without the heat of the minibatches; see the module.

    Args:
        target: The posterior.
        drawn: Returns the gradient on minibatches of a given size.
        lr: ε.
        batch: B.
        chains: C.
        steps: Number of steps of each chain, after a burn-in of a fifth as many.
        seed: Seed of all random numbers.
    """
    large, small = (
        langevin(target, drawn(size, seed + i), lr, chains, steps, seed + i)
        for i, size in enumerate((batch, batch // 4))
    )
    return Reference(
        (4 * large.llc - small.llc) / 3,
        math.hypot(4 * large.se, small.se) / 3,
        max(large.rhat, small.rhat),
    )


def langevin(
    target: Target, gradient: Gradient, lr: float, chains: int, steps: int, seed: int
) -> Reference:
    """Runs underdamped Langevin dynamics with one size of minibatch."""
    generator = torch.Generator().manual_seed(seed)
    h, w = math.sqrt(lr), target.starts(chains, generator)
    p, fresh = target.normal(chains, generator), math.sqrt(1 - KEPT**2)
    rises, burnin = [], steps // 5
    for step in range(burnin + steps):
        rise, grad = gradient(w)
        if step >= burnin:
            rises.append(rise.clone())
        kicked = p - h * target.slope(w, grad)
        p = KEPT * kicked + fresh * target.normal(chains, generator)
        w = w + h / 2 * (kicked + p)
    return _of(target, rises)


def hmc(
    target: Target,
    gradient: Gradient,
    lr: float,
    steps: int,
    draws: int,
    chains: int,
    seed: int = 0,
) -> tuple[Reference, float]:
    """Runs Hamiltonian Monte Carlo.

    In the first half of the burn-in every proposal is taken. The starting points are not in
    equilibrium, and where tens of thousands of flat directions gain energy together, the test would
    refuse every step but a tiny one.

    Args:
        target: The posterior.
        gradient: Returns L − L(w*) and ∇L on the full data.
        lr: ε = h², the square of a step of the integrator, which takes three gradients.
        steps: Mean number of steps of a proposal, which is uniform in 1 … 2 steps − 1.
        draws: Number of proposals of each chain, after a burn-in of a fifth as many.
        chains: C.
        seed: Seed of all random numbers.

    Returns:
        The LLC, and the fraction of proposals that were accepted.
    """
    generator = torch.Generator().manual_seed(seed)
    w, rises, accepted = target.starts(chains, generator), [], []
    rise, grad = gradient(w)
    burnin = draws // 5
    for draw in range(burnin + draws):
        count = int(torch.randint(1, 2 * steps, (1,), generator=generator))
        p = target.normal(chains, generator)
        proposed = _integrate(target, gradient, (w, p, rise, grad), math.sqrt(lr), count)
        gain = _energy(target, w, p, rise) - _energy(target, *proposed[:3])
        took = torch.rand(chains, generator=generator, dtype=gain.dtype).log() < gain
        took |= 2 * draw < burnin
        w, rise, grad = (
            torch.where(took.view(-1, *[1] * (new.dim() - 1)), new, old)
            for new, old in zip((proposed[0], *proposed[2:]), (w, rise, grad), strict=True)
        )
        rises.append(rise)
        accepted.append(took)
    return _of(target, rises[-draws:]), float(torch.stack(accepted[-draws:]).double().mean())


def _integrate(
    target: Target, gradient: Gradient, state: tuple[Tensor, ...], h: float, count: int
) -> tuple[Tensor, ...]:
    """Kick, drift, kick, drift, kick, drift, kick, `count` times."""
    w, p, rise, grad = state
    for _ in range(count):
        p = p - KICK * h * target.slope(w, grad)
        for drift, kick in ((DRIFT, 0.5 - KICK), (1 - 2 * DRIFT, 0.5 - KICK), (DRIFT, KICK)):
            w = w + drift * h * p
            rise, grad = (value.clone() for value in gradient(w))
            p = p - kick * h * target.slope(w, grad)
    return w, p, rise, grad


def _energy(target: Target, w: Tensor, p: Tensor, rise: Tensor) -> Tensor:
    w, p = w.double(), p.double()  # a kinetic energy of 25,000 has an error of 0.01 in float32
    pull = target.localization / 2 * (w - target.star).square().sum(1)
    return target.n_beta * rise + pull + p.square().sum(1) / 2


def _of(target: Target, rises: list[Tensor]) -> Reference:
    values = target.n_beta * torch.stack(rises, 1).double().numpy()  # (C, T)
    mean = mean_of(np.asarray(values))
    return Reference(mean.value, mean.se, split_rhat(values))
