"""What tests of files ask: the one line of a refusal, what is in a folder, and its bytes."""

import hashlib
from pathlib import Path

import pytest

from devsort.errors import UserError

KEPT = "; make room or permissions, then run the same command: finished work is kept"


def told(function, *args) -> str:
    """The one line of the user's error that a call must raise."""
    with pytest.raises(UserError) as e:
        function(*args)
    assert len(str(e.value).splitlines()) == 1
    return str(e.value)


def names(folder: Path) -> list[str]:
    """All paths below a folder, relative to it."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def hashes(folder: Path) -> dict[str, str]:
    """The hash of each file below a folder, by its name there."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }
