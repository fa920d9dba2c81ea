"""Processes that each compute on one core, and end with the process that started them.

Threads of one process take turns at Python's lock, which costs more the more cores there are. A process here is told
its work once and then its jobs, one after the other, through a pipe; through the same pipe come its progress and its
results. It writes nothing to disk. When the pipe closes, also because the other end was killed, it ends.
"""

import os
import pickle
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any

from devsort.errors import Interrupted, UserError

Advanced = Callable[[int], None]
Work = Callable[[Any, Advanced], Any]
CORE = {"OMP_NUM_THREADS": "1", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}  # large tensors on huge pages
TELL = 0.1  # seconds between two messages about progress
DIED = "for want of memory or by a signal: run the command again, it goes on; OMP_NUM_THREADS=1 keeps to one process"


def run_jobs(work: Work, jobs: Sequence, count: int, advanced: Advanced) -> Iterator[tuple[Any, Any]]:
    """Yields (job, work(job, advanced)) as they finish.

    Close the iterator (`contextlib.closing`) where the loop may end early: that ends the processes.

    Args:
        work: What is done; with more than one process it is pickled, as are jobs and results.
        jobs: In the order in which they are begun.
        count: Processes, at most as many as there are jobs. 1 works here, in this thread.
        advanced: Called in this process with the amount of work done since the last call.

    Raises:
        UserError: A process died.
        Interrupted: A process was ended by SIGTERM.
        Exception: What the work raised, with the traceback of its process as a note.
    """
    if min(count, len(jobs)) < 2:
        for job in jobs:
            yield job, work(job, advanced)
        return
    with crew(work, min(count, len(jobs))) as members:
        left, busy = deque(jobs), {}

        def begin(member: "Member") -> None:
            if left:
                busy[member.connection] = member, left.popleft()
                member.begin(busy[member.connection][1])

        for member in members:
            begin(member)
        while busy:
            for connection in wait(list(busy)):
                member, job = busy[connection]
                kind, value = member.hear()
                if kind == "advanced":
                    advanced(value)
                else:
                    del busy[connection]
                    begin(member)
                    yield job, value


@contextmanager
def crew(work: Work, count: int) -> Iterator[list["Member"]]:
    """Processes that are ready for jobs of this work, until the end of the context.

    Args:
        work: What is done with a job; it is pickled, as are jobs and results.
        count: Processes.

    Raises:
        UserError, Interrupted, Exception: See `run_jobs`.
    """
    members: list[Member] = []
    try:
        with uninterrupted(), environment(**CORE):
            for _ in range(count):
                members.append(_start())
        for member in members:
            _send(member.connection, work)
        for member in members:  # all begin together, so that the bench can time them
            member.hear("a script that calls it needs `if __name__ == '__main__':`")
        yield members
    finally:
        for member in members:
            member.connection.close()
            member.process.kill()
        for member in members:
            member.process.join()


@dataclass(frozen=True)
class Member:
    """A process of a crew and this end of its pipe."""

    connection: Connection
    process: Any

    def begin(self, job: Any) -> None:
        """Gives it a job; it takes one at a time."""
        with suppress(ConnectionError):  # it died: `hear` tells
            _send(self.connection, job)

    def result(self) -> Any:
        """What became of its job, once it is done."""
        while True:
            kind, value = self.hear()
            if kind == "done":
                return value

    def hear(self, advice: str = DIED) -> tuple[str, Any]:
        """Its next message: `advanced` and by how much, or `done` and the result."""
        try:
            kind, value = self.connection.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            if self.process.exitcode == -signal.SIGTERM:  # a scheduler sends it to all; this process may hear it last
                raise Interrupted(signal.SIGTERM) from None
            code = self.process.exitcode
            raise UserError(f"a process that was to compute on one core ended with exit code {code}", advice) from None
        if kind == "raised":
            raise value
        return kind, value


def _start() -> Member:
    """Starts a process; its end of the pipe stays open in it alone."""
    context = get_context("spawn")
    mine, its = context.Pipe()
    process = context.Process(target=_work, args=(its,), daemon=True)
    process.start()
    its.close()
    return Member(mine, process)


def _work(connection: Connection) -> None:
    """The life of a process."""
    with suppress(EOFError, ConnectionError):
        work, told = connection.recv(), _Progress(connection)
        told.send()
        while True:
            job = connection.recv()
            try:
                message = "done", work(job, told)
            except ConnectionError:
                raise
            except Exception as e:
                e.add_note(traceback.format_exc())
                message = "raised", e
            if told.done:
                told.send()
            _send(connection, message)


class _Progress:
    """Sends on what advances, not too often."""

    def __init__(self, connection: Connection) -> None:
        self.connection, self.done, self.sent = connection, 0, time.monotonic()

    def __call__(self, done: int) -> None:
        self.done += done
        if time.monotonic() - self.sent > TELL:
            self.send()

    def send(self) -> None:
        _send(self.connection, ("advanced", self.done))
        self.done, self.sent = 0, time.monotonic()


def _send(connection: Connection, value: Any) -> None:
    """Plain pickle: the one of multiprocessing would keep a file open for each tensor."""
    connection.send_bytes(pickle.dumps(value))


@contextmanager
def uninterrupted() -> Iterator[None]:
    """A process started here does not hear Ctrl-C, which the terminal sends to all: the one that starts it answers."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Sets environment variables for processes that are started here."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
