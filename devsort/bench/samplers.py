"""Samplers: the chains of one restriction at one checkpoint, run by our pipeline and by devinterp.

Our sampler takes as many checkpoints side by side on a core as suit the caches, as `devsort llc`
does if there are enough; here they are all the same one. Each core has its own process, and all
start together. A GPU has one process, with as many checkpoints as `memory` has room for their
lanes. devinterp works on one chain at a time, with all of torch's threads or on the GPU, on our
readable model and on TransformerLens's. All draw their own minibatches from the same data set. The
answer that is compared is each chain's mean loss minus the checkpoint's on the same minibatches.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from devsort.bench.timing import Timed, now, rate_of
from devsort.bench.trainers import hooked_transformer
from devsort.execution import Advanced, Work, cores, crew, one_core, resolve_device, unheard
from devsort.sampling import graphs
from devsort.sorting.model import Params, model_shape
from devsort.sorting.restrictions import restriction_mask
from devsort.sorting.run import Run
from devsort.sorting.samplers import SortSampler, settings
from devsort.sorting.task import sampling_set


def ours(run: Run, name: str, params: Params) -> Timed:
    """Our sampler on the restriction `name`; chain-steps per second of all processes together."""
    sampler = SortSampler(run)
    on_gpu = sampler.device.type == "cuda"
    size, count = sampler.stack, 1 if on_gpu else cores()
    stacks = [range(i * size, (i + 1) * size) for i in range(count)]
    results = side_by_side(partial(_ticked, sampler, name, params), stacks)
    lanes = min(sampler.lanes, size * sampler.config.num_chains)
    first = graphs.PLAIN if on_gpu else 0  # a GPU's first replay, after the capture
    rate = rate_of([ticks[first:] for ticks, _ in results], lanes)
    return Timed(rate, np.mean([rise for _, rises in results for rise in rises], 0))


def side_by_side(work: Work, jobs: Sequence) -> list:
    """Results of jobs that start together, each in its own process; a single one runs in this."""
    with crew(work, len(jobs) if len(jobs) > 1 else 0) as members:
        for member, job in zip(members, jobs, strict=False):
            member.give(job)
        return [m.result() for m in members] or [work(job, unheard) for job in jobs]


def _ticked(
    sampler: SortSampler, name: str, params: Params, stack: range, _: Advanced
) -> tuple[list[float], list[np.ndarray]]:
    """When each step of a stack ended, and each chain's mean rise (C,) at each checkpoint."""
    ticks: list[float] = []
    with one_core():
        same = dict.fromkeys(stack, sampler.checkpoint(params))
        traces = sampler.sample(same, name, lambda _: ticks.append(now(sampler.device)))
    return ticks, [trace.rise.mean(1) for trace in traces.values()]


def devinterp(run: Run, name: str, params: Params, module: torch.nn.Module | None = None) -> Timed:
    """devinterp's `sample()` with `observables={}`; chain-steps per second without start-ups.

    Args:
        run: The run with its sampler settings.
        name: The restriction.
        params: The checkpoint.
        module: The checkpoint as a module with the same names; our readable model if None.
    """
    from devsort.sorting.devinterp import sample_with_devinterp  # slow, and our processes need none

    data = sampling_set(run.config.task, run.config.llc.dataset_size)
    mask = restriction_mask(name, model_shape(run.config.task, run.config.model))
    ticks: list[float] = []
    device, config = resolve_device(run.config.device), run.config.llc.sampler
    tick = lambda: ticks.append(now(device))  # noqa: E731
    trace = sample_with_devinterp(
        params, data, settings(run), mask, config.seed, tick, device, module
    )
    starts = np.reshape(ticks[-config.num_chains * config.num_steps :], (config.num_chains, -1))
    seconds = starts[:, -1] - starts[:, 1]  # the first is start-up, as in `rate_of`
    return Timed(float(len(starts) * (config.num_steps - 2) / seconds.sum()), trace.rise.mean(1))


def devinterp_on_hooked(run: Run, name: str, params: Params) -> Timed:
    """The same on TransformerLens's model, as people who use both libraries have it.

    Raises:
        ImportError: transformer-lens is not installed.
    """
    model = hooked_transformer(
        model_shape(run.config.task, run.config.model), resolve_device(run.config.device)
    )
    model.load_state_dict(params, strict=False)
    return devinterp(run, name, params, model)
