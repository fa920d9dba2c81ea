"""Weights of strangers.

Read without executing anything in the file, and in the memory that its tensors take.
"""

import os
import pickle
import pickletools
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from devsort.errors import UserError, interruptible
from devsort.storage.files import check_readable

# times over which the bytes of a file may be shared between its tensors, such as tied embeddings
SHARED = 4

TUPLES = {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"}  # opcodes of pickle that make a tuple


def load_weights(path: Path) -> dict[str, Tensor]:
    """Reads a state dict from a stranger's .safetensors or .pt file; nothing in it is executed.

    Raises:
        UserError: The file is missing, of another kind, damaged, or holds anything but named
            tensors.
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise UserError(f"{path} is missing", "give a .safetensors or .pt file")
    check_readable(path)
    try:
        state = _read_state(path)
    except UserError:
        raise
    except pickle.UnpicklingError:
        raise UserError(
            f"{path} holds more than tensors, or is no weight file", "save `model.state_dict()`"
        ) from None
    except Exception as e:  # a mutated file can make the readers raise anything
        reason = str(e).strip().splitlines()[0][:120] if str(e).strip() else type(e).__name__
        raise UserError(
            f"{path} is not a weight file that can be read safely ({reason})",
            "save a plain state dict",
        ) from None
    if not isinstance(state, Mapping) or not all(
        isinstance(k, str) and _is_plain(v) for k, v in state.items()
    ):
        raise UserError(
            f"{path} does not hold a plain mapping of names to tensors", "save `model.state_dict()`"
        )
    if sum(v.numel() * v.element_size() for v in state.values()) > SHARED * path.stat().st_size:
        raise UserError(f"{path} names the same bytes many times over", "save `model.state_dict()`")
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}


def _is_plain(value: Any) -> bool:
    """A tensor whose numbers are all in the file.

    No sparse or meta tensor, no stride 0 that stands for terabytes.
    """
    if (
        not isinstance(value, Tensor)
        or value.is_nested
        or value.layout != torch.strided
        or value.device.type != "cpu"
    ):
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def _read_state(path: Path) -> Any:
    if path.suffix == ".safetensors":
        with interruptible(), safe_open(path, "pt") as f:
            return {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118
    if path.suffix not in (".pt", ".pth"):
        raise UserError(
            f"{path} ends in {path.suffix or 'nothing'}", "give a .safetensors or .pt file"
        )
    _check_archive(path)
    with warnings.catch_warnings(action="ignore"):  # a refusal is told in one line
        return torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251  the place


def _check_archive(path: Path) -> None:
    """Refuses what torch.save never writes, and what costs its reader without bound.

    Raises:
        pickle.UnpicklingError: No archive of torch.save, or one that is compressed or claims more
            than the file holds.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            names = [r.filename for r in records if r.filename.endswith("data.pkl")]
            stored = all(r.compress_type == zipfile.ZIP_STORED for r in records)
            if (
                not stored
                or sum(r.file_size for r in records) > path.stat().st_size
                or len(names) != 1
            ):
                raise pickle.UnpicklingError
            _check_pickle(archive.read(names[0]))
    except zipfile.BadZipFile:
        raise pickle.UnpicklingError from None


def _check_pickle(data: bytes) -> None:
    """Refuses a pickle that uses a tuple twice.

    Forty tuples, each twice within the next, take for ever as a key, also with `weights_only`.
    """
    tuples, made = set(), None
    for opcode, argument, _ in pickletools.genops(data):
        if "GET" in opcode.name and argument in tuples:
            raise pickle.UnpicklingError
        if "PUT" in opcode.name and made in TUPLES:
            tuples.add(argument)
        made = opcode.name
