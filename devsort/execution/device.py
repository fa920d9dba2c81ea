"""The device, the number of cores, and the number of torch's threads.

Torch is imported inside the functions, because that takes seconds.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from devsort.errors import UserError

if TYPE_CHECKING:
    import torch


def resolve_device(name: str) -> "torch.device":
    """The device for a name: `cpu`, `cuda`, or `auto`, which takes the GPU if there is one.

    Raises:
        UserError: The name is `cuda`, and there is no GPU.
    """
    import torch

    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        fix = "use --set device=auto"
        raise UserError("device: cuda is asked for, but torch sees no GPU", fix)
    return torch.device("cuda" if there and name != "cpu" else "cpu")


def cores() -> int:
    """Number of cores that this process may use.

    The cores it is bound to, but at most OMP_NUM_THREADS if that is set.
    """
    if hasattr(os, "sched_getaffinity"):
        bound = len(os.sched_getaffinity(0))
    else:  # macOS
        bound = os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(bound, max(int(asked), 1)) if asked.isdecimal() else bound


@contextmanager
def torch_threads(count: int, flush_denormal: bool = True) -> Iterator[None]:
    """Sets the number of torch's threads within the block.

    Weight decay drives a fifth of the weights into denormal floats, on which a CPU takes up to
    four times as long. Therefore they are flushed to zero in this thread.

    Args:
        count: Number of threads for one operation.
        flush_denormal: Whether denormal floats are flushed to zero.
    """
    import torch

    threads, flushed = torch.get_num_threads(), _flushes_denormal()
    torch.set_num_threads(count)
    torch.set_flush_denormal(flush_denormal)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(flushed)


def one_core() -> AbstractContextManager[None]:
    """One thread for torch, with denormal floats flushed; see `torch_threads`."""
    return torch_threads(1)


def _flushes_denormal() -> bool:
    """Torch has no getter; the setting is the processor's, so Python's floats show it too."""
    return sys.float_info.min / 2 == 0
