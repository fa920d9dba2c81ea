"""Who samples: workers that each take the restrictions of some checkpoints, with our kernels or with devinterp."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from torch import Tensor

from devsort.artifacts import Run
from devsort.config import SamplerConfig
from devsort.kernels import lane_bytes
from devsort.llc.flags import Context
from devsort.model import Params, Shape, model_shape
from devsort.rng import name_key
from devsort.sampling import minibatches, run_chains
from devsort.sampling.parts import data_parts
from devsort.sampling.restrictions import restriction_mask
from devsort.sampling.sorting import Minibatches, Reference, SortObjective, sort_kernels
from devsort.sampling.trace import Trace
from devsort.task import sampling_set
from devsort.threads import cores, one_core
from devsort.train import resolve_device

STACK = 512  # lists that stacked lanes see at a step on a CPU; beyond it their memory outgrows the caches
GROUPS = 8  # groups of checkpoints on a CPU, at least: so many cores share them, and an interruption costs little
ALONE = 200_000  # lists that chains may see in all before more processes pay for their start, which takes seconds


def settings(run: Run) -> SamplerConfig:
    """The run's sampler settings with `prior: weight_decay` resolved to ρ = nβ λ_wd."""
    sampler = run.config.llc.sampler
    if sampler.prior != "weight_decay":
        return sampler
    return sampler.model_copy(update={"prior": sampler.n_beta * run.config.train.weight_decay})


def chance_context(run: Run, sampler: SamplerConfig) -> Context:
    """What the flags need to know; a uniform guess over the V tokens has the loss ln V."""
    return Context.of(sampler, math.log(run.config.task.numbers + 1))


def parts_of(run: Run) -> dict[str, Tensor]:
    """The parts of the data that the run follows, see `devsort.sampling.parts`."""
    task = run.config.task
    return data_parts(run.config.llc.parts, sampling_set(task, run.config.llc.dataset_size), task)


class Worker:
    """Samples all restrictions of some checkpoints side by side, on a CPU on one core."""

    def __init__(self, run: Run, names: Sequence[str]) -> None:
        config, task = run.config.llc, run.config.task
        self.run, self.config, self.names = run, settings(run), names
        self.device = resolve_device(run.config.device)
        self.shape = model_shape(task, run.config.model)
        self.groups = 1 if self.device.type == "cuda" else GROUPS
        self.data = sampling_set(task, config.dataset_size).to(self.device)
        self.parts = {name: chosen.to(self.device) for name, chosen in parts_of(run).items()}
        self.lanes = lanes_at_once(self.shape, self.config.batch_size, self.device.type, run.config.memory)
        self.pieces = [range(i, min(i + self.lanes, self._chains)) for i in range(0, self._chains, self.lanes)]
        self._index = {chains: self._minibatches(chains) for chains in self.pieces[:1]}
        self.kernels = sort_kernels(self.shape, self.device)

    def __reduce__(self) -> tuple:
        """Another process makes its own."""
        return Worker, (self.run, self.names)

    def processes(self, chain_steps: int) -> int:
        """How many processes so many steps of chains are worth."""
        if self.device.type == "cuda" or chain_steps * self.config.batch_size < ALONE:
            return 1
        return cores()

    @property
    def checkpoints(self) -> int:
        """How many checkpoints are sampled side by side."""
        return max(1, self.lanes // self._chains)

    def __call__(self, checkpoints: Mapping[int, Params], advanced: Callable[[int], None]) -> dict[int, list[Trace]]:
        """Traces of all restrictions at checkpoints.

        Args:
            checkpoints: Training step → parameters.
            advanced: Called with the number of chain-steps done since the last call.
        """
        with one_core():
            distinct = {id(params): params for params in checkpoints.values()}  # the bench has one many times
            made = {key: self._reference(params) for key, params in distinct.items()}
            references = [made[id(params)] for params in checkpoints.values()]

            def told(lanes: int, _: int) -> None:
                advanced(lanes)

            def traces(name: str) -> Iterator[list[Trace]]:
                frozen = None  # with more pieces than one there is one checkpoint
                for chains in self.pieces:
                    streams = [(step, name_key(name), c) for step in checkpoints for c in chains]
                    objective = SortObjective(self.kernels, references, name, self.batches(chains), frozen)
                    frozen = objective.frozen
                    trace = run_chains(objective, self.config, streams, partial(told, len(streams)))
                    yield [trace.chains(slice(i, i + len(chains))) for i in range(0, len(streams), len(chains))]

            whole = [[Trace.join(pieces) for pieces in zip(*traces(name), strict=True)] for name in self.names]
        return dict(zip(checkpoints, map(list, zip(*whole, strict=True)), strict=True))

    def batches(self, chains: range) -> Minibatches:
        """The minibatches of some chains."""
        held = self._index.get(chains)
        return Minibatches(self.data, self._minibatches(chains) if held is None else held, self.parts)

    def _reference(self, params: Params) -> Reference:
        on_device = {name: value.to(self.device) for name, value in params.items()}
        return Reference(self.kernels[0], on_device, self.data)

    @property
    def _chains(self) -> int:
        return self.config.num_chains

    def _minibatches(self, chains: range) -> Tensor:
        c = self.config
        return minibatches(c.seed, chains, c.num_steps, c.batch_size, len(self.data)).to(self.device)


def lanes_at_once(shape: Shape, batch_size: int, device: str, memory: int) -> int:
    """How many lanes are stacked: as many as `memory` MiB hold, and on a CPU as many as its caches serve well."""
    fit = max(1, memory * 2**20 // lane_bytes(shape, batch_size))
    return fit if device == "cuda" else min(fit, max(1, STACK // batch_size))


class ReferenceWorker:
    """Samples all restrictions of one checkpoint with devinterp, which works on one at a time."""

    checkpoints = groups = 1

    def __init__(self, run: Run, names: Sequence[str]) -> None:
        self.config, self.names = settings(run), names
        self.shape = model_shape(run.config.task, run.config.model)
        self.data = sampling_set(run.config.task, run.config.llc.dataset_size)
        from devsort.sampling.devinterp import sample_with_devinterp  # slow

        self.sample = sample_with_devinterp

    def processes(self, chain_steps: int) -> int:
        """One: devinterp has all cores work on each product."""
        return 1

    def __call__(self, checkpoints: Mapping[int, Params], advanced: Callable[[int], None]) -> dict[int, list[Trace]]:
        """Traces of all restrictions at checkpoints, see `Worker`."""
        return {step: self._traces(step, params, advanced) for step, params in checkpoints.items()}

    def _traces(self, step: int, params: Params, advanced: Callable[[int], None]) -> list[Trace]:
        traces = []
        for name in self.names:
            mask, seed = restriction_mask(name, self.shape), name_key(f"{self.config.seed} {step} {name}")
            traces.append(self.sample(params, self.data, self.config, mask, seed % 2**31))
            advanced(self.config.num_chains * self.config.num_steps)
        return traces
