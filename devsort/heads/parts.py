"""What is measured so far: a file for each checkpoint, kept until heads.zarr is whole, so that a kill costs one."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from devsort.artifacts import Run, load_tensors, save_tensors
from devsort.errors import UserError
from devsort.heads.analysis import Analysis


def kept(run: Run, step: int, origin: Mapping[str, str], analyse: Callable[[], Analysis]) -> Analysis:
    """The analysis of a step from its file, which is made if it is not there, damaged or of another origin.

    Args:
        run: The run folder.
        step: The checkpoint.
        origin: Provenance of its analysis.
        analyse: Makes it.
    """
    path = file_of(run, step)
    try:
        return from_tensors(load_tensors(path, origin, f"devsort heads {run.path}"))
    except UserError:
        save_tensors(path, as_tensors(analyse()), origin)
    return from_tensors(load_tensors(path, origin, f"devsort heads {run.path}"))


def file_of(run: Run, step: int) -> Path:
    """The file of one step."""
    return run.heads_parts / f"step-{step:09d}.safetensors"


def count(run: Run) -> int:
    """How many checkpoints are measured and saved."""
    return len(list(run.heads_parts.glob("step-*.safetensors")))


def as_tensors(analysis: Analysis) -> dict[str, Tensor]:
    """Field → tensor; `field.name` for fields that are mappings."""
    flat = {}
    for field, value in vars(analysis).items():
        named = {f"{field}.{n}": v for n, v in value.items()} if isinstance(value, Mapping) else {field: value}
        flat |= {name: torch.from_numpy(np.array(v)) for name, v in named.items()}
    return flat


def from_tensors(tensors: Mapping[str, Tensor]) -> Analysis:
    """The inverse of `as_tensors`, with arrays of no dimension for numbers."""
    fields: dict = {}
    for name in sorted(tensors):
        field, dot, key = name.partition(".")
        if dot:
            fields.setdefault(field, {})[key] = tensors[name].numpy()
        else:
            fields[field] = tensors[name].numpy()
    return Analysis(**fields)
