"""Cells on this machine: one process per worker, each with its share of the cores."""

from collections.abc import Callable, Iterator, Sequence

from devsort.execution import Advanced, run_jobs
from devsort.sweep.cell import Job, Outcome, run_cell

RETRIES = 1  # restarts of a cell whose process died
Watch = Callable[[Sequence[Job]], None]


def run_local(jobs: Sequence[Job], workers: int, cores: int, watch: Watch) -> Iterator[Outcome]:
    """Yields outcomes as cells end.

    Args:
        jobs: The cells, started in this order.
        workers: Number of processes.
        cores: Cores of each process.
        watch: Called about once a second with the cells that are running.
    """
    for _, outcome in run_jobs(_run, jobs, workers, lost=_lost, watch=watch, cores=cores):
        yield outcome


def _run(job: Job, _: Advanced) -> Outcome:
    return run_cell(job)


def _lost(job: Job, deaths: int) -> Outcome | None:
    """Restarts a cell whose process died (None), so that it resumes, or says that it failed."""
    if deaths <= RETRIES:
        return None
    what = f"its process died {deaths} times, for lack of memory or by a signal"
    fix = f"{job.folder}/sweep.log may say why"
    return Outcome(job.folder.name, error=f"{what}; {fix}", defect=True)
