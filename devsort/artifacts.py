"""Reading and writing a run folder: nothing half-written is ever seen, nothing unverified is ever read.

Every artifact carries the config and the identity of the inputs that it was made from, and a checksum; a reader
compares them and names the command that makes the artifact again.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from devsort import __version__
from devsort.config import Config, load_config
from devsort.errors import Stale, Unfinished, UserError, interruptible
from devsort.files import check_readable, locked, refuse_links, remove_leftovers, write_atomic, writing

TRAIN_SECTIONS = ("task", "model", "train")  # what the checkpoints depend on
LATER = (("task", "mean_gap"),)  # settings that are null in runs made before they came: no part of an identity then


@dataclass(frozen=True)
class Run:
    """A run folder and its resolved config. Paths are properties, so that no other module spells a file name."""

    path: Path
    config: Config

    checkpoints = property(lambda self: self.path / "checkpoints")
    training_log = property(lambda self: self.path / "training.jsonl")
    resume_state = property(lambda self: self.path / "checkpoints" / "resume.safetensors")
    llc = property(lambda self: self.path / "llc.zarr")
    llc_devinterp = property(lambda self: self.path / "llc-devinterp.zarr")
    heads = property(lambda self: self.path / "heads.zarr")
    heads_parts = property(lambda self: self.path / "heads.parts")
    stages = property(lambda self: self.path / "stages.json")
    calibration = property(lambda self: self.path / "calibration.json")
    figures = property(lambda self: self.path / "figures")

    def identity(self, *sections: str) -> str:
        """Identity of the named sections of the config; of all that training depends on, if none is named."""
        full = self.config.model_dump(mode="json")
        for section, key in LATER:
            if full[section][key] is None:
                del full[section][key]
        return identity({s: full[s] for s in sections or TRAIN_SECTIONS})

    def checkpoint(self, step: int) -> Path:
        """The file of one saved step."""
        return self.checkpoints / f"step-{step:09d}.safetensors"

    def steps(self) -> list[int]:
        """Saved steps in order; none if nothing was trained."""
        numbers = (p.stem.removeprefix("step-") for p in self.checkpoints.glob("step-*.safetensors"))
        return sorted(int(n) for n in numbers if n.isdecimal() and len(n) >= 9)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the folder for one writer, see `locked`, and clears what a killed writer left half-written."""
        with locked(self.path):
            with writing(self.path):
                remove_leftovers(self.path)
            yield


def open_run(path: str | os.PathLike, overrides: tuple[str, ...] = ()) -> Run:
    """Opens a run folder by its path.

    Raises:
        UserError: There is no such folder, it holds a link or a device, or its config.yaml is missing or refused.
    """
    path = Path(path)
    if not os.path.isdir(path):  # unlike Path.is_dir, false for a name too long or a parent closed to us
        raise UserError(f"{path} is no folder", "give a run folder that holds a config.yaml, such as runs/baseline")
    refuse_links(path)
    return Run(path, load_config(path / "config.yaml", tuple(overrides)))


