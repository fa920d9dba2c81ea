"""The `heads` step: checkpoints in, heads.zarr out; and the same for a single weight file."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import safe_open

from devsort import artifacts
from devsort.artifacts import TRAIN_SECTIONS, Run
from devsort.config import Config, TaskConfig
from devsort.errors import UserError, interruptible, saying
from devsort.files import remove, replacing_folder
from devsort.heads import parts
from devsort.heads.analysis import Analysis, analyse, dataset, describe
from devsort.heads.events import events
from devsort.model import infer_shape, model_shape
from devsort.progress import progress
from devsort.task import eval_batch
from devsort.weights import load_weights

if TYPE_CHECKING:
    import xarray as xr

SECTIONS = (*TRAIN_SECTIONS, "heads")


def run_heads(run: Run, force: bool = False) -> dict[str, Any]:
    """Measures the heads at every checkpoint of a run and writes heads.zarr, unless it is up to date.

    Raises:
        UserError: The run was not trained to its end, or a checkpoint is damaged.
    """
    with run.lock():
        if force:
            remove(run.heads_parts)
        if force or not _up_to_date(run):
            with replacing_folder(run.heads) as folder:
                _measured(run).to_zarr(folder, consolidated=False)
        remove(run.heads_parts)
    found = load_heads(run)
    return {
        "run": str(run.path),
        "checkpoints": [describe(found.isel(checkpoint=i)) for i in range(found.sizes["checkpoint"])],
        "events": events(found),
    }


def load_heads(run: Run) -> "xr.Dataset":
    """Reads heads.zarr and verifies that it belongs to the run's config and checkpoints.

    Raises:
        UserError: It is missing, damaged, or was made from something else; names the command that makes it.
    """
    import xarray as xr

    command = f"devsort heads {run.path} --force"
    if not run.heads.is_dir():
        raise UserError(f"{run.heads} is missing", f"run `devsort heads {run.path}` first")
    try:
        found = xr.open_zarr(run.heads, consolidated=False, chunks=None).load()
    except PermissionError:
        raise  # told by the command line
    except Exception as e:  # a damaged store can make the reader raise anything
        what = f"{run.heads} is cut short or damaged ({type(e).__name__})"
        raise UserError(what, f"run `{command}` to make it again") from None
    artifacts.check_provenance(found.attrs, _provenance(run), run.heads, command)
    if found.attrs.get("checksum") != _checksum(found):
        raise UserError(f"{run.heads} does not match its checksum", f"run `{command}` to make it again")
    return found


def analyse_weights(path: Path, list_length: int, numbers: int, config: Config | None = None) -> dict[str, Any]:
    """Measures the heads of a weight file with HookedTransformer's names; nothing in the file is executed.

    Args:
        path: A .safetensors or .pt file.
        list_length: L, numbers in a list.
        numbers: N, lists are drawn from 0…N−1.
        config: Its heads section and evaluation lists are used.

    Raises:
        UserError: The file cannot be read safely, or its parameters do not fit together or to L and N.
    """
    config = config or Config()
    task = TaskConfig(list_length=list_length, numbers=numbers, eval_lists=config.heads.lists, seed=config.task.seed)
    params = load_weights(path)
    shape = infer_shape(params, list_length, numbers, str(path))
    result = analyse(params, shape, eval_batch(task), config.heads)
    value = describe(dataset([result], [0], config.heads).isel(checkpoint=0))
    return {**value, "step": None, "weights": str(path)}


def _up_to_date(run: Run) -> bool:
    if not run.heads.is_dir():
        return False
    try:
        load_heads(run)
    except UserError:
        return False
    return True


def _measured(run: Run) -> "xr.Dataset":
    config, steps = run.config, artifacts.trained_steps(run)
    shape = model_shape(config.task, config.model)
    batch = eval_batch(config.task.model_copy(update={"eval_lists": config.heads.lists}))

    def one(step: int) -> Analysis:
        origin = artifacts.provenance(run, *SECTIONS, inputs=checkpoints_identity(run, [step]))
        return parts.kept(
            run, step, origin, lambda: analyse(artifacts.load_checkpoint(run, step), shape, batch, config.heads)
        )

    said = saying(lambda: f"{parts.count(run)} of {len(steps)} checkpoints are measured and saved")
    with said, _workers() as pool:
        bar = progress(pool.map(one, steps), desc="heads", unit="checkpoint", total=len(steps))
        found = dataset(list(bar), steps, config.heads)
    return found.assign_attrs(_provenance(run), checksum=_checksum(found))


@contextmanager
def _workers() -> Iterator[ThreadPoolExecutor]:
    """A worker for each of torch's threads, each using one: checkpoints side by side beat threads within a product."""
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads)
    torch.set_num_threads(1)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def _checksum(found: "xr.Dataset") -> str:
    """Identity of all variables; a store that lost a chunk reads it as zeros and would not be noticed otherwise."""
    values = {str(k): v.values for k, v in found.variables.items()}
    names = [k for k, v in values.items() if v.dtype.kind not in "fib"]
    values |= {k: np.frombuffer(repr(values[k].tolist()).encode(), np.uint8) for k in names}
    return artifacts.checksum({k: torch.from_numpy(np.array(v)) for k, v in values.items()})


def _provenance(run: Run) -> dict[str, str]:
    return artifacts.provenance(run, *SECTIONS, inputs=checkpoints_identity(run, artifacts.trained_steps(run)))


def checkpoints_identity(run: Run, steps: list[int]) -> str:
    """Identity of all weights, from the checksum that each file carries; `load_checkpoint` verifies the checksums."""
    return artifacts.identity({str(step): _header(run.checkpoint(step)).get("checksum") for step in steps})


def _header(path: Path) -> Mapping[str, str]:
    try:
        with interruptible(), safe_open(path, "pt") as f:
            return f.metadata() or {}
    except Exception:  # told by `load_checkpoint`, which names the file and the remedy
        return {}
