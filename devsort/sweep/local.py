"""Cells on this machine: a process a worker, each with its share of the cores."""

from collections.abc import Callable, Iterator, Sequence

from devsort.execution import Advanced, run_jobs
from devsort.sweep.cell import Job, Outcome, run_cell

RETRIES = 1  # of a cell whose process died
Watch = Callable[[Sequence[Job]], None]


def run_local(jobs: Sequence[Job], workers: int, cores: int, watch: Watch) -> Iterator[Outcome]:
    """Yields outcomes as cells end.

    Args:
        jobs: The cells, begun in this order.
        workers: Processes.
        cores: Of each.
        watch: Called about once a second with the cells in flight.
    """
    for _, outcome in run_jobs(_run, jobs, workers, lost=_lost, watch=watch, cores=cores):
        yield outcome


def _run(job: Job, _: Advanced) -> Outcome:
    return run_cell(job)


def _lost(job: Job, deaths: int) -> Outcome | None:
    """A cell whose process died is begun again, and goes on from what is saved."""
    if deaths <= RETRIES:
        return None
    what = f"its process died {deaths} times, for want of memory or by a signal"
    return Outcome(job.folder.name, error=f"{what}; {job.folder}/sweep.log may tell", defect=True)
