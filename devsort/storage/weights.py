"""Weights of strangers.

Read without executing anything in the file, and in the memory that its tensors take. What a file
is, its first bytes say, not its name.
"""

import json
import os
import pickle
import pickletools
import re
import shlex
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from devsort.errors import UserError, interruptible
from devsort.storage.files import check_readable

# how many times tensors may use the same bytes of a file, as tied embeddings do
SHARED = 4
KINDS = "give a .safetensors file, or one of torch.save"
SAVE = "save `model.state_dict()`"
TUPLES = {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"}  # opcodes of pickle that make a tuple
LEGACY = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # what torch.save began files with before 1.6
# names that torch puts between a module and its parameters when it wraps it
WRAPPERS = re.compile(r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")


def load_weights(path: str | os.PathLike, *, as_saved: bool = False) -> dict[str, Tensor]:
    """Reads a state dict from a file that is not trusted; nothing in it is executed.

    The file is a safetensors file or an archive of torch.save. If a checkpoint
    holds one state dict and other things, the state dict is read; objects of other libraries beside
    it, such as hyper-parameters, are passed over.

    Args:
        path: The file.
        as_saved: Floats keep their type; else they become float32.

    Raises:
        UserError: The file is missing, damaged or of another kind, holds no state dict or several,
            or holds complex weights.
    """
    path = Path(path)
    if not os.path.isfile(path):
        what = "is a folder" if os.path.isdir(path) else "is missing"
        raise UserError(f"{path} {what}", KINDS)
    check_readable(path)
    state = state_dict_in(_read(path), path)
    if sum(v.numel() * v.element_size() for v in state.values()) > SHARED * path.stat().st_size:
        raise UserError(f"{path} names the same bytes many times over", SAVE)
    refuse_complex(state, path)
    if as_saved:
        return dict(state)
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}


def refuse_complex(state: Mapping[str, Tensor], where: Path) -> None:
    """Refuses complex weights, whose imaginary part would be lost."""
    named = next((name for name, value in state.items() if value.is_complex()), None)
    if named:
        raise UserError(f"{where}: {named} is complex", "give real weights")


def refuse_not_finite(state: Mapping[str, Tensor], where: Path | str) -> None:
    """Refuses a state dict in which a weight is NaN or infinite.

    Raises:
        UserError: Names the first one.
    """
    for name, value in state.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            what = f"{where}: {name} holds values that are not finite"
            raise UserError(what, "give the weights of a step before training diverged")


def state_dict_in(
    value: Any, where: Path | str, fix: str = SAVE, is_tensor: Callable[[Any], bool] | None = None
) -> Mapping[str, Any]:
    """The value itself if it is a state dict, else the one state dict inside it.

    Args:
        value: Of a checkpoint.
        where: The checkpoint, for errors.
        fix: What to do where there is none.
        is_tensor: What counts as a tensor; None: one on the CPU whose numbers are all there.

    Raises:
        UserError: There is none, or there are several.
    """
    counts = is_tensor or _is_plain

    def is_state(given: Any) -> bool:
        return _is_mapping(given) and len(given) > 0 and all(map(counts, given.values()))

    if is_state(value):
        return value
    inside = {k: v for k, v in value.items() if is_state(v)} if _is_mapping(value) else {}
    if len(inside) > 1:
        names = ", ".join(map(str, inside))
        what = f"{where} holds several state dicts ({names})"
        raise UserError(what, "save the one that is meant")
    if not inside:
        raise UserError(f"{where} does not hold a plain mapping of names to tensors", fix)
    return next(iter(inside.values()))


def under_names(state: Mapping[str, Tensor], anchor: str, where: Path) -> dict[str, Tensor]:
    """A state dict without the prefixes that wrappers put before its names.

    Args:
        state: Names to tensors, such as `module._orig_mod.embed.W_E`.
        anchor: A name that the network has, such as `embed.W_E`. What stands in front of it is
            taken off all names that begin with it.
        where: The file, for errors.

    Raises:
        UserError: The file holds the network twice.
    """
    state = {WRAPPERS.sub("", name): value for name, value in state.items()}
    found = [name for name in state if f".{name}".endswith(f".{anchor}")]
    if len(found) > 1:
        raise UserError(f"{where} holds two networks ({', '.join(found)})", "save one of them")
    prefix = found[0].removesuffix(anchor) if found else ""
    bare = {name.removeprefix(prefix): value for name, value in state.items()}
    if len(bare) < len(state):
        raise UserError(f"{where} holds names that differ in {prefix!r} alone", "save one of them")
    return bare


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(k, str) for k in value)


