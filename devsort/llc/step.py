"""The `llc` step: checkpoints in, draws and the trajectory out."""

import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from threading import Event, local

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from devsort.artifacts import (
    Run,
    check_provenance,
    checksum,
    identity,
    load_checkpoint,
    provenance,
    remove,
    trained_steps,
)
from devsort.config import SamplerConfig
from devsort.errors import UserError
from devsort.llc.flags import Context
from devsort.llc.store import Store, open_group, open_store, table_is_current, write_table
from devsort.llc.table import make_table, rows
from devsort.model import Params, model_shape
from devsort.progress import progress
from devsort.rng import name_key
from devsort.sampling import minibatches, run_chains
from devsort.sampling.parts import data_parts
from devsort.sampling.restrictions import expand, restriction_mask
from devsort.sampling.sorting import Minibatches, Reference, SortObjective, sort_kernels
from devsort.sampling.trace import Trace
from devsort.task import sampling_set
from devsort.train import resolve_device

SECTIONS = ("task", "model", "train", "llc")


class Stopped(Exception):
    """Raised inside a worker when the user interrupts."""


def run_llc(run: Run, force: bool = False, sampler: str = "devsort") -> dict:
    """Samples every chosen checkpoint and restriction of a run, and writes llc.zarr.

    Args:
        run: The run folder.
        force: Sample again what is already there.
        sampler: `devsort`, or `devinterp` for the reference, which has its own store beside ours.

    Returns:
        run and trajectory, one row for each checkpoint and restriction.

    Raises:
        UserError: The run is not trained, a checkpoint is damaged, or the store belongs to another config.
    """
    with run.lock():
        path = _path(run, sampler)
        if force:
            remove(path)
        names = expand(run.config.llc.restrictions, run.config.model.heads)
        shape = model_shape(run.config.task, run.config.model)
        for name in names:
            restriction_mask(name, shape)
        origin, checkpoints = _inputs(run)
        axes = {"checkpoint": list(checkpoints), "restriction": names}
        parts = tuple(_parts(run)) if sampler == "devsort" else ()
        store = open_store(path, origin, _command(run, sampler), settings(run), axes, parts)
        if todo := store.todo():
            worker = (Worker if sampler == "devsort" else ReferenceWorker)(run, names)
            _sample(run, store, todo, lambda i, bar: worker(store.steps[i], checkpoints[store.steps[i]], bar), worker)
        if not table_is_current(store.group):
            write_table(store, make_table(store, _context(run)))
    return {"run": str(run.path), "trajectory": list(rows(load_llc(run, sampler)))}


def load_llc(run: Run, sampler: str = "devsort") -> xr.Dataset:
    """Reads the verified draws and table of a run.

    Raises:
        UserError: They are missing, unfinished, or from another config or other checkpoints.
    """
    path, command = _path(run, sampler), _command(run, sampler)
    group = open_group(path, command)
    check_provenance(group.attrs, _inputs(run)[0], path, command)
    if not table_is_current(group):
        raise UserError(f"{path} is unfinished", f"run `{command.removesuffix(' --force')}` to finish it")
    return xr.open_zarr(path, consolidated=False)


def settings(run: Run) -> SamplerConfig:
    """The run's sampler settings with `prior: weight_decay` resolved to ρ = nβ λ_wd."""
    sampler = run.config.llc.sampler
    if sampler.prior != "weight_decay":
        return sampler
    return sampler.model_copy(update={"prior": sampler.n_beta * run.config.train.weight_decay})


def _parts(run: Run) -> dict[str, Tensor]:
    task = run.config.task
    return data_parts(run.config.llc.parts, sampling_set(task, run.config.llc.dataset_size), task)


def _path(run: Run, sampler: str) -> Path:
    return run.llc if sampler == "devsort" else run.llc_devinterp


def _command(run: Run, sampler: str) -> str:
    option = "" if sampler == "devsort" else f" --sampler {sampler}"
    return f"devsort llc {run.path}{option} --force"


def chosen_steps(saved: Sequence[int], count: int) -> list[int]:
    """At most `count` of the saved steps, spread evenly over log step, the first and the last among them."""
    if len(saved) <= count:
        return list(saved)
    targets = np.linspace(math.log10(saved[0]), math.log10(saved[-1]), count)
    left, picked = list(saved), []
    for i, target in enumerate(targets):
        usable = left[: len(left) - (count - i - 1)]
        best = min(range(len(usable)), key=lambda j: abs(math.log10(usable[j]) - target))
        picked.append(left[best])
        left = left[best + 1 :]
    return picked


