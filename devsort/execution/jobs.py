"""Jobs, handed out one by one to processes.

Threads of one process take turns at Python's lock, which costs more the more cores there are. So
each worker is a process; `processes` says how it lives and ends.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from multiprocessing import current_process
from multiprocessing.connection import wait
from typing import Any

from devsort.execution.processes import Advanced, Member, Start, Work, starter

POLL = 1.0  # seconds between two looks at the jobs in flight
NONE = object()  # where there is no job

Together = Callable[[Any], Hashable]
Lost = Callable[[Any, int], Any]
Watch = Callable[[list], None]


def unheard(_: int) -> None:
    """Takes progress that nobody follows."""


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
    """Yields (job, work(job, advanced)) as they finish.

    A process has one job at a time, so a slow core holds up the rest by one job at most.
    Close the iterator (`contextlib.closing`) where the loop may end early: that ends the processes.

    Args:
        work: What is done. With processes it is pickled, as are jobs and results.
        jobs: In the order in which they are begun.
        count: Processes, at most as many as there are jobs. 1 works here, in this thread, unless
            `lost` is given. So does a daemon of multiprocessing, which may not start processes.
        advanced: Called in this process with the amount of work done since the last call.
        together: Key of a job. A process takes the jobs of one key one after the other, because
            they share what it loads; then the next key that no process has begun. When there is
            none, it takes jobs from the end of the key that has most left. None: no job shares.
        lost: Called with a job whose process died and how often that happened to it. What it
            returns is the job's result; after None the job is begun again on a new process.
            Without it, a death is an error.
        watch: Called at least once a second with the jobs in flight.
        cores: Of each process.

    Raises:
        UserError: A process died.
        Interrupted: A process was ended by SIGTERM.
        Exception: What the work raised, with the traceback of its process as a note.
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
    """A function that makes one process's iterator over jobs; each job comes in one of them."""
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
    """A process, the jobs that it takes and the one that it is at.

    Args:
        member: The process; another one after its death.
        jobs: What it takes.
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
        """Has another process in place of one that died; what `Member.hear` would have said."""
        if lost is None:
            raise error
        self.deaths += 1
        result = lost(self.job, self.deaths)
        (self.member,) = start(1)
        if result is not None:
            return "done", result
        self.member.give(self.job)
        return "begun", None
