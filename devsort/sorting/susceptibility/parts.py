"""Finished cells, one file each, kept until the data set is complete."""

from pathlib import Path

import numpy as np
import torch

from devsort.errors import UserError
from devsort.sorting.artifacts import SUSCEPTIBILITY
from devsort.sorting.run import Run
from devsort.sorting.susceptibility.sampler import Followed
from devsort.storage.tensors import load_tensors, save_tensors
from devsort.susceptibility import Moments

MOMENTS = ("chi", "kernel")


def load(run: Run, step: int, component: str) -> Followed | None:
    """A finished cell; None if there is none, or if it is damaged or of another origin."""
    try:
        found = load_tensors(file_of(run, step, component), run.origin(SUSCEPTIBILITY))
    except UserError:
        return None
    arrays = {name: tensor.numpy() for name, tensor in found.items()}
    moments = {name: _moments(arrays, name) for name in MOMENTS}
    return Followed(**moments, start=arrays["start"], loss=arrays["loss"])


def save(run: Run, step: int, component: str, followed: Followed) -> None:
    """Saves a finished cell."""
    arrays = {"start": followed.start, "loss": followed.loss}
    for name in MOMENTS:
        moments: Moments = getattr(followed, name)
        arrays |= {f"{name}.{i}{j}": value for (i, j), value in moments.sums.items()}
        arrays[f"{name}.counts"] = moments.counts
    tensors = {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
    save_tensors(file_of(run, step, component), tensors, run.origin(SUSCEPTIBILITY))


def file_of(run: Run, step: int, component: str) -> Path:
    """The file of one cell."""
    return run.parts(SUSCEPTIBILITY) / f"step-{step:09d}-{component}.safetensors"


def _moments(arrays: dict[str, np.ndarray], name: str) -> Moments:
    own = {k.removeprefix(f"{name}."): v for k, v in arrays.items() if k.startswith(f"{name}.")}
    counts = own.pop("counts")
    sums = {(int(power[0]), int(power[1])): value for power, value in own.items()}
    return Moments(counts, sums, int(counts.sum()))