def _is_plain(value: Any) -> bool:
    """Whether a value is a tensor whose numbers are all in the file.

    Sparse and meta tensors are not, nor is a stride of 0, which can stand for terabytes.
    """
    if (
        not isinstance(value, Tensor)
        or value.is_nested
        or value.layout != torch.strided
        or value.device.type != "cpu"
    ):
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def _read(path: Path) -> Any:
    """What the file holds, of whatever type."""
    try:
        return _read_kind(path)
    except UserError:
        raise
    except pickle.UnpicklingError:
        raise UserError(f"{path} holds more than tensors, or is no weight file", SAVE) from None
    except Exception as e:  # a mutated file can make the readers raise anything
        reason = str(e).strip().splitlines()[0][:120] if str(e).strip() else type(e).__name__
        raise UserError(
            f"{path} is not a weight file that can be read safely ({reason})",
            "save a plain state dict",
        ) from None


def _read_kind(path: Path) -> Any:
    with open(path, "rb") as f:
        start = f.read(64)
    if start[8:].startswith(b"{"):  # after eight bytes with the length of the header
        with interruptible(), safe_open(path, "pt") as f:
            return {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118
    if start.startswith(b"\x80"):
        raise UserError(*_bare_pickle(path, LEGACY in start))
    if start.startswith(b"version https://git-lfs"):
        raise UserError(f"{path} is a pointer of Git LFS", "fetch the weights with git lfs pull")
    if not start.startswith(b"PK"):
        raise UserError(f"{path} is no weight file", KINDS)
    _check_archive(path)
    # given a path, torch would trust its extension; its warnings are part of our error
    with open(path, "rb") as f, warnings.catch_warnings(action="ignore"):
        unknown = torch.serialization.get_unsafe_globals_in_checkpoint(f)
        f.seek(0)
        with torch.serialization.safe_globals([(_inert(name), name) for name in unknown]):
            return torch.load(f, map_location="cpu", weights_only=True)  # noqa: TID251  here


class _Inert:
    """Stands for whatever a file names that is no tensor: it holds nothing and does nothing."""

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...


class _InertDict:
    """The same for classes of dicts, since torch puts entries into its own kinds alone."""

    def __new__(cls, *_: Any) -> Any:
        return OrderedDict()


def _inert(name: str) -> type:
    return _InertDict if name.lower().endswith("dict") else _Inert


def _bare_pickle(path: Path, legacy: bool) -> tuple[str, str]:
    """What is wrong with a bare pickle, and how to save it anew."""
    name, new = (json.dumps(str(p)) for p in (path, path.with_suffix(".new.pt")))
    if legacy:
        what = "was written by a torch.save before 1.6, or in its old form"
        code = f"import torch; torch.save(torch.load({name}, weights_only=True), {new})"
    else:
        what = "is a pickle, which can run code"
        code = f'import pickle, torch; torch.save(pickle.load(open({name}, "rb")), {new})'
    return f"{path} {what}", f"if you trust it, save it anew: python -c {shlex.quote(code)}"


def _check_archive(path: Path) -> None:
    """Refuses what torch.save never writes, and what could take unlimited time or memory.

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

    Forty tuples, each twice within the next, take forever as a key, even with `weights_only`.
    """
    tuples, made = set(), None
    for opcode, argument, _ in pickletools.genops(data):
        if "GET" in opcode.name and argument in tuples:
            raise pickle.UnpicklingError
        if "PUT" in opcode.name and made in TUPLES:
            tuples.add(argument)
        made = opcode.name