def _inputs(run: Run) -> tuple[dict[str, str], dict[int, Params]]:
    """Provenance of the draws and the verified checkpoints that they are taken around."""
    config, saved = run.config.llc, trained_steps(run)
    late = [step for step in saved if step >= config.first_step]
    steps = chosen_steps(late or saved[-1:], config.max_checkpoints)
    checkpoints = {step: load_checkpoint(run, step) for step in steps}
    sums = {step: checksum(params) for step, params in checkpoints.items()}
    return provenance(run, *SECTIONS, inputs=identity(sums)), checkpoints


def _context(run: Run) -> Context:
    return Context.of(settings(run), math.log(run.config.task.numbers + 1))


def _sample(run: Run, store: Store, todo: list[int], work, worker) -> None:
    """Runs what is missing on the worker's threads; a checkpoint is written when it is whole."""
    sampler = run.config.llc.sampler
    total = len(todo) * len(store.restrictions) * sampler.num_chains * sampler.num_steps
    with (
        progress(total=total, desc=f"llc {run.path.name}", unit="chain-step", unit_scale=True) as bar,
        _threads(worker.threads) as pool,
    ):
        futures = {pool.submit(work, i, bar.update): i for i in todo}
        try:
            for future in _as_done(futures):
                store.write(futures[future], future.result())
        except BaseException:
            worker.stop.set()
            pool.shutdown(cancel_futures=True)
            raise


class Worker:
    """Samples all restrictions of one checkpoint; every thread has its own kernels."""

    def __init__(self, run: Run, names: Sequence[str]) -> None:
        config, task = run.config.llc, run.config.task
        self.config, self.names = settings(run), names
        self.device = resolve_device(run.config.device)
        self.shape = model_shape(task, run.config.model)
        self.stop, self.own = Event(), local()
        self.threads = 1 if self.device.type == "cuda" else len(os.sched_getaffinity(0))
        data = sampling_set(task, config.dataset_size).to(self.device)
        sampler = self.config
        chains = range(sampler.num_chains)
        index = minibatches(sampler.seed, chains, sampler.num_steps, sampler.batch_size, len(data))
        parts = {name: chosen.to(self.device) for name, chosen in _parts(run).items()}
        self.batches = Minibatches(data, index.to(self.device), parts)

    def __call__(self, step: int, params: Params, advanced) -> list[Trace]:
        """Traces of all restrictions at the checkpoint of a training step."""
        resolve_device(self.device.type)  # flushing denormals is a setting of each thread
        kernels = self._kernels()
        params = {name: value.to(self.device) for name, value in params.items()}
        reference = Reference(kernels[0], params, self.batches)
        lanes = self.config.num_chains

        def on_step(_: int) -> None:
            if self.stop.is_set():
                raise Stopped
            advanced(lanes)

        def trace(name: str) -> Trace:
            objective = SortObjective(kernels, params, name, self.batches, reference)
            return run_chains(objective, self.config, [(step, name_key(name), c) for c in range(lanes)], on_step)

        return [trace(name) for name in self.names]

    def _kernels(self):
        if not hasattr(self.own, "kernels"):
            self.own.kernels = sort_kernels(self.shape, self.device)
        return self.own.kernels


class ReferenceWorker:
    """Samples all restrictions of one checkpoint with devinterp, which works on one at a time."""

    threads = 1

    def __init__(self, run: Run, names: Sequence[str]) -> None:
        self.config, self.names, self.stop = settings(run), names, Event()
        self.shape = model_shape(run.config.task, run.config.model)
        self.data = sampling_set(run.config.task, run.config.llc.dataset_size)

    def __call__(self, step: int, params: Params, advanced) -> list[Trace]:
        """Traces of all restrictions at the checkpoint of a training step."""
        from devsort.sampling.devinterp import sample_with_devinterp

        traces = []
        for name in self.names:
            mask, seed = restriction_mask(name, self.shape), name_key(f"{self.config.seed} {step} {name}")
            traces.append(sample_with_devinterp(params, self.data, self.config, mask, seed % 2**31))
            advanced(self.config.num_chains * self.config.num_steps)
        return traces


@contextmanager
def _threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that each compute on their own core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if count > 1 else before)
    try:
        with ThreadPoolExecutor(count) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)


def _as_done(futures: dict[Future, int]) -> Iterator[Future]:
    """Futures as they finish; wakes up often, so that Ctrl-C is heard at once."""
    left = set(futures)
    while left:
        done, left = wait(left, timeout=0.5, return_when=FIRST_COMPLETED)
        yield from done
