"""Cells as tasks of a Ray cluster whose nodes share the file system of the run folders.

A task whose node is lost is begun again on another and goes on from what is saved. Its outcome
counts once, since it is the task's, and its row once, since it is the folder's.
"""

import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from devsort.errors import UserError, one_line
from devsort.sweep.cell import Job, Outcome, run_cell
from devsort.sweep.local import Watch

PATIENCE = 5.0  # seconds to wait for an answer at the address
# how a client of HTTP/2 begins, and what its server answers with: a frame of settings
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
FRAME, SETTINGS = 9, b"\x04"  # bytes of a frame's head, and its type, the fourth of them
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
    ray = _connected(address)
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


def _connected(address: str) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise UserError(
            "--address needs Ray, which is not installed", "run `pip install 'devsort[cluster]'`"
        ) from None
    ask(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as e:
        raise UserError(
            f"no Ray cluster answers at {address} ({e})", "start one with `ray start --head`"
        ) from None
    return ray


def ask(address: str) -> None:
    """Asks the port of an address whether a server of gRPC, as Ray's, listens there.

    Ray itself would try for a quarter of an hour, without a word.

    Raises:
        UserError: The address is none, nobody listens, or something else does.
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
                return  # it speaks to no stranger
            there.settimeout(PATIENCE)
            there.sendall(PREFACE)
            found = there.recv(FRAME, socket.MSG_WAITALL)
    except (OSError, UnicodeError) as e:
        what = f"no Ray cluster listens at {address} ({e})"
        raise UserError(what, start) from None
    if found[3:4] != SETTINGS:
        raise UserError(f"what listens at {address} is no Ray cluster", start)


def _outcome(ray: Any, reference: Any, job: Job) -> Outcome:
    try:
        return ray.get(reference)
    except ray.exceptions.RayError as e:
        return Outcome(
            job.folder.name, error=one_line(f"Ray: {type(e).__name__}: {e}")[:300], defect=True
        )
