"""Samplers: the chains of one restriction at one checkpoint, as the pipeline runs them and as devinterp runs them.

Ours takes one checkpoint a core, as `devsort llc` does. devinterp works on one chain at a time with all of torch's
threads. Both draw their own minibatches from the same data set. What is compared is each chain's mean loss above the
checkpoint's on the same minibatches.
"""

import time

import numpy as np
from torch import Tensor

from devsort.artifacts import Run
from devsort.bench.timing import Timed, cores, rate_of, threads
from devsort.kernels import Rows
from devsort.llc.workers import Worker, parallel, settings
from devsort.model import Params, model_shape
from devsort.sampling import minibatches
from devsort.sampling.devinterp import sample_with_devinterp
from devsort.sampling.restrictions import restriction_mask
from devsort.sampling.sorting import sort_kernels
from devsort.task import sampling_set


def ours(run: Run, name: str, params: Params) -> Timed:
    """The pipeline's workers, each on its own core, on the restriction `name`; chain-steps per second of all cores."""
    worker = Worker(run, (name,))
    jobs = range(worker.threads)
    ticks: list[list[float]] = [[] for _ in jobs]

    def work(job: int) -> np.ndarray:
        (trace,) = worker(job, params, lambda _: ticks[job].append(time.perf_counter()))
        return trace.rise.mean(1)  # (C,)

    rises = [rise for _, rise in parallel(work, jobs, worker)]
    return Timed(rate_of(ticks, worker.config.num_chains), np.mean(rises, 0))


def devinterp(run: Run, name: str, params: Params) -> Timed:
    """devinterp's `sample()` with `observables={}`; chain-steps per second from its first loss to its last."""
    data = sampling_set(run.config.task, run.config.llc.dataset_size)
    mask = restriction_mask(name, model_shape(run.config.task, run.config.model))
    ticks: list[float] = []
    with threads(cores()):
        tick = lambda: ticks.append(time.perf_counter())  # noqa: E731
        trace = sample_with_devinterp(params, data, settings(run), mask, run.config.llc.sampler.seed, tick)
    return Timed(rate_of([ticks]), trace.rise.mean(1))


def typical_rows(run: Run) -> Rows:
    """The first minibatch of the first chain."""
    config, sampler = run.config, run.config.llc.sampler
    data = sampling_set(config.task, config.llc.dataset_size)
    index: Tensor = minibatches(sampler.seed, range(1), 1, sampler.batch_size, len(data))
    return sort_kernels(model_shape(config.task, config.model))[0].pairs.rows(data[index[:, 0]])
