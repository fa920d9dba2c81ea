"""Cells on this machine: one process a worker, each with its share of the cores.

A worker is a pool of one process, so that a process that dies takes one cell with it, which is then known and done
again. Workers end when their pipe to the sweep closes, also when the sweep itself is killed.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from multiprocessing.connection import Connection

from tqdm import tqdm

from devsort.processes import environment, uninterrupted
from devsort.sweep.cell import Job, Outcome, run_cell

RETRIES = 1  # of a cell whose process died
POLL = 1.0  # seconds between looks at the cells in flight
Watch = Callable[[Sequence[Job]], None]


def run_local(jobs: Sequence[Job], workers: int, cores: int, watch: Watch) -> Iterator[Outcome]:
    """Yields outcomes as cells end.

    Args:
        jobs: The cells, begun in this order.
        workers: Processes.
        cores: Of each.
        watch: Called about once a second with the cells in flight.
    """
    context = get_context("spawn")
    listener, alive = context.Pipe(duplex=False)
    pools: dict[Future, tuple[ProcessPoolExecutor, Job, int]] = {}

    def start(pool: ProcessPoolExecutor | None, job: Job, attempt: int = 0) -> None:
        pool = pool or ProcessPoolExecutor(1, context, _start, (listener,))
        with uninterrupted():
            pools[pool.submit(run_cell, job)] = (pool, job, attempt)

    left = iter(jobs)
    try:
        with environment(OMP_NUM_THREADS=str(cores)):
            for _, job in zip(range(workers), left):  # noqa: B905  the shorter ends it
                start(None, job)
            while pools:
                watch([job for _, job, _ in pools.values()])
                for future in wait(pools, timeout=POLL, return_when=FIRST_COMPLETED).done:
                    pool, job, attempt = pools.pop(future)
                    outcome = _outcome(future, job)
                    if outcome is None and attempt < RETRIES:
                        start(None, job, attempt + 1)
                        continue
                    yield outcome or Outcome(job.folder.name, error=_died(job, attempt), defect=True)
                    if following := next(left, None):
                        start(pool if outcome else None, following)
                    else:
                        pool.shutdown()
    finally:
        alive.close()
        for pool, _, _ in pools.values():
            pool.shutdown(cancel_futures=True)


def _outcome(future: Future, job: Job) -> Outcome | None:
    """What a worker came to; None if its process died."""
    try:
        return future.result()
    except BrokenProcessPool:
        return None


def _died(job: Job, attempt: int) -> str:
    return f"its process died {attempt + 1} times, for want of memory or by a signal; {job.folder}/sweep.log may tell"


def _start(alive: Connection) -> None:
    tqdm.set_lock(threading.RLock())  # tqdm's own is a semaphore of the system's, which a killed process leaves behind
    threading.Thread(target=_end_with_the_sweep, args=(alive,), daemon=True).start()


def _end_with_the_sweep(alive: Connection) -> None:
    """Waits for the pipe to close. Ending at once is safe: what a step has not finished writing does not count."""
    try:
        alive.poll(None)
    finally:
        os._exit(1)
