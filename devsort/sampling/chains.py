"""Runs chains: a sampler applied to the free parameters of stacked lanes."""

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

OTHERS = 3  # number of other chains that a heating measurement averages over


def run_chains(
    objective: Objective,
    config: SamplerConfig,
    streams: Sequence[tuple[int, ...]],
    on_step: Callable[[int], None] | None = None,
    watch: "Watch | None" = None,
) -> Trace:
    """Runs one lane for each row of the objective's center.

    Args:
        objective: The losses and gradients of the lanes.
        config: Sampler settings. The number of chains and the batch size are not read from it: the
            objective determines them.
        streams: For each lane, the indices that name its noise, such as (checkpoint, restriction,
            chain).
        on_step: Called after each step with the number of the step.
        watch: Called with the parameters at some of the draws.

    Returns:
        The trace, one row per lane. If the parameters of a lane become infinite or NaN, its values
        are NaN from that step on; no lane is dropped.
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
    """Evaluates further quantities at the draws, without changing them.

    Attributes:
        every: It is called at every `every`-th draw.
    """

    every: int

    def __call__(self, w: Tensor) -> None:
        """Reads the parameters (G, F) at a draw. It must not change them.

        They are the parameters whose loss the trace records at that draw.
        """
        ...


class _Step:
    """One step of all lanes. If it is replayed as a graph, the step number is on the device."""

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
        """Returns a plain step, and one that also measures the heating."""
        plain, measuring = self, partial(self, probe=True)
        return (Replayed(plain), Replayed(measuring)) if self.replayed else (plain, measuring)

    def __call__(self, probe: bool = False) -> dict[str, Tensor | Parts]:
        """Moves all lanes by one step and returns what to record of the state before it."""
        loss, init_loss, grad, parts = self.objective(self.w, self.number)
        record: dict[str, Any] = {"loss": loss, "init_loss": init_loss, "parts": parts}
        if probe:
            # the objective reuses its memory in the next call
            record, grad = tree_map(torch.clone, (record, grad))
            other = self.objective(self.w, (self.number + 1) % self.config.num_steps)[2]
            moved = torch.sub(self.w, self.star, out=self.moved)
            record["heating"] = heating(other.sub_(grad), moved[self.others], self.config)
        force, moved = force_of(self.w, self.star, grad, self.config, self.moved)
        self.method.step(self.w, force, self.noise(self.number))
        self.number += 1  # in place on a device
        return record | {"force": force, "moved": moved}


def _others(streams: Sequence[tuple[int, ...]]) -> Tensor:
    """Returns (K, G): for each lane, up to OTHERS other chains of the same posterior.

    These are lanes whose names differ only in the last index. K is the same for all lanes.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for lane, name in enumerate(streams):
        groups.setdefault(tuple(name[:-1]), []).append(lane)
    count = min(OTHERS, min(len(lanes) for lanes in groups.values()) - 1)
    others = torch.empty(count, len(streams), dtype=torch.int64)
    for lanes in map(torch.tensor, groups.values()):
        for k in range(count):
            others[k, lanes] = lanes.roll(-1 - k)
    return others


class _Record:
    """Records the losses during burn-in, then everything at every `num_steps_bw_draws`-th step."""

    def __init__(self, config: SamplerConfig, scratch: Tensor) -> None:
        self.config, self.scratch = config, scratch
        self.columns: dict[str, list[Tensor]] = {name: [] for name in ARRAYS}
        self.parts: dict[str, list[Tensor]] = {}

    def __call__(self, step: int, record: dict) -> None:
        if step < self.config.num_burnin_steps:
            self._add(burnin_loss=record["loss"], burnin_init_loss=record["init_loss"])
        elif self.config.keeps(step):
            force, moved = record["force"], record["moved"]
            work = torch.mul(force, moved, out=self.scratch).sum(1)
            self._add(work=work, force=_square(force), distance=_square(moved))
            self._add(**{n: record[n] for n in ("loss", "init_loss", "heating") if n in record})
            for name, value in record["parts"].items():
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
