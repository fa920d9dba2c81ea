"""Files and folders that are replaced as a whole or not at all, and never through a link.

A file is written to a temporary name, synced and renamed. If the writer is killed or the power
fails, a reader sees either the old file or the new one.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from devsort.errors import InUse, UserError

TEMPORARY = ".tmp-"  # prefix of files that are being written
LEFTOVERS = (f"{TEMPORARY}*", "*.partial")  # temporary files of ours and of zarr's


def write_atomic(path: Path, data: bytes) -> None:
    """Writes a file: a reader sees all of the old one or all of the new one."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{TEMPORARY}{path.name}")
        remove(temporary)
        with open(temporary, "xb") as f:  # never through a link
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)
        _sync(path.parent)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder that takes the place of `path` if the block succeeds.

    The old folder is moved aside whole before it is removed: a kill never leaves a part of it under
    its name.
    """
    temporary, old = (path.with_name(f"{TEMPORARY}{kind}{path.name}") for kind in ("", "old-"))
    with writing(path):
        remove(temporary)
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        sync_tree(temporary)
        remove(old)
        if os.path.lexists(path):
            os.replace(path, old)
        os.replace(temporary, path)
        _sync(path.parent)
        remove(old)


def sync_tree(folder: Path) -> None:
    """Makes the operating system write all files below a folder to disk."""
    for found in folder.rglob("*"):
        if found.is_file():
            _sync(found)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Removes a file or folder if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns a full disk or a missing permission into a one-line error that names `path`."""
    try:
        yield
    except OSError as e:
        fix = "make room or permissions, then run the same command: finished work is kept"
        raise UserError(f"{path} cannot be written ({e.strerror or e})", fix) from None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Locks a folder for one process.

    The operating system releases the lock when the process ends, however it ends.

    Raises:
        InUse: Another process holds the lock.
    """
    path = folder / ".lock"
    with writing(path):
        f = open(path, "a+b", buffering=0)  # noqa: SIM115  closed below, after the caller's work
    with f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            f.seek(0)
            holder = f.read().decode(errors="replace").strip() or "another process"
            raise InUse(
                f"{folder} is in use by {holder}", "wait for it, or stop that process"
            ) from None
        with writing(path):
            f.truncate(0)
            f.write(f"process {os.getpid()}".encode())
        yield


def check_readable(path: Path) -> None:
    """Raises UserError if there is no permission to read a file.

    The libraries that read weights give misleading errors in that case.
    """
    if not os.access(path, os.R_OK):
        raise UserError(
            f"{path} cannot be read (Permission denied)", "give yourself permission to read it"
        )


def remove_leftovers(folder: Path) -> None:
    """Removes the temporary files of writers that were killed."""
    for leftover in [found for pattern in LEFTOVERS for found in folder.rglob(pattern)]:
        remove(leftover)


def refuse_links(folder: Path) -> None:
    """Refuses links, which lead out of a folder, and pipes, which a reader would wait for.

    Raises:
        UserError: There is one anywhere below the folder.
    """
    # a writer may remove an entry meanwhile
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                refuse_links(Path(entry.path))
            elif not entry.is_file(follow_symlinks=False):
                kind = "a symbolic link" if entry.is_symlink() else "no regular file"
                raise UserError(
                    f"{entry.path} is {kind}", "put the file or folder itself in its place"
                )
