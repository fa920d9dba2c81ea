"""Checkpoints as files or as folders of Hugging Face, whose weights may lie in several shards."""

import hashlib
from pathlib import Path

from torch import Tensor

from devsort.errors import UserError
from devsort.storage.objects import read_json
from devsort.storage.weights import load_weights

SINGLE = ("model.safetensors", "pytorch_model.bin")
END = 2**20  # bytes of either end of a file that tell it from others


def load_state_dict(path: Path) -> dict[str, Tensor]:
    """The state dict of a weight file, or of a folder of Hugging Face.

    Raises:
        UserError: See `weights.load_weights`; or a folder holds no weights, or a shard is missing.
    """
    files = [path] if not path.is_dir() else folder_files(path)
    if not files:
        what = f"{path} holds neither {' nor '.join(SINGLE)}"
        raise UserError(what, "give a folder that `save_pretrained` wrote")
    state: dict[str, Tensor] = {}
    for file in files:
        state |= load_weights(file)
    return state


def folder_files(folder: Path) -> list[Path]:
    """The weight files of a folder of Hugging Face; none if it is no such folder."""
    for name in SINGLE:
        if (folder / name).is_file():
            return [folder / name]
        index = folder / f"{name}.index.json"
        if index.is_file():
            shards = read_json(index, "save the model again").get("weight_map", {})
            return sorted({folder / Path(shard).name for shard in shards.values()})
    return []


def ends_of(path: Path) -> str:
    """Sixteen digits that stand for the weights of a checkpoint: sizes and both ends of its files.

    Reading all of it would take as long as sampling small networks.
    """
    digest = hashlib.sha256()
    for file in folder_files(path) if path.is_dir() else [path]:
        size = file.stat().st_size if file.is_file() else 0  # a missing one is told when it is read
        digest.update(f"{file.name} {size}".encode())
        if not size:
            continue
        with open(file, "rb") as f:
            digest.update(f.read(END))
            f.seek(max(0, size - END))
            digest.update(f.read(END))
    return digest.hexdigest()[:16]
