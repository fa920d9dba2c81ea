"""Jobs as tasks of a Ray cluster, with the interface of `jobs.run_jobs`."""

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from devsort.errors import UserError
from devsort.execution.jobs import Together, unheard
from devsort.execution.processes import Advanced, Work

PATIENCE = 5.0  # seconds to wait for an answer at the address
# how an HTTP/2 client begins; its server answers with a frame of settings
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
FRAME, SETTINGS = 9, b"\x04"  # bytes of a frame's head, and its type, the fourth of them
RETRIES = 3  # of a task whose node or process was lost


def ray_jobs(address: str | None = None, gpus: float = 0.0) -> Callable[..., Iterator]:
    """A function that does what `run_jobs` does, on a cluster.

    Args:
        address: Address of the cluster, HOST:PORT or `auto`; None: a cluster on this machine,
            started if there is none.
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
        work: What is done with a job; it is sent to each node once.
        jobs: The jobs; those of one key form one task, since they share what they load.
        count: Not used: the cluster says how many tasks run at once.
        advanced: Called when a task is done, with the amount of its work.
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


def connected(address: str | None, who: str = "engine 'ray'") -> Any:
    """Ray, connected to a cluster.

    Args:
        address: HOST:PORT, or `auto`; None: a cluster on this machine, started if there is none.
        who: Who asks for Ray, for error messages.

    Raises:
        UserError: Ray is not installed, or no cluster answers.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        fix = "run `pip install 'devsort[cluster]'`"
        raise UserError(f"{who} needs Ray, which is not installed", fix) from None
    if address is not None:
        ask(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as e:
        what = f"no Ray cluster answers at {address} ({e})"
        raise UserError(what, "start one with `ray start --head`") from None
    return ray


def ask(address: str) -> None:
    """Checks that a gRPC server, such as Ray's, listens at an address.

    Ray itself would try for a quarter of an hour and print nothing.

    Raises:
        UserError: It is no address, nothing listens there, or something else does.
    """
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise UserError(f"--address {address!r} is not understood", "write HOST:PORT, or auto")
    start = "start one with `ray start --head`, or look at the host and port"
    try:
        with socket.create_connection((host.strip("[]"), int(port)), PATIENCE) as there:
            if os.environ.get("RAY_USE_TLS") == "1":
                return  # it would not answer without a certificate
            there.settimeout(PATIENCE)
            there.sendall(PREFACE)
            found = there.recv(FRAME, socket.MSG_WAITALL)
    except (OSError, UnicodeError) as e:
        what = f"no Ray cluster listens at {address} ({e})"
        raise UserError(what, start) from None
    if found[3:4] != SETTINGS:
        raise UserError(f"what listens at {address} is no Ray cluster", start)


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
