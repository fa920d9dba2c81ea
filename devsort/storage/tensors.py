"""Safetensors files by the contract of `artifact`; the same tensors are the same bytes."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from devsort.errors import UserError, interruptible
from devsort.storage.artifact import Origin
from devsort.storage.files import check_readable, write_atomic

LENGTH, ALIGNED = 8, 8  # bytes of the length of a header; a header is a multiple of 8 bytes


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """Identity of named tensors: their names, shapes, types and bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        t = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}{tuple(t.shape)}{t.dtype}".encode())
        digest.update(t.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def save_tensors(path: Path, tensors: Mapping[str, Tensor], origin: Origin, **more: str) -> None:
    """Writes a safetensors file with its origin, further metadata and a checksum, atomically."""
    tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    metadata = {**origin.attributes, **more, "checksum": checksum(tensors)}
    write_atomic(path, _ordered(safetensors_bytes(tensors, metadata)))


def load_tensors(path: Path, origin: Origin, **expected: str) -> dict[str, Tensor]:
    """Reads a file of `save_tensors` and verifies origin, further metadata and checksum.

    Raises:
        UserError: The file is missing, cut short, changed, or made for something else.
        Stale: It was made from another config or from other inputs.
    """
    if not os.path.isfile(path):
        raise UserError(f"{path} is missing", origin.again)
    check_readable(path)
    try:
        with interruptible(), safe_open(path, "pt") as f:
            found = f.metadata() or {}
            tensors = {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as e:
        raise UserError(f"{path} is cut short or damaged ({e})", origin.again) from None
    origin.check(found, path)
    for key, value in expected.items():
        if found.get(key) != value:
            what = f"{path} has {key} {found.get(key)}, expected {value}"
            raise UserError(what, origin.again)
    if found.get("checksum") != checksum(tensors):
        raise UserError(f"{path} does not match its checksum", origin.again)
    return tensors


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file; empty where none can be read."""
    try:
        with interruptible(), safe_open(path, "pt") as f:
            return f.metadata() or {}
    except (SafetensorError, OSError, ValueError):
        return {}


def _ordered(data: bytes) -> bytes:
    """The same file with the keys of its header in order.

    The safetensors library writes metadata in random order.
    """
    size = int.from_bytes(data[:LENGTH], "little")
    header = json.loads(data[LENGTH : LENGTH + size])
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNED)
    return len(text).to_bytes(LENGTH, "little") + text + data[LENGTH + size :]
