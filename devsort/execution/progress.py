"""Progress on standard error; standard output belongs to results."""

import sys
import threading
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

# tqdm's own lock is a semaphore of the system's, which a killed process would leave behind
tqdm.set_lock(threading.RLock())


def progress(iterable: Iterable | None = None, **options: Any) -> tqdm:
    """A tqdm bar with rate and time left; without a terminal it prints only every 15 seconds."""
    interval = 0.2 if sys.stderr.isatty() else 15
    return tqdm(iterable, file=sys.stderr, mininterval=interval, dynamic_ncols=True, **options)
