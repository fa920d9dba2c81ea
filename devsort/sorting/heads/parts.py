"""The checkpoints measured so far, one file each.

The files are kept until heads.zarr is complete, so that an interruption costs one checkpoint.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from devsort.errors import UserError
from devsort.sorting.artifacts import HEADS
from devsort.sorting.checkpoints import weights_identity
from devsort.sorting.heads.analysis import Analysis
from devsort.sorting.run import Run
from devsort.storage.artifact import Origin
from devsort.storage.tensors import load_tensors, save_tensors


def load(run: Run, step: int) -> Analysis | None:
    """The analysis of a step from its file; None if it is missing, damaged or of another origin."""
    try:
        return from_tensors(load_tensors(file_of(run, step), _origin(run, step)))
    except UserError:
        return None


def save(run: Run, step: int, analysis: Analysis) -> Analysis:
    """Saves the analysis of a step, and returns it as `load` will."""
    tensors = as_tensors(analysis)
    save_tensors(file_of(run, step), tensors, _origin(run, step))
    return from_tensors(tensors)


def file_of(run: Run, step: int) -> Path:
    """The file of one step."""
    return run.parts(HEADS) / f"step-{step:09d}.safetensors"


def count(run: Run) -> int:
    """How many checkpoints are measured and saved."""
    return len(list(run.parts(HEADS).glob("step-*.safetensors")))


def _origin(run: Run, step: int) -> Origin:
    return replace(run.origin(HEADS), inputs=weights_identity(run, [step]))


def as_tensors(analysis: Analysis) -> dict[str, Tensor]:
    """Field → tensor; `field.name` for fields that are mappings."""
    flat = {}
    for field, value in vars(analysis).items():
        entries = (
            {f"{field}.{n}": v for n, v in value.items()}
            if isinstance(value, Mapping)
            else {field: value}
        )
        flat |= {name: torch.from_numpy(np.array(v)) for name, v in entries.items()}
    return flat


def from_tensors(tensors: Mapping[str, Tensor]) -> Analysis:
    """The inverse of `as_tensors`, except that scalars come back as arrays without dimensions."""
    fields: dict = {}
    for name in sorted(tensors):
        field, dot, key = name.partition(".")
        if dot:
            fields.setdefault(field, {})[key] = tensors[name].numpy()
        else:
            fields[field] = tensors[name].numpy()
    return Analysis(**fields)
