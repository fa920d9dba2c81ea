"""Processes that work for the process that started them, and end with it.

A process gets its work once and then its jobs, one after the other, through a pipe. Through the
same pipe come its progress and its results. It writes nothing to disk of itself. It may start
processes of its own.

It ends when the one that started it closes the pipe or ends, also by a kill and also in the middle
of a job: a thread of it waits for just that. Its own processes end with it in the same way.
"""

import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from multiprocessing import current_process, get_context, parent_process
from multiprocessing.connection import Connection
from typing import Any

from devsort.errors import Interrupted, UserError

Advanced = Callable[[int], None]
Work = Callable[[Any, Advanced], Any]
HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}  # for large tensors
TELL = 0.1  # seconds between two messages about progress
DIED = (
    "out of memory or by a signal: run the command again, it goes on; "
    "OMP_NUM_THREADS=1 keeps to one process"
)
UNGUARDED = "a script that calls it needs `if __name__ == '__main__':`"


class Member:
    """A process and this end of its pipe. It takes one job at a time."""

    def __init__(self) -> None:
        context = get_context("spawn")
        self.connection, its = context.Pipe()
        # a daemon of this process: where nobody ends it, the end of the interpreter does
        self.process = context.Process(target=_live, args=(its,), daemon=True)
        self.process.start()
        its.close()
        self.ready = False

    def give(self, job: Any) -> None:
        """Gives it a job; before the first one, its work."""
        with suppress(ConnectionError):  # it died, as `hear` will say
            # plain pickle: the one of multiprocessing would keep a file open for each tensor
            self.connection.send_bytes(pickle.dumps(job))

    def result(self) -> Any:
        """What became of its job, once it is done."""
        return self.wait_for("done")

    def wait_for(self, kind: str) -> Any:
        """What comes with its next message of a kind."""
        while True:
            found, value = self.hear()
            if found == "died":
                raise value
            if found == kind:
                return value

    def hear(self) -> tuple[str, Any]:
        """Its next message.

        Returns:
            `ready` for jobs; `advanced` and by how much; `done` and the result; `died` and the
            error to raise.

        Raises:
            UserError: It ended before it was ready, and not by a signal.
            Interrupted: It was ended by SIGTERM.
            Exception: What its work raised.
        """
        try:
            kind, value = self.connection.recv()
        except (EOFError, OSError):
            kind, value = "died", None
        if kind == "died":
            return kind, self._death()
        if kind == "raised":
            raise value
        self.ready = True
        return kind, value

    def end(self) -> None:
        """Ends it, whatever it is doing."""
        self.connection.close()
        self.process.kill()

    def _death(self) -> UserError:
        self.process.join()
        code = self.process.exitcode
        if code == -signal.SIGTERM:  # a scheduler sends it to all; this process may hear it last
            raise Interrupted(signal.SIGTERM)
        what = f"a process that was to compute on one core ended with exit code {code}"
        if (code or 0) > 0 and not self.ready:
            raise UserError(what, UNGUARDED)
        return UserError(what, DIED)


Start = Callable[[int], list[Member]]


@contextmanager
def starter(work: Work, cores: int = 1) -> Iterator[Start]:
    """Yields a function that starts processes for this work; they end with the context.

    Args:
        work: What is done with a job; it is pickled, as are jobs and results. With
            `by_value = True` it brings along what the script that runs here defines, which is then
            not run again.
        cores: Of each process.
    """
    members: list[Member] = []

    def start(count: int) -> list[Member]:
        by_value = getattr(work, "by_value", False)
        with _inherited(cores), _without_main() if by_value else nullcontext():
            members.extend(Member() for _ in range(count))
        started = members[len(members) - count :]
        for member in started:
            member.give(work)
        return started

    try:
        yield start
    finally:
        for member in members:
            member.end()
        for member in members:
            member.process.join()


@contextmanager
def crew(work: Work, count: int) -> Iterator[list[Member]]:
    """Processes of one core that are all ready for jobs of this work, so that they begin together.

    There are none in a daemon of multiprocessing, which may not start processes.

    Args:
        work: What is done with a job; it is pickled, as are jobs and results.
        count: Processes.

    Raises:
        UserError, Interrupted, Exception: See `Member.hear`.
    """
    with starter(work) as start:
        members = start(0 if current_process().daemon else count)
        for member in members:
            member.wait_for("ready")
        yield members


def _live(connection: Connection) -> None:
    """The life of a process."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    current_process().daemon = False  # multiprocessing would not let it start processes
    with suppress(EOFError, ConnectionError):
        work, told = connection.recv(), _Progress(connection)
        connection.send(("ready", None))
        while True:
            message = _message(work, connection.recv(), told)
            told.send()
            connection.send_bytes(message)


def _end_with_parent() -> None:
    """Ends this process at once when the one that started it ends."""
    if parent := parent_process():
        parent.join()
    os._exit(1)


def _message(work: Work, job: Any, advanced: Advanced) -> bytes:
    try:
        return pickle.dumps(("done", work(job, advanced)))
    except Interrupted as e:  # a process of its own was; so is this one, then
        os.kill(os.getpid(), e.signum)
        raise
    except Exception as e:
        e.add_note(traceback.format_exc())
        return pickle.dumps(("raised", e))


class _Progress:
    """Sends on what advances, not too often."""

    def __init__(self, connection: Connection) -> None:
        self.connection, self.done, self.sent = connection, 0, time.monotonic()

    def __call__(self, done: int) -> None:
        self.done += done
        if time.monotonic() - self.sent > TELL:
            self.send()

    def send(self) -> None:
        if self.done:
            self.connection.send(("advanced", self.done))
        self.done, self.sent = 0, time.monotonic()


@contextmanager
def _without_main() -> Iterator[None]:
    """Has a process that is started here not run the script of this one.

    So multiprocessing looks for a script: by the name in `__spec__`, then by `__file__`.
    """
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    main.__spec__ = main.__file__ = None
    try:
        yield
    finally:
        main.__spec__ = spec
        if file is None:
            del main.__file__
        else:
            main.__file__ = file


@contextmanager
def _inherited(cores: int) -> Iterator[None]:
    """What a process that is started here inherits: its cores, huge pages, and no Ctrl-C.

    The terminal sends Ctrl-C to all processes; the first one answers it and ends the others.
    """
    variables = {"OMP_NUM_THREADS": str(cores), **HUGE_PAGES}
    before = {name: os.environ[name] for name in variables if name in os.environ}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]
        os.environ.update(before)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
