"""The chain: a sampler on the free parameters of stacked lanes."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from devsort.sampling.config import SamplerConfig
from devsort.sampling.graphs import Replayed, can_capture
from devsort.sampling.methods import METHODS, force_of, heating
from devsort.sampling.noise import lane_noise
from devsort.sampling.objective import Objective, Parts
from devsort.sampling.trace import ARRAYS, Trace

OTHERS = 3  # chains that a measurement of heat is averaged over


def run_chains(
    objective: Objective,
    config: SamplerConfig,
    streams: Sequence[tuple[int, ...]],
    on_step: Callable[[int], None] | None = None,
    watch: "Watch | None" = None,
) -> Trace:
    """Runs one lane for each row of the objective's center.

    Args:
        objective: What is sampled.
        config: Sampler settings; chain counts and batch sizes are the objective's affair.
        streams: For each lane the indices that name its noise, such as (checkpoint, restriction,
            chain).
        on_step: Called after each step with its number.
        watch: Sees the state of some draws.

    Returns:
        The trace, one row a lane. A lane that is no longer finite stays NaN from there on; nothing
        is dropped.
    """
    advance = _Step(objective, config, streams)
    record = _Record(config, torch.empty_like(advance.w))
    plain, probed = advance.turns()
    for step in range(config.num_steps):
        if watch and config.keeps(step, watch.every):
            watch(advance.w)
        record(step, (probed if config.probes(step) else plain)())
        if on_step:
            on_step(step)
    return record.trace(advance.w.shape[1])


class Watch(Protocol):
    """Evaluates something of its own at the draws; it changes no draw.

    Attributes:
        every: One in so many draws is seen.
    """

    every: int

    def __call__(self, w: Tensor) -> None:
        """The state (G, F) whose loss the trace has at that draw, to be read only."""
        ...


class _Step:
    """A step of all lanes; where it is replayed as a graph its number lies on the device."""

    def __init__(
        self, objective: Objective, config: SamplerConfig, streams: Sequence[tuple[int, ...]]
    ) -> None:
        self.objective, self.config, self.star = objective, config, objective.center
        self.w = self.star.clone(memory_format=torch.contiguous_format)
        self.moved, self.noise = torch.empty_like(self.w), lane_noise(config.seed, streams, self.w)
        self.others = _others(streams).to(self.w.device)
        self.method = METHODS[config.sampling_method](config, self.w)
        self.replayed = can_capture(self.w.device) and getattr(objective, "static", False)
        self.number = (
            torch.zeros(1, dtype=torch.int64, device=self.w.device) if self.replayed else 0
        )

    def turns(self) -> tuple[Callable, Callable]:
        """A plain step, and one that measures its heating."""
        plain, measuring = self, partial(self, probe=True)
        return (Replayed(plain), Replayed(measuring)) if self.replayed else (plain, measuring)

    def __call__(self, probe: bool = False) -> dict[str, Tensor | Parts]:
        """What there is to record of the state before the update."""
        loss, init_loss, grad, parts = self.objective(self.w, self.number)
        seen: dict[str, Any] = {"loss": loss, "init_loss": init_loss, "parts": parts}
        if probe:
            seen, grad = tree_map(torch.clone, (seen, grad))  # the objective uses its memory again
            other = self.objective(self.w, (self.number + 1) % self.config.num_steps)[2]
            moved = torch.sub(self.w, self.star, out=self.moved)
            seen["heating"] = heating(other.sub_(grad), moved[self.others], self.config)
        force, moved = force_of(self.w, self.star, grad, self.config, self.moved)
        self.method.step(self.w, force, self.noise(self.number))
        self.number += 1  # in place on a device
        return seen | {"force": force, "moved": moved}


def _others(streams: Sequence[tuple[int, ...]]) -> Tensor:
    """(K, G) for each lane up to OTHERS other chains of its posterior: lanes whose names differ in
    the last index alone, as many for all.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for lane, name in enumerate(streams):
        groups.setdefault(tuple(name[:-1]), []).append(lane)
    count = min(OTHERS, min(len(lanes) for lanes in groups.values()) - 1)
    found = torch.empty(count, len(streams), dtype=torch.int64)
    for lanes in map(torch.tensor, groups.values()):
        for k in range(count):
            found[k, lanes] = lanes.roll(-1 - k)
    return found


class _Record:
    """Collects the losses of burn-in, then everything at every `num_steps_bw_draws`-th step."""

    def __init__(self, config: SamplerConfig, scratch: Tensor) -> None:
        self.config, self.scratch = config, scratch
        self.columns: dict[str, list[Tensor]] = {name: [] for name in ARRAYS}
        self.parts: dict[str, list[Tensor]] = {}

    def __call__(self, step: int, seen: dict) -> None:
        if step < self.config.num_burnin_steps:
            self._add(burnin_loss=seen["loss"], burnin_init_loss=seen["init_loss"])
        elif self.config.keeps(step):
            force, moved = seen["force"], seen["moved"]
            work = torch.mul(force, moved, out=self.scratch).sum(1)
            self._add(work=work, force=_square(force), distance=_square(moved))
            self._add(**{n: seen[n] for n in ("loss", "init_loss", "heating") if n in seen})
            for name, value in seen["parts"].items():
                self.parts.setdefault(name, []).append(value.clone())

    def _add(self, **values: Tensor) -> None:
        for name, value in values.items():
            self.columns[name].append(value.detach().clone())

    def trace(self, dimension: int) -> Trace:
        lanes = len(self.scratch)
        empty = np.empty((lanes, 0), _stack(self.columns["loss"]).dtype)
        arrays = {n: _stack(column) if column else empty for n, column in self.columns.items()}
        parts = {name: _stack(column) for name, column in self.parts.items()}
        return Trace(**arrays, parts=parts, dimension=dimension, config=self.config)


def _square(a: Tensor) -> Tensor:
    return torch.linalg.vector_norm(a, dim=1).square_()  # (G,)


def _stack(column: Sequence[Tensor]) -> np.ndarray:
    return torch.stack(list(column), 1).cpu().numpy()  # (C, T)
