"""What tests of files ask: the one line of a refusal, and what is in a folder."""

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
