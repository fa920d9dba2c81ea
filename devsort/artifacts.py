"""Reading and writing a run folder: nothing half-written is ever seen, nothing unverified is ever read.

Files are written to a temporary name, synced and renamed. Every artifact carries the identity of the config and of the
inputs that it was made from; a reader compares them and names the command that makes the artifact again.
"""

import hashlib
import json
import os
import pickle
import shutil
import warnings
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
from devsort.errors import UserError
from devsort.files import locked, writing

TRAIN_SECTIONS = ("task", "model", "train")  # what the checkpoints depend on
LATER = (("task", "mean_gap"),)  # settings that are null in runs made before they came: no part of an identity then
TEMPORARY = ".tmp-"  # prefix of files that are being written


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
            _remove_leftovers(self.path)
            yield


def open_run(path: str | os.PathLike, overrides: tuple[str, ...] = ()) -> Run:
    """Opens a run folder by its path.

    Raises:
        UserError: There is no such folder or its config.yaml is missing or refused.
    """
    path = Path(path)
    if not os.path.isdir(path):  # unlike Path.is_dir, false for a name too long or a parent closed to us
        raise UserError(f"{path} is no folder", "give a run folder that holds a config.yaml, such as runs/baseline")
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
    """What an artifact says of its origin: config sections, identity of its inputs, version."""
    return {"devsort": __version__, "config": run.identity(*sections), "inputs": inputs}


def check_provenance(found: Mapping[str, Any], expected: Mapping[str, str], path: Path, command: str) -> None:
    """Compares an artifact's origin with what it should be, key by key; another version of devsort is accepted.

    Raises:
        UserError: It was made from another config or from other inputs.
    """
    told = {"config": "another config", "inputs": "other inputs"}
    wrong = [told[key] for key in told if found.get(key) != expected[key]]
    if wrong:
        raise UserError(f"{path} was made from {' and '.join(wrong)}", f"run `{command}` to make it again")


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes a safetensors file with metadata and a checksum, atomically."""
    tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    data = safetensors_bytes(tensors, {**metadata, "checksum": checksum(tensors)})
    write_atomic(path, data)


def load_tensors(path: Path, expected: Mapping[str, str], command: str) -> dict[str, Tensor]:
    """Reads a file of `save_tensors` and verifies its checksum and the expected metadata.

    Raises:
        UserError: The file is missing, cut short, changed, or made for something else; names the command that makes it.
    """
    fix = f"run `{command}` to make it again"
    if not os.path.isfile(path):
        raise UserError(f"{path} is missing", fix)
    try:
        with safe_open(path, "pt") as f:
            metadata = f.metadata() or {}
            tensors = {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as e:
        raise UserError(f"{path} is cut short or damaged ({e})", fix) from None
    for key, value in expected.items():
        if metadata.get(key) != value:
            raise UserError(f"{path} has {key} {metadata.get(key)}, expected {value}", fix)
    if metadata.get("checksum") != checksum(tensors):
        raise UserError(f"{path} does not match its checksum", fix)
    return tensors


def save_checkpoint(run: Run, step: int, params: Mapping[str, Tensor]) -> None:
    """Saves the weights of one step, with the step and the identity of the config that made them."""
    save_tensors(run.checkpoint(step), params, {"step": str(step), "config": run.identity()})


def load_checkpoint(run: Run, step: int) -> dict[str, Tensor]:
    """Reads the weights of one step; see `load_tensors` for what is verified."""
    expected = {"step": str(step), "config": run.identity()}
    return load_tensors(run.checkpoint(step), expected, f"devsort train {run.path} --force")


def trained_steps(run: Run) -> list[int]:
    """Saved steps of a run that has been trained to its end.

    Raises:
        UserError: There are no checkpoints, or training has not finished.
    """
    steps = run.steps()
    if not steps or steps[-1] < run.config.train.steps:
        state = f"was trained to step {steps[-1]} of {run.config.train.steps}" if steps else "has no checkpoints yet"
        raise UserError(f"{run.path} {state}", f"run `devsort train {run.path}` first")
    return steps


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a JSON object, atomically."""
    write_atomic(path, (json.dumps(value, indent=1) + "\n").encode())


def read_json(path: Path, command: str) -> dict[str, Any]:
    """Reads a JSON object; an error names the command that makes it."""
    if not os.path.isfile(path):
        raise UserError(f"{path} is missing", f"run `{command}` first")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as e:
        raise UserError(f"{path} is cut short or damaged ({e})", f"run `{command}` to make it again") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} holds no JSON object", f"run `{command}` to make it again")
    return value


def write_atomic(path: Path, data: bytes) -> None:
    """Writes a file so that a reader sees the old one or the new one whole, also after a power cut."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{TEMPORARY}{path.name}")
        with open(temporary, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder that takes the place of `path` if the block succeeds.

    The old folder is moved aside whole before it is removed: a kill never leaves a part of it under its name.
    """
    temporary, old = (path.with_name(f"{TEMPORARY}{kind}{path.name}") for kind in ("", "old-"))
    with writing(path):
        remove(temporary)
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        remove(old)
        if os.path.lexists(path):
            os.replace(path, old)
        os.replace(temporary, path)
        remove(old)


def remove(path: Path) -> None:
    """Removes a file or folder if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def load_weights(path: Path) -> dict[str, Tensor]:
    """Reads a state dict from a stranger's .safetensors or .pt file without executing anything in it.

    Raises:
        UserError: The file is missing, of another kind, damaged, or holds anything but named tensors.
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise UserError(f"{path} is missing", "give a .safetensors or .pt file")
    try:
        state = _read_state(path)
    except UserError:
        raise
    except pickle.UnpicklingError:
        raise UserError(f"{path} holds more than tensors, or is no weight file", "save `model.state_dict()`") from None
    except Exception as e:  # a mutated file can make the readers raise anything
        reason = str(e).strip().splitlines()[0][:120] if str(e).strip() else type(e).__name__
        raise UserError(
            f"{path} is not a weight file that can be read safely ({reason})", "save a plain state dict"
        ) from None
    if not isinstance(state, Mapping) or not all(map(_is_plain, state.values())):
        raise UserError(f"{path} does not hold a plain mapping of names to tensors", "save `model.state_dict()`")
    return {str(k): v.float() if v.is_floating_point() else v for k, v in state.items()}


def _is_plain(value: Any) -> bool:
    """A tensor whose numbers are all in the file: no sparse or meta tensor, no stride 0 that stands for terabytes."""
    if not isinstance(value, Tensor) or value.is_nested or value.layout != torch.strided or value.device.type != "cpu":
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def _read_state(path: Path) -> Any:
    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as f:
            return {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118
    if path.suffix in (".pt", ".pth"):
        with warnings.catch_warnings(action="ignore"):  # a refusal is told in one line
            return torch.load(path, map_location="cpu", weights_only=True)
    raise UserError(f"{path} ends in {path.suffix or 'nothing'}", "give a .safetensors or .pt file")


def _remove_leftovers(folder: Path) -> None:
    for leftover in list(folder.rglob(f"{TEMPORARY}*")):
        remove(leftover)
