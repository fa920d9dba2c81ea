"""Jobs as tasks of a Ray cluster, with the face of `jobs.run_jobs`."""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from devsort.errors import UserError
from devsort.execution.jobs import Together, unheard
from devsort.execution.processes import Advanced, Work

RETRIES = 3  # of a task whose node or process was lost


def ray_jobs(address: str | None = None, gpus: float = 0.0) -> Callable[..., Iterator]:
    """A function that does what `run_jobs` does, on a cluster.

    Args:
        address: Of the cluster, HOST:PORT or `auto`; None: one on this machine, started if there is
            none.
        gpus: Share of a GPU that a task asks for.
    """
    return partial(run_ray, address, gpus)


def run_ray(
    address: str | None,
    gpus: float,
    work: Work,
    jobs: Sequence,
    count: int,
    advanced: Advanced = unheard,
    *,
    together: Together | None = None,
) -> Iterator[tuple[Any, Any]]:
    """Yields (job, result) as they finish.

    Args:
        address: See `ray_jobs`.
        gpus: See `ray_jobs`.
        work: What is done; it is sent to each node once.
        jobs: Those of one key are one task, since they share what they load.
        count: Not used: the cluster says how many tasks run at once.
        advanced: Called once a task is done, with all that it did.
        together: Key of a job.

    Raises:
        UserError: Ray is not installed, or no cluster answers.
        Exception: What the work raised.
    """
    ray = connected(address)
    groups: dict[Any, list] = {}
    for i, job in enumerate(jobs):
        groups.setdefault(together(job) if together else i, []).append(job)
    task = ray.remote(_run).options(num_cpus=1, num_gpus=gpus, max_retries=RETRIES)
    try:
        shared = ray.put(work)
        left = [task.remote(shared, group) for group in groups.values()]
        while left:
            (done,), left = ray.wait(left, num_returns=1)
            results, progress = _result(ray, done)
            advanced(progress)
            yield from results
    finally:
        ray.shutdown()


def connected(address: str | None) -> Any:
    """Ray, connected to a cluster.

    Raises:
        UserError: Ray is not installed, or no cluster answers.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        fix = "run `pip install 'devsort[cluster]'`"
        raise UserError("engine 'ray' needs Ray, which is not installed", fix) from None
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as e:
        what = f"no Ray cluster answers at {address} ({e})"
        raise UserError(what, "start one with `ray start --head`") from None
    return ray


def _run(work: Work, group: Sequence) -> tuple[list[tuple[Any, Any]], int]:
    """Does the jobs of a task; their results, and how much was done."""
    done = 0

    def count(amount: int) -> None:
        nonlocal done
        done += amount

    return [(job, work(job, count)) for job in group], done


def _result(ray: Any, reference: Any) -> tuple[list[tuple[Any, Any]], int]:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as e:
        raise e.cause or e from None
