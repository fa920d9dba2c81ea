"""The `heads` command: checkpoints in, heads.zarr out; and the same for a single weight file."""

import json
import os
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

from devsort.errors import saying
from devsort.execution import cores, progress, run_jobs, torch_threads, unheard
from devsort.sorting.artifacts import HEADS
from devsort.sorting.checkpoints import load_checkpoint, trained_steps
from devsort.sorting.config import Config, TaskConfig
from devsort.sorting.heads import parts
from devsort.sorting.heads.analysis import Analysis, analyse, dataset, describe
from devsort.sorting.heads.events import events
from devsort.sorting.heads.suppressors import suppressors
from devsort.sorting.model import Shape, model_shape
from devsort.sorting.run import Run
from devsort.sorting.task import Batch, eval_batch
from devsort.sorting.weight_files import Norm, near_chance, read_network
from devsort.storage.datasets import write_dataset

if TYPE_CHECKING:
    import xarray as xr

ALONE = 50_000  # lists to measure in all before more processes pay for their start


def run_heads(run: Run, force: bool = False) -> dict[str, Any]:
    """Measures the heads at every checkpoint of a run and writes heads.zarr.

    Nothing is done if it is up to date.

    Raises:
        UserError: The run was not trained to its end, or a checkpoint is damaged.
    """
    found = run.update(HEADS, _measured, write_dataset, force)
    return {
        "run": str(run.path),
        "checkpoints": [
            describe(found.isel(checkpoint=i)) for i in range(found.sizes["checkpoint"])
        ],
        "events": stored_events(found),
        "suppressors": stored_suppressors(found),
    }


def stored_events(heads: "xr.Dataset") -> list[dict[str, Any]]:
    """The events of heads.zarr, see `devsort.sorting.heads.events`."""
    return json.loads(heads.attrs["events"])


def stored_suppressors(heads: "xr.Dataset") -> list[dict[str, Any]]:
    """The suppressing heads at the last checkpoint of heads.zarr, see `heads.suppressors`."""
    return json.loads(heads.attrs["suppressors"])


def analyse_weights(
    path: str | os.PathLike,
    list_length: int,
    numbers: int,
    config: Config | None = None,
    norm: Norm = "auto",
) -> dict[str, Any]:
    """Measures the heads of a weight file with HookedTransformer's names.

    Nothing in the file is executed.

    Args:
        path: A safetensors file, or one of torch.save.
        list_length: L, numbers in a list.
        numbers: N, lists are drawn from 0…N−1.
        config: Its heads section and evaluation lists are used.
        norm: Where the layer norms are, see `devsort.sorting.weight_files`.

    Raises:
        UserError: See `devsort.sorting.weight_files.read_network`.
    """
    config = config or Config()
    task = TaskConfig(
        list_length=list_length,
        numbers=numbers,
        eval_lists=config.heads.lists,
        seed=config.task.seed,
    )
    network = read_network(path, task, norm)
    batch = eval_batch(task)
    result = analyse(network.params, network.shape, batch, config.heads)
    one = dataset([result], [0], config.heads).isel(checkpoint=0)
    who = suppressors(network.params, network.shape, batch, one, config.heads.extent)
    notes = [*network.notes, *near_chance(result.loss, task)]
    read = {"step": None, "weights": str(path), "norm": network.norm, "notes": notes}
    return {**describe(one), "suppressors": who, **read}


def _measured(run: Run) -> "xr.Dataset":
    """The data set of all checkpoints; each is kept in a file of its own until all are done."""
    steps = trained_steps(run)
    kept = {step: parts.load(run, step) for step in steps}
    left = [step for step, analysis in kept.items() if analysis is None]
    with saying(lambda: f"{parts.count(run)} of {len(steps)} checkpoints are measured and saved"):
        count = cores() if len(left) * run.config.heads.lists > ALONE else 1
        work = run_jobs(partial(_analyse, run), left, count, unheard)
        bar = progress(
            desc="heads", unit="checkpoint", total=len(steps), initial=len(steps) - len(left)
        )
        with bar, closing(work) as results:
            for step, analysis in results:
                kept[step] = parts.save(run, step, analysis)
                bar.update()
    found = dataset([kept[step] for step in steps], steps, run.config.heads)
    last = _suppressors(run, steps[-1], found.isel(checkpoint=-1))
    return found.assign_attrs(events=json.dumps(events(found)), suppressors=json.dumps(last))


def _analyse(run: Run, step: int, _: Callable[[int], None]) -> Analysis:
    shape, batch = _setting(run)
    with torch_threads(1, flush_denormal=False):  # ranks are sensitive to the last bit
        return analyse(load_checkpoint(run, step), shape, batch, run.config.heads)


def _suppressors(run: Run, step: int, one: "xr.Dataset") -> list[dict[str, Any]]:
    shape, batch = _setting(run)
    with torch_threads(1, flush_denormal=False):
        return suppressors(load_checkpoint(run, step), shape, batch, one, run.config.heads.extent)


def _setting(run: Run) -> tuple[Shape, Batch]:
    """The shape of a run's networks, and the lists that its heads are measured on."""
    task = run.config.task.model_copy(update={"eval_lists": run.config.heads.lists})
    return model_shape(run.config.task, run.config.model), eval_batch(task)
