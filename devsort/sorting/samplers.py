"""The samplers of a run's checkpoints: our kernels, or devinterp as the reference."""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from devsort.execution import cores, one_core, resolve_device, unheard
from devsort.llc.settle import until_settled
from devsort.llc.trajectory import Job
from devsort.rng import name_key
from devsort.sampling import Objective, SamplerConfig, Trace, minibatches, run_chains
from devsort.sorting.checkpoints import load_checkpoint
from devsort.sorting.geometry import relative, sorter_scales
from devsort.sorting.kernels import lane_bytes
from devsort.sorting.model import Params, Shape, model_shape
from devsort.sorting.objective import Checkpoint, Minibatches, SortObjective, sort_kernels
from devsort.sorting.parts import data_parts
from devsort.sorting.restrictions import restriction_mask
from devsort.sorting.run import Run
from devsort.sorting.task import sampling_set

STACKED = 512  # lists per step of all lanes on a CPU; with more, their memory outgrows the caches
STACKS = 8  # fewest stacks on a CPU: enough for many cores, and an interruption loses little
ALONE = 200_000  # lists of all chains together, above which starting more processes pays off
Advanced = Callable[[int], None]


def settings(run: Run) -> SamplerConfig:
    """The run's sampler settings with `prior: weight_decay` resolved to ρ = nβ λ_wd."""
    sampler = run.config.llc.sampler
    if sampler.prior != "weight_decay":
        return sampler
    return sampler.model_copy(update={"prior": sampler.n_beta * run.config.train.weight_decay})


def chance_loss(run: Run) -> float:
    """The loss in nats of a uniform guess over the V tokens: ln V."""
    return math.log(run.config.task.numbers + 1)


def parts_of(run: Run) -> dict[str, Tensor]:
    """The parts of the data that the run follows, see `devsort.sorting.parts`."""
    task = run.config.task
    return data_parts(run.config.llc.parts, sampling_set(task, run.config.llc.dataset_size), task)


@dataclass(frozen=True)
class Piece:
    """Some chains of one restriction at some checkpoints.

    Attributes:
        plain: Their objective as a function of the weights.
        objective: The same as a function of the variables that are sampled.
        streams: Names of the random stream of each lane.
        chains: Number of chains at each checkpoint.
    """

    plain: SortObjective
    objective: Objective
    streams: list[tuple[int, ...]]
    chains: int

    @property
    def by_checkpoint(self) -> list[slice]:
        """The lanes of each checkpoint."""
        starts = range(0, len(self.streams), self.chains)
        return [slice(i, i + self.chains) for i in starts]


