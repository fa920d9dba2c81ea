"""Cells as tasks of a Ray cluster whose nodes share the file system of the run folders.

A task whose node is lost is started again on another node, and resumes from what is saved. It still
has one outcome, because outcomes belong to tasks, and one row, because rows belong to folders.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from devsort.errors import UserError, one_line
from devsort.execution.cluster import connected
from devsort.sweep.cell import Job, Outcome, run_cell
from devsort.sweep.local import Watch

RETRIES = 3  # restarts of a task whose node or process was lost
POLL = 1.0  # seconds between checks of the cells that are left


def run_cluster(
    jobs: Sequence[Job], address: str, cpus: float, gpus: float, watch: Watch
) -> Iterator[Outcome]:
    """Yields outcomes as cells end.

    Args:
        jobs: The cells.
        address: Address of the cluster: HOST:PORT, or `auto` on one of its machines.
        cpus: Cores that a cell requests.
        gpus: Share of a GPU that a cell requests.
        watch: Called about once a second with the cells that are not done.

    Raises:
        UserError: Ray is not installed or the cluster does not answer.
    """
    ray = connected(address, "--address")
    task = ray.remote(run_task).options(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)
    pending = {task.remote(job, os.getcwd()): job for job in jobs}
    try:
        while pending:
            watch(list(pending.values()))
            done, _ = ray.wait(list(pending), num_returns=min(len(pending), 64), timeout=POLL)
            for reference in done:
                yield _outcome(ray, reference, pending.pop(reference))
    finally:
        for reference in pending:
            ray.cancel(reference, force=True)
        ray.shutdown()


def run_task(job: Job, folder: str) -> Outcome:
    """Runs a cell on a node, in the folder in which the sweep was started."""
    if not Path(folder, job.folder.parent).is_dir():
        node = os.uname().nodename
        what = f"node {node} does not see {Path(folder, job.folder.parent)}"
        return Outcome(
            job.folder.name,
            error=str(UserError(what, "start its Ray where the file system is shared")),
        )
    os.chdir(folder)
    return run_cell(job)


def _outcome(ray: Any, reference: Any, job: Job) -> Outcome:
    try:
        return ray.get(reference)
    except ray.exceptions.RayError as e:
        return Outcome(
            job.folder.name, error=one_line(f"Ray: {type(e).__name__}: {e}")[:300], defect=True
        )
