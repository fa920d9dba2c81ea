"""Cells as tasks of a Ray cluster whose nodes share the file system of the run folders.

A task whose node is lost is begun again on another and goes on from what is saved. Its outcome
counts once, since it is the task's, and its row once, since it is the folder's.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from devsort.errors import UserError, one_line
from devsort.execution.cluster import connected
from devsort.sweep.cell import Job, Outcome, run_cell
from devsort.sweep.local import Watch

RETRIES = 3  # of a task whose node or process was lost
POLL = 1.0  # seconds between looks at the cells that are left


def run_cluster(
    jobs: Sequence[Job], address: str, cpus: float, gpus: float, watch: Watch
) -> Iterator[Outcome]:
    """Yields outcomes as cells end.

    Args:
        jobs: The cells.
        address: Of the cluster: HOST:PORT, or `auto` on one of its machines.
        cpus: Cores that a cell asks for.
        gpus: Share of a GPU that a cell asks for.
        watch: Called about once a second with the cells that are not done.

    Raises:
        UserError: Ray is not installed or the cluster does not answer.
    """
    ray = connected(address, "--address")
    task = ray.remote(run_task).options(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)
    left = {task.remote(job, os.getcwd()): job for job in jobs}
    try:
        while left:
            watch(list(left.values()))
            done, _ = ray.wait(list(left), num_returns=min(len(left), 64), timeout=POLL)
            for reference in done:
                yield _outcome(ray, reference, left.pop(reference))
    finally:
        for reference in left:
            ray.cancel(reference, force=True)
        ray.shutdown()


def run_task(job: Job, folder: str) -> Outcome:
    """Runs a cell on a node, from the folder that the sweep was started in."""
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
