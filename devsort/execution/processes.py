"""Worker processes, which end with the process that started them.

A worker receives its work once and then one job after the other, through a pipe. It sends progress
and results back through the same pipe. It writes nothing to disk by itself. It may start workers of
its own.

It ends when its parent closes the pipe or ends, even if the parent is killed and even in the middle
of a job: one of its threads waits for that. Its own workers end with it in the same way.
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
REPORT = 0.1  # seconds between two messages about progress
DIED = (
    "out of memory or by a signal: run the command again, it goes on; "
    "OMP_NUM_THREADS=1 keeps to one process"
)
UNGUARDED = "a script that calls it needs `if __name__ == '__main__':`"


class Member:
    """A worker process and our end of its pipe. It takes one job at a time."""

    def __init__(self) -> None:
        context = get_context("spawn")
        self.connection, far_end = context.Pipe()
        # a daemon: if nothing else ends it, the end of this interpreter does
        self.process = context.Process(target=_live, args=(far_end,), daemon=True)
        self.process.start()
        far_end.close()
        self.ready = False

    def give(self, job: Any) -> None:
        """Sends it a job; the first message is its work."""
        with suppress(ConnectionError):  # it died; `hear` will report that
            # plain pickle: multiprocessing's own would keep a file open for each tensor
            self.connection.send_bytes(pickle.dumps(job))

    def result(self) -> Any:
        """Waits for the result of its job."""
        return self.wait_for("done")

    def wait_for(self, kind: str) -> Any:
        """Waits for its next message of a kind; returns what comes with it."""
        while True:
            heard, value = self.hear()
            if heard == "died":
                raise value
            if heard == kind:
                return value

    def hear(self) -> tuple[str, Any]:
        """Waits for its next message.

        Returns:
            The kind of message and what comes with it: `ready` and None, `advanced` and by how
            much, `done` and the result, or `died` and the error to raise.

        Raises:
            UserError: It ended before it was ready, and no signal ended it.
            Interrupted: SIGTERM ended it.
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
        """Kills it, whatever it is doing."""
        self.connection.close()
        self.process.kill()

    def _death(self) -> UserError:
        self.process.join()
        code = self.process.exitcode
        # a scheduler sends it to all processes; this one may receive it last
        if code == -signal.SIGTERM:
            raise Interrupted(signal.SIGTERM)
        what = f"a process that was to compute on one core ended with exit code {code}"
        if (code or 0) > 0 and not self.ready:
            raise UserError(what, UNGUARDED)
        return UserError(what, DIED)


Start = Callable[[int], list[Member]]


@contextmanager
def starter(work: Work, cores: int = 1) -> Iterator[Start]:
    """Yields a function that starts workers for this work; they end with the context.

    Args:
        work: What is done with a job. It is pickled, and so are jobs and results. If it has
            `by_value = True`, it carries what the running script defines, so the workers do not
            run that script again.
        cores: Cores of each worker.
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
    """Yields one-core workers that are all ready for jobs, so that they begin together.

    The list is empty in a daemon of multiprocessing, which may not start processes.

    Args:
        work: What is done with a job. It is pickled, and so are jobs and results.
        count: Number of workers.

    Raises:
        UserError, Interrupted, Exception: See `Member.hear`.
    """
    with starter(work) as start:
        members = start(0 if current_process().daemon else count)
        for member in members:
            member.wait_for("ready")
        yield members


def _live(connection: Connection) -> None:
    """What a worker does, from its start to its end."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    current_process().daemon = False  # multiprocessing would not let it start processes
    with suppress(EOFError, ConnectionError):
        work, progress = connection.recv(), _Progress(connection)
        connection.send(("ready", None))
        while True:
            message = _message(work, connection.recv(), progress)
            progress.send()
            connection.send_bytes(message)


def _end_with_parent() -> None:
    """Ends this process as soon as its parent ends."""
    if parent := parent_process():
        parent.join()
    os._exit(1)


def _message(work: Work, job: Any, advanced: Advanced) -> bytes:
    try:
        return pickle.dumps(("done", work(job, advanced)))
    except Interrupted as e:  # one of its own workers was interrupted; then so is this one
        os.kill(os.getpid(), e.signum)
        raise
    except Exception as e:
        e.add_note(traceback.format_exc())
        return pickle.dumps(("raised", e))


class _Progress:
    """Passes progress on, but not too often."""

    def __init__(self, connection: Connection) -> None:
        self.connection, self.done, self.sent = connection, 0, time.monotonic()

    def __call__(self, done: int) -> None:
        self.done += done
        if time.monotonic() - self.sent > REPORT:
            self.send()

    def send(self) -> None:
        if self.done:
            self.connection.send(("advanced", self.done))
        self.done, self.sent = 0, time.monotonic()


@contextmanager
def _without_main() -> Iterator[None]:
    """Keeps a process started within the block from running this process's script.

    multiprocessing looks for the script by the name in `__spec__`, then by `__file__`.
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
    """Sets what a process started within the block inherits: its cores, huge pages, no Ctrl-C.

    The terminal sends Ctrl-C to all processes; the first one handles it and ends the others.
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
