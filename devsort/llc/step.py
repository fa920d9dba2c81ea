"""The `llc` step: checkpoints in, draws and the trajectory out."""

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import xarray as xr

from devsort.artifacts import (
    Run,
    check_provenance,
    checksum,
    identity,
    load_checkpoint,
    provenance,
    trained_steps,
)
from devsort.errors import Unfinished, UserError, saying
from devsort.files import remove
from devsort.llc.store import Store, open_group, open_store, table_is_current, write_table
from devsort.llc.table import make_table, rows
from devsort.llc.workers import ReferenceWorker, Worker, chance_context, parts_of, settings
from devsort.model import model_shape
from devsort.processes import run_jobs
from devsort.progress import progress
from devsort.sampling.restrictions import expand, restriction_mask
from devsort.sampling.trace import Trace

SECTIONS = ("task", "model", "train", "llc")


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
        origin, steps = _inputs(run)
        axes = {"checkpoint": steps, "restriction": names}
        parts = tuple(parts_of(run)) if sampler == "devsort" else ()
        store = open_store(path, origin, _command(run, sampler), settings(run), axes, parts)
        if todo := store.todo():
            worker = (Worker if sampler == "devsort" else ReferenceWorker)(run, names)
            with saying(lambda: f"{len(steps) - len(store.todo())} of {len(steps)} checkpoints are sampled and saved"):
                _sample(run, store, todo, worker)
        if not table_is_current(store.group):
            write_table(store, make_table(store, chance_context(run, settings(run))))
    return {"run": str(run.path), "trajectory": list(rows(load_llc(run, sampler)))}


def load_llc(run: Run, sampler: str = "devsort") -> xr.Dataset:
    """Reads the verified draws and table of a run.

    Raises:
        UserError: They are missing, unfinished, or from another config or other checkpoints.
    """
    path, command = _path(run, sampler), _command(run, sampler)
    group = open_group(path, command)
    check_provenance(group.attrs, _inputs(run)[0], path, command)
    finish = f"run `{command.removesuffix(' --force')}` to finish it"
    if not table_is_current(group):
        raise Unfinished(f"{path} is unfinished", finish)
    if damaged := Store(path, group).todo():
        step = Store(path, group).steps[damaged[0]]
        raise UserError(f"{path} does not match its checksum at step {step}", finish)
    return xr.open_zarr(path, consolidated=False)


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


def _inputs(run: Run) -> tuple[dict[str, str], list[int]]:
    """Provenance of the draws, and the steps of the verified checkpoints that they are taken around."""
    config, saved = run.config.llc, trained_steps(run)
    late = [step for step in saved if step >= config.first_step]
    steps = chosen_steps(late or saved[-1:], config.max_checkpoints)
    sums = {step: checksum(load_checkpoint(run, step)) for step in steps}
    return provenance(run, *SECTIONS, inputs=identity(sums)), steps


def groups(count: int, most: int, fewest: int) -> list[range]:
    """Positions of the checkpoints that are sampled side by side: at most `most`, in `fewest` groups or more.

    Fewer checkpoints than `fewest` are each a group of their own. A function of the config and the kind of device,
    never of the cores or of what is left to do: a resumed run stacks the same lanes, so it computes the same bits.
    """
    size = max(1, min(most, count // fewest))
    return [range(i, min(i + size, count)) for i in range(0, count, size)]


def _sample(run: Run, store: Store, todo: list[int], worker: Worker | ReferenceWorker) -> None:
    """Runs every group that misses a checkpoint, and writes each when it is done."""
    sampler, steps = run.config.llc.sampler, store.steps
    chosen = [group for group in groups(len(steps), worker.checkpoints, worker.groups) if set(group) & set(todo)]
    total = sum(map(len, chosen)) * len(store.restrictions) * sampler.num_chains * sampler.num_steps
    with progress(total=total, desc=f"llc {run.path.name}", unit="chain-step", unit_scale=True) as bar:
        work = partial(_traces, worker, run)
        jobs = [[steps[i] for i in group] for group in chosen]
        with closing(run_jobs(work, jobs, worker.processes(total), bar.update)) as done:
            for group, traces in done:
                for step in group:
                    if (position := steps.index(step)) in todo:
                        store.write(position, traces[step])


def _traces(
    worker: Worker | ReferenceWorker, run: Run, steps: list[int], advanced: Callable[[int], None]
) -> dict[int, list[Trace]]:
    return worker({step: load_checkpoint(run, step) for step in steps}, advanced)