class SortSampler:
    """Samples a restriction at several checkpoints of a run side by side; a CPU uses one core."""

    def __init__(self, run: Run) -> None:
        config, task = run.config.llc, run.config.task
        self.run, self.config = run, settings(run)
        self.device = resolve_device(run.config.device)
        self.shape = model_shape(task, run.config.model)
        self.fewest = 1 if self.device.type == "cuda" else STACKS
        self.data = sampling_set(task, config.dataset_size).to(self.device)
        self.parts = {name: part.to(self.device) for name, part in parts_of(run).items()}
        batch, memory = self.config.batch_size, run.config.memory
        self.lanes = lanes_at_once(self.shape, batch, self.device.type, memory)
        chains = self.config.num_chains
        starts = range(0, chains, self.lanes)
        self.pieces = [range(i, min(i + self.lanes, chains)) for i in starts]
        self._index = {piece: self._minibatches(piece) for piece in self.pieces[:1]}
        self.kernels = sort_kernels(self.shape, self.device)
        self._loaded: dict[int, Checkpoint] = {}

    def __reduce__(self) -> tuple:
        """Pickles the run alone: another process makes its own sampler."""
        return SortSampler, (self.run,)

    def processes(self, chain_steps: int) -> int:
        """How many processes to use for a number of chain-steps."""
        if self.device.type == "cuda" or chain_steps * self.config.batch_size < ALONE:
            return 1
        return cores()

    @property
    def stack(self) -> int:
        """How many checkpoints are sampled side by side."""
        return max(1, self.lanes // self.config.num_chains)

    def __call__(self, job: Job, advanced: Advanced) -> dict[int, Trace]:
        """The trace of each checkpoint; checkpoints that the last job loaded are used again."""
        with one_core():
            return self.sample(self.load(job.steps), job.restriction, advanced)

    def load(self, steps: Sequence[int]) -> dict[int, Checkpoint]:
        """The checkpoints of these steps; those of the last call are not loaded again."""
        last = self._loaded
        self._loaded = {s: last[s] if s in last else self._load(s) for s in steps}
        return self._loaded

    def sample(
        self, checkpoints: Mapping[int, Checkpoint], name: str, advanced: Advanced
    ) -> dict[int, Trace]:
        """Traces of one restriction, with as much burn-in as each checkpoint needs.

        Args:
            checkpoints: Training step → checkpoint.
            name: The restriction.
            advanced: Called with the number of chain-steps done since the last call.
        """

        def draw(config: SamplerConfig, steps: Collection[int]) -> dict[int, Trace]:
            first = config == self.config  # the progress bar does not count additional burn-in
            sampler = self if first else self.with_settings(config)
            subset = {step: checkpoints[step] for step in steps}
            return sampler.drawn(subset, name, advanced if first else unheard)

        return until_settled(draw, self.config, checkpoints)

    def drawn(
        self, checkpoints: Mapping[int, Checkpoint], name: str, advanced: Advanced
    ) -> dict[int, Trace]:
        """As `sample`, with the burn-in, momentum and minibatches of the settings."""
        pieces = self._pieces(checkpoints, name, advanced)
        joined = map(Trace.join, zip(*pieces, strict=True))
        return dict(zip(checkpoints, joined, strict=True))

    def with_settings(self, config: SamplerConfig) -> "SortSampler":
        """The same sampler with other settings."""
        other = object.__new__(SortSampler)  # `copy` would build it from the run, see `__reduce__`
        other.__dict__ = self.__dict__ | {"config": config, "_index": {}}
        return other

    def _pieces(
        self, checkpoints: Mapping[int, Checkpoint], name: str, advanced: Advanced
    ) -> Iterator[list[Trace]]:
        """For each piece of the chains, the trace at every checkpoint."""
        for piece in self.lanes_of(checkpoints, name):
            count = partial(_count, advanced, len(piece.streams))
            trace = run_chains(piece.objective, self.config, piece.streams, count)
            yield [trace.chains(chosen) for chosen in piece.by_checkpoint]

    def lanes_of(self, checkpoints: Mapping[int, Checkpoint], name: str) -> Iterator["Piece"]:
        """The lanes of one restriction, piece by piece of the chains."""
        frozen = None  # if there are several pieces, there is only one checkpoint
        states = list(checkpoints.values())
        for chains in self.pieces:
            plain = SortObjective(self.kernels, states, name, self.batches(chains), frozen)
            frozen = plain.frozen
            scaled = self.config.geometry == "relative"
            sampled = relative(plain, states, self.shape) if scaled else plain
            streams = [(step, name_key(name), c) for step in checkpoints for c in chains]
            yield Piece(plain, sampled, streams, len(chains))

    def batches(self, chains: range) -> Minibatches:
        """The minibatches of some chains."""
        stored = self._index.get(chains)
        index = self._minibatches(chains) if stored is None else stored
        return Minibatches(self.data, index, self.parts)

    def checkpoint(self, params: Params) -> Checkpoint:
        """Parameters with their loss on the data set, on the device."""
        on_device = {name: value.to(self.device) for name, value in params.items()}
        return Checkpoint(self.kernels[0], on_device, self.data)

    def _load(self, step: int) -> Checkpoint:
        return self.checkpoint(load_checkpoint(self.run, step))

    def _minibatches(self, chains: range) -> Tensor:
        c = self.config
        index = minibatches(c.seed, chains, c.num_steps, c.batch_size, len(self.data))
        return index.to(self.device)


def lanes_at_once(shape: Shape, batch_size: int, device: str, memory: int) -> int:
    """How many lanes are stacked.

    As many as fit into `memory` MiB; on a CPU no more than suit its caches.
    """
    fit = max(1, memory * 2**20 // lane_bytes(shape, batch_size))
    return fit if device == "cuda" else min(fit, max(1, STACKED // batch_size))


class DevinterpSampler:
    """Samples a restriction with devinterp, at one checkpoint at a time."""

    stack = fewest = 1

    def __init__(self, run: Run) -> None:
        self.run, self.config = run, settings(run)
        self.shape = model_shape(run.config.task, run.config.model)
        self.data = sampling_set(run.config.task, run.config.llc.dataset_size)

    def processes(self, chain_steps: int) -> int:
        """One, because devinterp uses all cores for each matrix product."""
        return 1

    def __call__(self, job: Job, advanced: Advanced) -> dict[int, Trace]:
        """See `devsort.llc.trajectory.Sampler`."""
        return {step: self._trace(step, job.restriction, advanced) for step in job.steps}

    def _trace(self, step: int, name: str, advanced: Advanced) -> Trace:
        from devsort.sorting.devinterp import SortModule, sample_with_devinterp  # slow to import

        mask = restriction_mask(name, self.shape)
        seed = name_key(f"{self.config.seed} {step} {name}") % 2**31
        params = load_checkpoint(self.run, step)
        scaled = self.config.geometry == "relative"
        module = SortModule(params, sorter_scales(params, self.shape) if scaled else None)
        trace = sample_with_devinterp(params, self.data, self.config, mask, seed, module=module)
        advanced(self.config.num_chains * self.config.num_steps)
        return trace


def _count(advanced: Advanced, lanes: int, _: int) -> None:
    advanced(lanes)
