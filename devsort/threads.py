"""How many cores there are, and torch on one of them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def cores() -> int:
    """Cores that this process may use: those that it is bound to, and at most OMP_NUM_THREADS where that is set."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # macOS has none
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(bound, max(int(asked), 1)) if asked.isdecimal() else bound


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
