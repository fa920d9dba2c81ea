"""The `heads` command: measures the checkpoints of a run, or a single weight file."""

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

ALONE = 50_000  # lists at all checkpoints together, above which starting more processes pays off


def run_heads(run: Run, force: bool = False) -> dict[str, Any]:
    """Measures the heads at every checkpoint of a run and writes heads.zarr.

    Does nothing if heads.zarr is up to date.

    Raises:
        UserError: Training is not complete, or a checkpoint is damaged.
    """
    heads = run.update(HEADS, _measure, write_dataset, force)
    return {
        "run": str(run.path),
        "checkpoints": [
            describe(heads.isel(checkpoint=i)) for i in range(heads.sizes["checkpoint"])
        ],
        "events": stored_events(heads),
        "suppressors": stored_suppressors(heads),
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
        path: A safetensors file, or one written by torch.save.
        list_length: L, numbers in a list.
        numbers: N, lists are drawn from 0…N−1.
        config: Gives the section `heads` and the seed of the evaluation lists.
        norm: Where the gains and biases of the layer norms are, see `devsort.sorting.weight_files`.

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
    suppressing = suppressors(network.params, network.shape, batch, one, config.heads.extent)
    notes = [*network.notes, *near_chance(result.loss, task)]
    source = {"step": None, "weights": str(path), "norm": network.norm, "notes": notes}
    return {**describe(one), "suppressors": suppressing, **source}


def _measure(run: Run) -> "xr.Dataset":
    """The data set of all checkpoints; each is saved in a file of its own until all are done."""
    steps = trained_steps(run)
    analyses = {step: parts.load(run, step) for step in steps}
    missing = [step for step, analysis in analyses.items() if analysis is None]
    with saying(lambda: f"{parts.count(run)} of {len(steps)} checkpoints are measured and saved"):
        count = cores() if len(missing) * run.config.heads.lists > ALONE else 1
        work = run_jobs(partial(_analyse, run), missing, count, unheard)
        bar = progress(
            desc="heads", unit="checkpoint", total=len(steps), initial=len(steps) - len(missing)
        )
        with bar, closing(work) as results:
            for step, analysis in results:
                analyses[step] = parts.save(run, step, analysis)
                bar.update()
    heads = dataset([analyses[step] for step in steps], steps, run.config.heads)
    last = _suppressors(run, steps[-1], heads.isel(checkpoint=-1))
    return heads.assign_attrs(events=json.dumps(events(heads)), suppressors=json.dumps(last))


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
