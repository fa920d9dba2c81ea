"""Writing where others write too: one process in a folder at a time, and a refusal of the disk in one line."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from devsort.errors import InUse, UserError


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds a folder for one process; the operating system lets go when the process ends, however it ends.

    Raises:
        InUse: Another process holds it.
    """
    path = folder / ".lock"
    with writing(path):
        f = open(path, "a+")  # noqa: SIM115  closed below, after the caller's work
    with f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            f.seek(0)
            holder = f.read().strip() or "another process"
            raise InUse(f"{folder} is in use by {holder}", "wait for it, or stop that process") from None
        f.truncate(0)
        f.write(f"process {os.getpid()}")
        f.flush()
        yield


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns a full disk or a refused permission into a one-line error that names `path`."""
    try:
        yield
    except OSError as e:
        fix = "make room or permissions, then run the same command: finished work is kept"
        raise UserError(f"{path} cannot be written ({e.strerror or e})", fix) from None
