"""Samplers: the chains of one restriction at one checkpoint, as the pipeline runs them and as devinterp runs them.

Ours takes as many checkpoints a core side by side as the caches serve, as `devsort llc` does where there are enough;
here all are the same. Each core has its process, and they begin together; a GPU has one, with as many checkpoints as
`memory` holds the lanes of. devinterp works on one chain at a time with all of torch's threads, or on the GPU, on our
readable model and on TransformerLens's. All draw their own minibatches from the same data set. What is compared is each
chain's mean loss above the checkpoint's on the same minibatches.
"""

from functools import partial

import numpy as np
import torch

from devsort.artifacts import Run
from devsort.bench.timing import Timed, now, rate_of, threads
from devsort.bench.trainers import hooked_transformer
from devsort.llc.workers import Worker, settings
from devsort.model import Params, model_shape
from devsort.processes import Advanced, run_jobs
from devsort.sampling import graphs
from devsort.sampling.devinterp import sample_with_devinterp
from devsort.sampling.restrictions import restriction_mask
from devsort.task import sampling_set
from devsort.threads import cores
from devsort.train import resolve_device


def ours(run: Run, name: str, params: Params) -> Timed:
    """The pipeline's workers, one a core or GPU, on the restriction `name`; chain-steps per second of all together."""
    worker = Worker(run, (name,))
    size, count = worker.checkpoints, 1 if worker.device.type == "cuda" else cores()
    groups = [range(i * size, (i + 1) * size) for i in range(count)]
    turns = dict(run_jobs(partial(_ticked, worker, params), groups, count, lambda _: None))
    lanes = min(worker.lanes, size * worker.config.num_chains)
    started = graphs.PLAIN if worker.device.type == "cuda" else 0  # there the first replay, after the capture
    rate = rate_of([ticks[started:] for ticks, _ in turns.values()], lanes)
    return Timed(rate, np.mean([rise for group in groups for rise in turns[group][1]], 0))


def _ticked(worker: Worker, params: Params, group: range, _: Advanced) -> tuple[list[float], list[np.ndarray]]:
    """When each step of a group ended, and the mean rise of each chain (C,) at each checkpoint."""
    ticks: list[float] = []
    traces = worker(dict.fromkeys(group, params), lambda _: ticks.append(now(worker.device)))
    return ticks, [trace.rise.mean(1) for (trace,) in traces.values()]


def devinterp(run: Run, name: str, params: Params, module: torch.nn.Module | None = None) -> Timed:
    """devinterp's `sample()` with `observables={}`; chain-steps per second within its chains, start-ups apart.

    Args:
        run: The run with its sampler settings.
        name: The restriction.
        params: The checkpoint.
        module: The checkpoint as a module of the same names; our readable model if None.
    """
    data = sampling_set(run.config.task, run.config.llc.dataset_size)
    mask = restriction_mask(name, model_shape(run.config.task, run.config.model))
    ticks: list[float] = []
    device, config = resolve_device(run.config.device), run.config.llc.sampler
    with threads(cores()):
        tick = lambda: ticks.append(now(device))  # noqa: E731
        trace = sample_with_devinterp(params, data, settings(run), mask, config.seed, tick, device, module)
    begun = np.reshape(ticks[-config.num_chains * config.num_steps :], (config.num_chains, -1))  # when steps began
    seconds = begun[:, -1] - begun[:, 1]  # the first is start-up, as in `rate_of`
    return Timed(float(len(begun) * (config.num_steps - 2) / seconds.sum()), trace.rise.mean(1))


def devinterp_on_hooked(run: Run, name: str, params: Params) -> Timed:
    """The same on TransformerLens's model, as users of both have it.

    Raises:
        ImportError: transformer-lens is not installed.
    """
    model = hooked_transformer(model_shape(run.config.task, run.config.model), resolve_device(run.config.device))
    model.load_state_dict(params, strict=False)
    return devinterp(run, name, params, model)
