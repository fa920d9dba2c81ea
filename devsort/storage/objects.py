"""JSON files; `write_object` and `read_object` keep the contract of `artifact`."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from devsort.errors import UserError
from devsort.storage.artifact import Origin, check_exists, identity
from devsort.storage.files import check_readable, write_atomic

PROVENANCE = "provenance"  # the key of an object's attributes


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a JSON object, atomically."""
    write_atomic(path, (json.dumps(value, indent=1) + "\n").encode())


def read_json(path: Path, again: str) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        UserError: It is missing, damaged, or not an object; `again` is the fix.
    """
    if not os.path.isfile(path):
        raise UserError(f"{path} is missing", again)
    check_readable(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as e:
        raise UserError(f"{path} is cut short or damaged ({e})", again) from None
    if not isinstance(value, dict):
        raise UserError(f"{path} holds no JSON object", again)
    return value


def refuse_foreign(folder: Path, name: str) -> None:
    """Refuses a folder with files in it that devsort did not write.

    Raises:
        UserError: The folder is not empty, and `name`, a file that devsort writes, is not in it.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / name).is_file():
        fix = "give another folder with --out"
        raise UserError(f"{folder} holds files that devsort did not write", fix)


def write_object(path: Path, value: Mapping[str, Any], origin: Origin) -> None:
    """Writes a JSON object with its origin and a checksum, atomically."""
    attributes = {**origin.attributes, "checksum": identity(value)}
    write_json(path, {**value, PROVENANCE: attributes})


def read_object(path: Path, origin: Origin) -> tuple[dict[str, Any], str]:
    """Reads a file of `write_object`, verified; its value and checksum.

    Raises:
        UserError: It is missing or damaged.
        Stale: It was made from another config or from other inputs.
    """
    check_exists(path, origin)
    value = read_json(path, origin.again)
    attributes = value.pop(PROVENANCE, None)
    if not isinstance(attributes, dict):
        raise UserError(f"{path} is not what devsort wrote", origin.again)
    origin.check(attributes, path)
    if attributes.get("checksum") != identity(value):
        raise UserError(f"{path} does not match its checksum", origin.again)
    return value, attributes["checksum"]
