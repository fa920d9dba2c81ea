"""Hands out jobs, one at a time, to worker processes.

Threads of one process take turns at Python's lock, which costs more the more cores there are, so
each worker is a process. How workers start and end: `processes`.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from multiprocessing import current_process
from multiprocessing.connection import wait
from typing import Any

from devsort.execution.processes import Advanced, Member, Start, Work, starter

POLL = 1.0  # seconds between two calls of `watch`
NONE = object()  # where there is no job

Together = Callable[[Any], Hashable]
Lost = Callable[[Any, int], Any]
Watch = Callable[[list], None]


def unheard(_: int) -> None:
    """Ignores progress."""


def run_jobs(
    work: Work,
    jobs: Sequence,
    count: int,
    advanced: Advanced = unheard,
    *,
    together: Together | None = None,
    lost: Lost | None = None,
    watch: Watch | None = None,
    cores: int = 1,
) -> Iterator[tuple[Any, Any]]:
    """Yields (job, work(job, advanced)) as jobs finish.

    A worker has one job at a time, so a slow core delays the rest by one job at most.
    Close the iterator (`contextlib.closing`) if the loop may end early: that ends the workers.

    Args:
        work: What is done with a job. If there are workers, it is pickled, and so are jobs and
            results.
        jobs: The jobs, in the order in which they begin.
        count: Number of workers, at most one for each job. With 1 the jobs run here, in this
            thread, unless `lost` is given; so they do in a daemon of multiprocessing, which may
            not start processes.
        advanced: Called in this process with the amount of work done since the last call.
        together: Key of a job. Jobs of one key share what a worker loads, so a worker takes them
            one after the other, then the next key that no worker has begun. If none is left, it
            takes jobs from the end of the key with most jobs left. None: jobs share nothing.
        lost: Called with a job whose worker died, and how often that happened to this job. It
            returns the job's result, or None to begin the job again on a new worker. Without it, a
            death is an error.
        watch: Called at least once a second with the jobs in progress.
        cores: Cores of each worker.

    Raises:
        UserError: A worker died.
        Interrupted: SIGTERM ended a worker.
        Exception: What the work raised, with the traceback of its worker as a note.
    """
    share = _shares(jobs, together)
    count = min(count, len(jobs))
    if current_process().daemon or (count < 2 and lost is None):
        for job in share():
            yield job, work(job, advanced)
        return
    with starter(work, cores) as start:
        seats = [_Seat(member, share()) for member in start(count)]
        while busy := [seat for seat in seats if seat.job is not NONE]:
            if watch:
                watch([seat.job for seat in busy])
            heard = wait([seat.member.connection for seat in busy], POLL if watch else None)
            for seat in [one for one in busy if one.member.connection in heard]:
                kind, value = seat.member.hear()
                if kind == "died":
                    kind, value = seat.after_death(value, lost, start)
                if kind == "advanced":
                    advanced(value)
                elif kind == "done":
                    job = seat.job
                    seat.take()
                    yield job, value


def _shares(jobs: Sequence, together: Together | None) -> Callable[[], Iterator]:
    """A function that makes one worker's iterator over jobs; each job is in exactly one of them."""
    left: dict[Hashable, deque] = {}
    for i, job in enumerate(jobs):
        left.setdefault(together(job) if together else i, deque()).append(job)
    fresh = deque(left.values())

    def share() -> Iterator:
        while fresh:
            own = fresh.popleft()
            while own:
                yield own.popleft()
        while most := max(left.values(), key=len, default=None):
            while most:
                yield most.pop()

    return share


class _Seat:
    """A worker, the jobs that it takes, and its present job.

    Args:
        member: The worker; replaced if it dies.
        jobs: Its jobs.
    """

    def __init__(self, member: Member, jobs: Iterator) -> None:
        self.member, self.jobs = member, jobs
        self.take()

    def take(self) -> None:
        """Begins the next job, if there is one."""
        self.job, self.deaths = next(self.jobs, NONE), 0
        if self.job is not NONE:
            self.member.give(self.job)

    def after_death(self, error: Exception, lost: Lost | None, start: Start) -> tuple[str, Any]:
        """Replaces a worker that died; returns a message as `Member.hear` does."""
        if lost is None:
            raise error
        self.deaths += 1
        result = lost(self.job, self.deaths)
        (self.member,) = start(1)
        if result is not None:
            return "done", result
        self.member.give(self.job)
        return "begun", None
