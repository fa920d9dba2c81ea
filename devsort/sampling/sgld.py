"""The chain: SGLD on the free parameters of stacked lanes."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from devsort.sampling.config import SamplerConfig
from devsort.sampling.graphs import Replayed, can_capture
from devsort.sampling.noise import lane_noise
from devsort.sampling.objective import Objective, Parts
from devsort.sampling.trace import Trace


def sgld_step(
    w: Tensor,
    star: Tensor,
    grad: Tensor,
    noise: Tensor,
    config: SamplerConfig,
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One step of w ← w − (ε/2) G + sqrt(ε) noise with G = nβ ∇L + γ (w − w*) + ρ w.

    Args:
        w: (G, F) free parameters, updated in place.
        star: (G, F) or broadcastable, w*.
        grad: (G, F), ∇L, overwritten by G.
        noise: (G, F) standard normal numbers.
        config: ε, nβ, γ, ρ.
        out: Memory for w − w*.

    Returns:
        G and w − w*, both (G, F), before the update.
    """
    moved = torch.sub(w, star, out=out)
    force = grad.mul_(config.n_beta).add_(moved, alpha=config.localization)
    if config.prior:
        force.add_(w, alpha=config.prior)
    w.add_(force, alpha=-config.lr / 2)
    if config.noise_level:
        w.add_(noise, alpha=math.sqrt(config.lr) * config.noise_level)
    return force, moved


def run_chains(
    objective: Objective,
    config: SamplerConfig,
    streams: Sequence[tuple[int, ...]],
    on_step: Callable[[int], None] | None = None,
) -> Trace:
    """Runs one lane for each row of the objective's center.

    Args:
        objective: What is sampled.
        config: Sampler settings; chain counts and batch sizes are the objective's affair.
        streams: For each lane the indices that name its noise, such as (checkpoint, restriction,
            chain).
        on_step: Called after each step with its number.

    Returns:
        The trace, one row a lane. A lane that is no longer finite stays NaN from there on; nothing
        is dropped.
    """
    advance = _Step(objective, config, streams)
    record = _Record(config, torch.empty_like(advance.w))
    turn = Replayed(advance) if advance.replayed else advance
    for step in range(config.num_steps):
        record(step, *turn())
        if on_step:
            on_step(step)
    return record.trace(advance.w.shape[1])


class _Step:
    """A step of all lanes; where it is replayed as a graph its number lies on the device."""

    def __init__(
        self, objective: Objective, config: SamplerConfig, streams: Sequence[tuple[int, ...]]
    ) -> None:
        self.objective, self.config, self.star = objective, config, objective.center
        self.w = self.star.clone(memory_format=torch.contiguous_format)
        self.moved, self.noise = torch.empty_like(self.w), lane_noise(config.seed, streams, self.w)
        self.replayed = can_capture(self.w.device) and getattr(objective, "static", False)
        self.number = (
            torch.zeros(1, dtype=torch.int64, device=self.w.device) if self.replayed else 0
        )

    def __call__(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Parts]:
        """Loss, the starting point's, G and w − w* before the update, and the rise on parts."""
        loss, init_loss, grad, parts = self.objective(self.w, self.number)
        force, moved = sgld_step(
            self.w, self.star, grad, self.noise(self.number), self.config, self.moved
        )
        self.number += 1  # in place on a device
        return loss, init_loss, force, moved, parts


class _Record:
    """Collects the losses of burn-in, then everything at every `num_steps_bw_draws`-th step."""

    def __init__(self, config: SamplerConfig, scratch: Tensor) -> None:
        self.config, self.scratch = config, scratch
        self.burnin: list[tuple[Tensor, ...]] = []
        self.draws: list[tuple[Tensor, ...]] = []
        self.parts: dict[str, list[Tensor]] = {}

    def __call__(
        self, step: int, loss: Tensor, init_loss: Tensor, force: Tensor, moved: Tensor, parts: dict
    ) -> None:
        after = step - self.config.num_burnin_steps
        if after < 0:
            self.burnin.append((loss.detach().clone(), init_loss.detach().clone()))
        elif after % self.config.num_steps_bw_draws == 0:
            work = torch.mul(force, moved, out=self.scratch).sum(1)
            evidence = (work, _square(force), _square(moved))
            self.draws.append((loss.detach().clone(), init_loss.detach().clone(), *evidence))
            for name, value in parts.items():
                self.parts.setdefault(name, []).append(value.clone())

    def trace(self, dimension: int) -> Trace:
        loss, init_loss, work, force, distance = (
            _stack(column) for column in zip(*self.draws, strict=True)
        )
        empty = np.empty((len(loss), 0), loss.dtype)
        burnin = [_stack(column) for column in zip(*self.burnin, strict=True)] or [empty, empty]
        parts = {name: _stack(column) for name, column in self.parts.items()}
        draws = (loss, init_loss, work, force, distance)
        return Trace(*draws, *burnin, parts, dimension, self.config)


def _square(a: Tensor) -> Tensor:
    return torch.linalg.vector_norm(a, dim=1).square_()  # (G,)


def _stack(column: Sequence[Tensor]) -> np.ndarray:
    return torch.stack(list(column), 1).cpu().numpy()  # (C, T)
