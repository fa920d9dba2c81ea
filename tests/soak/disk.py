"""A full disk and refused permissions.

One line, exit code 2, finished work intact, and the same command goes on.
"""

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from commands import Process, last_line
from soak.kills import INPUTS, difference, leftovers, saved_units
from soak.report import Row

from devsort.rng import stream
from runs import Smoke

NOBODY = 65534  # what root becomes where permissions are to hold
SCRATCH = "devsort-soak-"


def full_disks(smoke: Smoke, count: int, seed: int = 0) -> Row:
    """Commands on file systems with room for a part of what they write.

    Root alone can make those.
    """
    row = Row("disk full (tmpfs)")
    if not can_mount():
        row.note = "skipped: only root can mount"
        return row
    for trial in range(count):
        rng, command = stream(seed, "soak disk", trial), list(INPUTS)[trial % len(INPUTS)]
        with tmpfs() as (disk, resize):
            folder = smoke.copy(disk, *INPUTS[command])
            disk_now = os.statvfs(disk)
            used = (disk_now.f_blocks - disk_now.f_bfree) * disk_now.f_frsize // 1024
            # kB, half of what it writes or less
            room = {"train": 300, "llc": 400, "heads": 600, "stages": 5}[command]
            resize(used + int(rng.integers(0, room)))
            problem = refused(command, folder, "No space left on device")
            resize(used + 20_000)
            row.count(problem or goes_on(command, folder, smoke))
    return row


def size_limits(smoke: Smoke, count: int, seed: int = 0) -> Row:
    """Commands that may write no file beyond a size.

    Writes fail half-way as on a full disk, for every user.
    """
    row = Row("disk full (limit on the size of files)")
    for trial in range(count):
        rng, command = stream(seed, "soak limit", trial), list(INPUTS)[trial % len(INPUTS)]
        with scratch() as folder:
            run = smoke.copy(folder, *INPUTS[command])
            limit = int(
                rng.integers(0, {"train": 5000, "llc": 500, "heads": 5000, "stages": 1000}[command])
            )
            problem = refused(
                command, run, "File too large", lambda limit=limit: limit_files(limit)
            )
            row.count(problem or goes_on(command, run, smoke))
    return row


def permissions(smoke: Smoke) -> Row:
    """Folders that may not be written and files that may not be read, for anybody but root."""
    row = Row("permission denied")
    for command in INPUTS:
        for path in ("", "checkpoints", "config.yaml"):
            with scratch() as folder:
                run = smoke.copy(folder, *INPUTS[command])
                if command != "train" and path == "checkpoints":
                    path = "checkpoints/step-000000300.safetensors"
                denied = run / path
                denied.parent.mkdir(exist_ok=True)
                if path == "checkpoints":
                    denied.mkdir()
                mode = denied.stat().st_mode
                give_away(folder)
                denied.chmod(0o555 if denied.is_dir() else 0)
                problem = refused(command, run, "Permission denied", become_nobody)
                denied.chmod(mode)
                row.count(problem or goes_on(command, run, smoke, become_nobody))
    return row


def refused(
    command: str, folder: Path, reason: str, prepare: Callable[[], None] | None = None
) -> str | None:
    """What is wrong with the way in which a command gives up; None if all is well."""
    before = saved_units(command, folder) if os.access(folder / "config.yaml", os.R_OK) else set()
    process = Process(
        folder.parent.parent / f"{folder.parent.name}.log", command, folder, prepare=prepare
    )
    code = process.wait()
    log = process.log.read_text()
    process.log.unlink()
    line = last_line(log)
    if code != 2 or not line.startswith("devsort: error: ") or "Traceback" in log:
        return f"{command}: exit code {code}, it said {line[-300:]!r}"
    if reason not in line or str(folder) not in line:
        return f"{command} did not say {reason!r} and where, but {line[-300:]!r}"
    lost = before - saved_units(command, folder)
    return f"{command} lost {sorted(lost)[:3]}" if lost else None


def goes_on(
    command: str, folder: Path, smoke: Smoke, prepare: Callable[[], None] | None = None
) -> str | None:
    """What is wrong with the end of a command that has room again.

    None if it is as if nothing had been.
    """
    process = Process(
        folder.parent.parent / f"{folder.parent.name}.log", command, folder, prepare=prepare
    )
    code, log = process.wait(), process.log.read_text()
    process.log.unlink()
    if code:
        return f"{command} did not go on: {last_line(log)[-300:]}"
    left = leftovers(folder)
    return f"{command} left {left[0]}" if left else difference(folder, smoke.path)


# ---- what makes a disk full


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that every user may enter."""
    folder = Path(tempfile.mkdtemp(prefix=SCRATCH))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def tmpfs() -> Iterator[tuple[Path, Callable[[int], None]]]:
    """A file system in memory and a function that sets its size in kB."""
    with scratch() as folder:
        mount("-t", "tmpfs", "-o", "size=40m", "tmpfs", folder)
        try:
            yield folder, lambda kilobytes: mount("-o", f"remount,size={kilobytes}k", folder)
        finally:
            subprocess.run(["umount", folder], check=True)


def can_mount() -> bool:
    """Whether this process may mount a file system."""
    try:
        with tmpfs():
            return True
    except (subprocess.CalledProcessError, FileNotFoundError):
        return False


def mount(*arguments: str | Path) -> None:
    """Runs mount."""
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


def limit_files(size: int) -> None:
    """Lets this process write no file beyond `size` bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    sys.stdout = sys.stderr = Unlimited(sys.stderr, size)


class Unlimited:
    """A log to which the limit on the size of files does not apply."""

    def __init__(self, log: TextIO, size: int) -> None:
        self.log, self.size = log, size
        self.limit(size)

    def limit(self, size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def write(self, text: str) -> int:
        self.limit(resource.RLIM_INFINITY)
        written = self.log.write(text)
        self.flush()
        self.limit(self.size)
        return written

    def flush(self) -> None:
        self.log.flush()

    def isatty(self) -> bool:
        return False


def become_nobody() -> None:
    """Gives up root, to whom nothing is denied."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def give_away(folder: Path) -> None:
    """Lets `become_nobody` own what is in a folder."""
    if os.getuid() == 0:
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, NOBODY, NOBODY)
