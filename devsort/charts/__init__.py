"""Charts: figures from arrays, in one style; nothing is computed here that is not drawn."""

import os
import sys
from contextlib import suppress


def _import_matplotlib() -> None:
    """Imports matplotlib also where MPLBACKEND names a backend that is not installed.

    Jupyter names its own to all child processes, and matplotlib fails on what it cannot find.
    """
    if "matplotlib" in sys.modules or not os.environ.get("MPLBACKEND"):
        return
    backend = os.environ.pop("MPLBACKEND")
    try:
        import matplotlib
    finally:
        os.environ["MPLBACKEND"] = backend
    with suppress(ValueError):
        matplotlib.rcParams["backend"] = backend


_import_matplotlib()
