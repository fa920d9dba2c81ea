"""Progress on standard error; standard output belongs to results."""

import sys
from collections.abc import Iterable

from tqdm import tqdm


def progress(iterable: Iterable | None = None, **options) -> tqdm:
    """A tqdm bar with rate and time left; silent where nobody watches, unless the work is long."""
    watched = sys.stderr.isatty()
    return tqdm(iterable, file=sys.stderr, mininterval=0.2 if watched else 15, dynamic_ncols=True, **options)
