"""Who samples the checkpoints of any network: lanes of chains and checkpoints side by side."""

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

STACKS = 2  # at least, on a CPU, so that two cores share them
STACKED = 16  # lanes side by side on a CPU, at most; beyond it vmap gains nothing
ALONE = 2_000  # chain-steps that one process does before others pay for their start
Advanced = Callable[[int], None]


@dataclass(frozen=True)
class Work:
    """All that a trajectory is sampled from.

    Attributes:
        loss: `loss(params, batch)`.
        source: The checkpoints.
        data: Tensors, or None.
        config: Sampler settings.
        masks: Restriction → mask.
        parts: Part of the data → mask of its rows.
        blocks: See `geometry.block_scales`.
        device: Where it is computed.
        memory: MiB that stacked lanes may take.
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
        """The same with its restrictions and parts of the data."""
        return replace(self, masks=masks, parts=parts)

    def state(self, step: int) -> State:
        """The tensors of a checkpoint, on the device."""
        loaded = fitted(self.source.load(step), self.loss, f"the checkpoint of step {step}")
        return {name: t.detach().to(self.device) for name, t in loaded.items()}


class NetworkSampler:
    """Samples a restriction at some checkpoints side by side; see `llc.trajectory.Sampler`.

    Args:
        work: What is sampled.
        count: Processes, at most; None: a process a core.
    """

    by_value = True  # functions of notebooks and scripts travel with it

    def __init__(self, work: Work, count: int | None = None) -> None:
        self.work, self.count, self.config = work, count, work.config
        self.device = torch.device(work.device)
        on_cpu = self.device.type == "cpu"
        self._held: dict[int, State] = {}
        self._losses: dict[tuple, list[Tensor] | None] = {}
        self.fewest = STACKS if on_cpu else 1
        one_step = self.config.model_copy(update={"num_draws": 1, "num_burnin_steps": 0})
        first = self._with(one_step).objective(work.source.steps[:1], FULL, range(1))
        self.probe = check_start(first)
        self.traits = first.traits
        fit = max(1, work.memory * 2**20 // first.lane_bytes)
        self.lanes = min(fit, max(STACKED, self.config.num_chains)) if on_cpu else fit

    def __reduce__(self) -> tuple:
        """Another process makes its own."""
        return _revived, (cloudpickle.dumps((self.work, self.count)),)

    @property
    def stack(self) -> int:
        """How many checkpoints are sampled side by side; one where lanes cannot be mapped."""
        return 1 if self.traits.refusal else max(1, self.lanes // self.config.num_chains)

    def processes(self, chain_steps: int) -> int:
        """How many processes so many steps of chains are worth."""
        if self.device.type != "cpu" or chain_steps < ALONE:
            return 1
        return self.count or cores()

    def __call__(self, job: Job, advanced: Advanced) -> dict[int, Trace]:
        """The trace of each checkpoint, with as much burn-in as it needs."""

        def draw(config: SamplerConfig, steps: Collection[int]) -> dict[int, Trace]:
            first = config == self.config  # what a chain takes beyond was not foreseen
            sampler = self if first else self._with(config)
            own = Job(tuple(steps), job.restriction)
            return sampler.drawn(own, advanced if first else unheard)

        return until_settled(draw, self.config, job.steps)

    def drawn(self, job: Job, advanced: Advanced) -> dict[int, Trace]:
        """The trace of each checkpoint, with the burn-in of the settings."""
        with one_core(), generators_kept(self.device):
            found = [self._piece(job, piece, advanced) for piece in self._pieces()]
        return {step: Trace.join([piece[step] for piece in found]) for step in job.steps}

    def _with(self, config: SamplerConfig) -> "NetworkSampler":
        """The same with other settings."""
        other = object.__new__(NetworkSampler)  # a copy would go the way of another process
        other.__dict__.update(self.__dict__)
        other.config, other.work = config, replace(self.work, config=config)
        other._held, other._losses = {}, {}
        return other

    def _pieces(self) -> list[range]:
        """The chains, cut to as many as are stacked."""
        chains = self.config.num_chains
        size = chains if self.traits.refusal else min(chains, self.lanes)
        return [range(i, min(i + size, chains)) for i in range(0, chains, size)]

    def objective(self, steps: tuple[int, ...], name: str, chains: range) -> LossObjective:
        """The lanes of some chains at some checkpoints."""
        w, key = self.work, (*steps, chains)
        held = self._held
        states = [held[s] if s in held else w.state(s) for s in steps]
        index = minibatches_of(w.config, w.data, chains)
        known = self._losses.get(key)
        found = LossObjective(
            w.loss, states, w.data, index, w.masks[name], w.parts, len(chains), known
        )
        self._held = dict(zip(steps, states, strict=True))  # for the next restriction
        self._losses = {k: v for k, v in self._losses.items() if k[:-1] == key[:-1]}
        self._losses[key] = found.losses
        return found

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
    """The device of a name of torch's, or of `auto`: the GPU where there is one.

    Raises:
        UserError: There is no such device.
    """
    if name in ("auto", "cpu"):
        return str(resolve_device(name))
    try:
        torch.zeros(1, device=name)
    except Exception as e:  # torch raises many kinds, by device
        reason = str(e).strip().splitlines()[0][:120] if str(e).strip() else type(e).__name__
        raise UserError(f"device {name!r} cannot be used ({reason})", "use auto or cpu") from None
    return name


def _revived(data: bytes) -> NetworkSampler:
    return NetworkSampler(*cloudpickle.loads(data))


def _count(advanced: Advanced, lanes: int, _: int) -> None:
    advanced(lanes)
