"""Samples the checkpoints of any network, with several chains and checkpoints at once."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import cloudpickle
import torch
from torch import Tensor

from devsort.errors import UserError
from devsort.execution import cores, one_core, resolve_device, unheard
from devsort.llc.settle import until_settled
from devsort.llc.trajectory import Job
from devsort.networks.restrictions import FULL
from devsort.networks.sources import Source, State
from devsort.networks.states import fitted
from devsort.rng import name_key
from devsort.sampling import SamplerConfig, Trace, run_chains
from devsort.sampling.api import check_start, in_geometry, minibatches_of
from devsort.sampling.checks import generators_kept
from devsort.sampling.geometry import Blocks
from devsort.sampling.losses import Loss
from devsort.sampling.masks import Mask
from devsort.sampling.objective import LossObjective

STACKS = 2  # fewest stacks on a CPU, so that two cores can share them
STACKED = 16  # most lanes at once on a CPU; with more, vmap is not faster
ALONE = 2_000  # chain-steps below which further processes do not pay for their start
Advanced = Callable[[int], None]


@dataclass(frozen=True)
class Work:
    """Everything that is needed to sample a trajectory.

    Attributes:
        loss: `loss(params, batch)`.
        source: The checkpoints.
        data: Tensors, or None.
        config: Sampler settings.
        masks: Name of a restriction → mask.
        parts: Name of a part of the data → mask over its rows.
        blocks: See `geometry.block_scales`.
        device: The device to compute on.
        memory: MiB that the lanes of a stack may use together.
    """

    loss: Loss
    source: Source
    data: Any
    config: SamplerConfig
    masks: Mapping[str, Mask | None]
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    blocks: Blocks | None = None
    device: str = "cpu"
    memory: int = 1024

    def with_choices(self, masks: Mapping[str, Mask | None], parts: Mapping[str, Tensor]) -> "Work":
        """Returns the same work with these restrictions and parts of the data."""
        return replace(self, masks=masks, parts=parts)

    def state(self, step: int) -> State:
        """Returns the tensors of a checkpoint, on the device."""
        loaded = fitted(self.source.load(step), self.loss, f"the checkpoint of step {step}")
        return {name: t.detach().to(self.device) for name, t in loaded.items()}


class NetworkSampler:
    """Samples a restriction at several checkpoints at once; see `llc.trajectory.Sampler`.

    Args:
        work: What to sample.
        count: The largest number of processes. With None, one per core.
    """

    by_value = True  # pickled with the functions of notebooks and scripts

    def __init__(self, work: Work, count: int | None = None) -> None:
        self.work, self.count, self.config = work, count, work.config
        self.device = torch.device(work.device)
        on_cpu = self.device.type == "cpu"
        self._states: dict[int, State] = {}
        self._losses: dict[tuple, list[Tensor] | None] = {}
        self.fewest = STACKS if on_cpu else 1
        one_step = self.config.model_copy(update={"num_draws": 1, "num_burnin_steps": 0})
        first = self._with(one_step).objective(work.source.steps[:1], FULL, range(1))
        self.probe = check_start(first)
        self.traits = first.traits
        fit = max(1, work.memory * 2**20 // first.lane_bytes)
        self.lanes = min(fit, max(STACKED, self.config.num_chains)) if on_cpu else fit

    def __reduce__(self) -> tuple:
        """Another process creates its own sampler from the work."""
        return _revived, (cloudpickle.dumps((self.work, self.count)),)

    @property
    def stack(self) -> int:
        """The number of checkpoints that are sampled at once: one if vmap cannot map the loss."""
        return 1 if self.traits.refusal else max(1, self.lanes // self.config.num_chains)

    def processes(self, chain_steps: int) -> int:
        """Returns how many processes to use for this number of chain-steps."""
        if self.device.type != "cpu" or chain_steps < ALONE:
            return 1
        return self.count or cores()

    def __call__(self, job: Job, advanced: Advanced) -> dict[int, Trace]:
        """Returns the trace of each checkpoint, with as much burn-in as it needs."""

        def draw(config: SamplerConfig, steps: Collection[int]) -> dict[int, Trace]:
            first = config == self.config  # further attempts are not part of the progress bar
            sampler = self if first else self._with(config)
            own = Job(tuple(steps), job.restriction)
            return sampler.drawn(own, advanced if first else unheard)

        return until_settled(draw, self.config, job.steps)

    def drawn(self, job: Job, advanced: Advanced) -> dict[int, Trace]:
        """Returns the trace of each checkpoint, with the burn-in of the settings."""
        with one_core(), generators_kept(self.device):
            pieces = [self._piece(job, piece, advanced) for piece in self._pieces()]
        return {step: Trace.join([piece[step] for piece in pieces]) for step in job.steps}

    def _with(self, config: SamplerConfig) -> "NetworkSampler":
        """Returns the same sampler with different settings."""
        other = object.__new__(NetworkSampler)  # copy.copy would pickle the work, see __reduce__
        other.__dict__.update(self.__dict__)
        other.config, other.work = config, replace(self.work, config=config)
        other._states, other._losses = {}, {}
        return other

    def _pieces(self) -> list[range]:
        """Divides the chains into pieces that are small enough to be sampled at once."""
        chains = self.config.num_chains
        size = chains if self.traits.refusal else min(chains, self.lanes)
        return [range(i, min(i + size, chains)) for i in range(0, chains, size)]

    def objective(self, steps: tuple[int, ...], name: str, chains: range) -> LossObjective:
        """Returns the objective of some chains at some checkpoints."""
        w, key = self.work, (*steps, chains)
        loaded = self._states
        states = [loaded[s] if s in loaded else w.state(s) for s in steps]
        index = minibatches_of(w.config, w.data, chains)
        losses = self._losses.get(key)
        objective = LossObjective(
            w.loss, states, w.data, index, w.masks[name], w.parts, len(chains), losses
        )
        self._states = dict(zip(steps, states, strict=True))  # reused for the next restriction
        self._losses = {k: v for k, v in self._losses.items() if k[:-1] == key[:-1]}
        self._losses[key] = objective.losses
        return objective

    def _piece(self, job: Job, chains: range, advanced: Advanced) -> dict[int, Trace]:
        objective = self.objective(job.steps, job.restriction, chains)
        key = name_key(job.restriction)
        streams = [(step, key, c) for step in job.steps for c in chains]
        count = partial(_count, advanced, len(streams))
        moved = in_geometry(objective, self.config, self.work.blocks)
        trace = run_chains(moved, self.config, streams, count)
        starts = range(0, len(streams), len(chains))
        lanes = [trace.chains(slice(i, i + len(chains))) for i in starts]
        return dict(zip(job.steps, lanes, strict=True))


def device_of(name: str) -> str:
    """Returns a torch device by name. `auto` is the GPU if there is one, and the CPU otherwise.

    Raises:
        UserError: If there is no such device.
    """
    if name in ("auto", "cpu"):
        return str(resolve_device(name))
    try:
        torch.zeros(1, device=name)
    except Exception as e:  # torch raises many kinds of errors, depending on the device
        reason = str(e).strip().splitlines()[0][:120] if str(e).strip() else type(e).__name__
        raise UserError(f"device {name!r} cannot be used ({reason})", "use auto or cpu") from None
    return name


def _revived(data: bytes) -> NetworkSampler:
    return NetworkSampler(*cloudpickle.loads(data))


def _count(advanced: Advanced, lanes: int, _: int) -> None:
    advanced(lanes)
