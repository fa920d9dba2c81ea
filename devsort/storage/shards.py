"""Checkpoints as files or as Hugging Face folders, whose weights may be in several shards."""

import hashlib
from pathlib import Path

from torch import Tensor

from devsort.errors import UserError
from devsort.storage.objects import read_json
from devsort.storage.weights import load_weights

SINGLE = ("model.safetensors", "pytorch_model.bin")
END = 2**20  # bytes at both ends of a file that distinguish it from others


def load_state_dict(path: Path) -> dict[str, Tensor]:
    """The state dict of a weight file, or of a Hugging Face folder, in the types of the file.

    Raises:
        UserError: See `weights.load_weights`; or a folder holds no weights, or a shard is missing.
    """
    files = [path] if not path.is_dir() else folder_files(path)
    if not files:
        what = f"{path} holds neither {' nor '.join(SINGLE)}"
        raise UserError(what, "give a folder that `save_pretrained` wrote")
    state: dict[str, Tensor] = {}
    for file in files:
        state |= load_weights(file, as_saved=True)
    return state


def folder_files(folder: Path) -> list[Path]:
    """The weight files of a Hugging Face folder; none if it is no such folder."""
    for name in SINGLE:
        if (folder / name).is_file():
            return [folder / name]
        index = folder / f"{name}.index.json"
        if index.is_file():
            shards = read_json(index, "save the model again").get("weight_map", {})
            return sorted({folder / Path(shard).name for shard in shards.values()})
    return []


def ends_of(path: Path) -> str:
    """Sixteen digits that identify a checkpoint, from the size and both ends of its files.

    Reading whole files would take as long as sampling a small network.
    """
    digest = hashlib.sha256()
    for file in folder_files(path) if path.is_dir() else [path]:
        size = file.stat().st_size if file.is_file() else 0  # if it is missing, reading it says so
        digest.update(f"{file.name} {size}".encode())
        if not size:
            continue
        with open(file, "rb") as f:
            digest.update(f.read(END))
            f.seek(max(0, size - END))
            digest.update(f.read(END))
    return digest.hexdigest()[:16]
