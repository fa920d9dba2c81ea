"""Threads that each compute on their own core, instead of torch's threads that share every small operation."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch


def cores() -> int:
    """Cores that this process may use: those that it is bound to, and at most OMP_NUM_THREADS where that is set."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # macOS has none
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(bound, max(int(asked), 1)) if asked.isdecimal() else bound


@contextmanager
def workers(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads of which each runs torch on one core and flushes denormal floats; torch's own setting is restored."""
    before = torch.get_num_threads()
    if count > 1:
        torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(count, initializer=_start, initargs=(count,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)


@contextmanager
def one_core() -> Iterator[None]:
    """Torch computes on one core and flushes denormal floats; its own settings are restored."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.set_flush_denormal(False)


def _start(count: int) -> None:
    if count > 1:
        torch.set_num_threads(1)
    torch.set_flush_denormal(True)
