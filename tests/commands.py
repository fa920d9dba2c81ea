"""The command line in this process, and in processes of its own that can be killed."""

import io
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from devsort.cli import main

# what commands import when they need it
LATE = (
    "arviz_stats.base",
    "pandas",
    "torch._dynamo",
    "devsort.sorting.heads.step",
    "devsort.sorting.llc",
    "devsort.sorting.stages",
    "devsort.sorting.train",
)
HANG = 300  # seconds after which a process counts as hanging


class Result(NamedTuple):
    """What a command left: its exit code, standard output and standard error."""

    code: int
    out: str
    err: str


def devsort(*arguments: str | Path) -> Result:
    """Runs `devsort ARGUMENTS` in this process."""
    out, err = io.StringIO(), io.StringIO()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with redirect_stdout(out), redirect_stderr(err):
            code = _exit_code(arguments)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return Result(code, out.getvalue(), err.getvalue())


class Process:
    """`devsort ARGUMENTS` in a forked process, which saves it the imports, also those of LATE.

    Args:
        log: File for its standard error.
        arguments: Of the command line.
        prepare: Called in the process before the command.
    """

    def __init__(
        self, log: Path, *arguments: str | Path, prepare: Callable[[], None] | None = None
    ) -> None:
        self.log = log
        for name in LATE:
            import_module(name)
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            # a shell's background jobs start with it ignored
            signal.signal(signal.SIGINT, signal.default_int_handler)
            try:
                sys.stdout = sys.stderr = open(log, "w", buffering=1)  # noqa: SIM115  open until the process ends
                if prepare:
                    prepare()
                code = _exit_code(arguments)
            finally:
                os._exit(code)

    def stop_when(self, condition: Callable[[], bool], with_signal: signal.Signals) -> int:
        """Sends a signal as soon as the condition holds.

        The exit code, or minus the signal that ended it.
        """
        deadline = time.monotonic() + HANG
        while not condition():
            assert time.monotonic() < deadline and os.waitpid(self.pid, os.WNOHANG) == (0, 0), (
                self.log.read_text()
            )
            time.sleep(0.002)
        os.kill(self.pid, with_signal)
        return self.wait()

    def wait(self) -> int:
        """The exit code, or minus the signal that ended it."""
        deadline = time.monotonic() + HANG
        while (ended := os.waitpid(self.pid, os.WNOHANG)) == (0, 0):
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(0.002)
        return os.waitstatus_to_exitcode(ended[1])


def children(pid: int | None = None) -> list[int]:
    """Processes that a process, this one if none is named, has spawned to work."""
    pid = pid or os.getpid()
    pids = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(p) for p in pids if b"spawn_main" in Path(f"/proc/{p}/cmdline").read_bytes()]


def wait_until(condition: Callable[[], bool]) -> None:
    """Waits, but not for ever."""
    deadline = time.monotonic() + HANG
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def last_line(text: str) -> str:
    """The last line of a standard error, after the progress bars."""
    return text.replace("\r", "\n").rstrip("\n").rpartition("\n")[2]


def _exit_code(arguments: tuple[str | Path, ...]) -> int:
    try:
        main([str(a) for a in arguments])
    except SystemExit as e:
        return e.code or 0
    raise AssertionError("main came back")