def identity(value: Any) -> str:
    """Sixteen hexadecimal digits that stand for a JSON value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """Identity of named tensors: their names, shapes, types and bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        t = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}{tuple(t.shape)}{t.dtype}".encode())
        digest.update(t.flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def provenance(run: Run, *sections: str, inputs: str = "") -> dict[str, str]:
    """What an artifact says of its origin: identity and text of config sections, identity of its inputs, version."""
    full = run.config.model_dump(mode="json")
    resolved = json.dumps({s: full[s] for s in sections or TRAIN_SECTIONS})
    return {"devsort": __version__, "config": run.identity(*sections), "inputs": inputs, "resolved": resolved}


def check_provenance(found: Mapping[str, Any], expected: Mapping[str, str], path: Path, command: str) -> None:
    """Compares an artifact's origin with what it should be, key by key; another version of devsort is accepted.

    Raises:
        Stale: It was made from another config or from other inputs.
    """
    told = {"config": f"another config{changes(found, expected)}", "inputs": "other inputs"}
    wrong = [told[key] for key in told if key in expected and found.get(key) != expected[key]]
    if wrong:
        raise Stale(f"{path} was made from {' and '.join(wrong)}", f"run `{command}` to make it again")


def changes(found: Mapping[str, Any], expected: Mapping[str, str]) -> str:
    """Up to three settings that differ, as ` (train.lr was 0.1, is 0.2)`; nothing where the old ones are not known."""
    try:
        old, new = (dict(_flat(json.loads(side["resolved"]))) for side in (found, expected))
    except (KeyError, TypeError, ValueError, AttributeError):
        return ""
    keys = [key for key in new if old.get(key) != new[key]]
    more = [f"and {len(keys) - 3} more"] if len(keys) > 3 else []
    told = [f"{key} was {old.get(key)}, is {new[key]}" for key in keys[:3]] + more
    return f" ({'; '.join(told)})" if told else ""


def _flat(sections: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in sections.items():
        yield from _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, value)]


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes a safetensors file with metadata and a checksum, atomically."""
    tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    data = safetensors_bytes(tensors, {**metadata, "checksum": checksum(tensors)})
    write_atomic(path, data)


def load_tensors(path: Path, expected: Mapping[str, str], command: str) -> dict[str, Tensor]:
    """Reads a file of `save_tensors` and verifies its checksum and the expected metadata.

    Raises:
        UserError: The file is missing, cut short, changed, or made for something else; names the command that makes it.
        Stale: It was made from another config.
    """
    fix = f"run `{command}` to make it again"
    if not os.path.isfile(path):
        raise UserError(f"{path} is missing", fix)
    check_readable(path)
    try:
        with interruptible(), safe_open(path, "pt") as f:
            metadata = f.metadata() or {}
            tensors = {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as e:
        raise UserError(f"{path} is cut short or damaged ({e})", fix) from None
    check_provenance(metadata, expected, path, f"{command} --force")
    for key in expected.keys() - {"config", "inputs", "resolved", "devsort"}:
        if metadata.get(key) != expected[key]:
            raise UserError(f"{path} has {key} {metadata.get(key)}, expected {expected[key]}", fix)
    if metadata.get("checksum") != checksum(tensors):
        raise UserError(f"{path} does not match its checksum", fix)
    return tensors


def origin_of_step(run: Run, step: int) -> dict[str, str]:
    """What the files of a training step say of their origin."""
    made = provenance(run)
    return {"step": str(step), **{key: made[key] for key in ("config", "resolved")}}


def save_checkpoint(run: Run, step: int, params: Mapping[str, Tensor]) -> None:
    """Saves the weights of one step, with the step and the config that made them."""
    save_tensors(run.checkpoint(step), params, origin_of_step(run, step))


def load_checkpoint(run: Run, step: int) -> dict[str, Tensor]:
    """Reads the weights of one step; see `load_tensors` for what is verified."""
    return load_tensors(run.checkpoint(step), origin_of_step(run, step), f"devsort train {run.path}")


def trained_steps(run: Run) -> list[int]:
    """Saved steps of a run that has been trained to its end.

    Raises:
        UserError: There are no checkpoints.
        Unfinished: Training has not come to its end.
    """
    steps, fix = run.steps(), f"run `devsort train {run.path}` first"
    if not steps:
        raise UserError(f"{run.path} has no checkpoints yet", fix)
    if steps[-1] < run.config.train.steps:
        raise Unfinished(f"{run.path} was trained to step {steps[-1]} of {run.config.train.steps}", fix)
    return steps


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a JSON object, atomically."""
    write_atomic(path, (json.dumps(value, indent=1) + "\n").encode())


def read_json(path: Path, command: str) -> dict[str, Any]:
    """Reads a JSON object; an error names the command that makes it."""
    if not os.path.isfile(path):
        raise UserError(f"{path} is missing", f"run `{command}` first")
    check_readable(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as e:
        raise UserError(f"{path} is cut short or damaged ({e})", f"run `{command}` to make it again") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} holds no JSON object", f"run `{command}` to make it again")
    return value
