"""What suppressing heads do in the trained networks of a sweep, as `devsort heads` measured it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from devsort.sorting.artifacts import HEADS
from devsort.sorting.heads.step import stored_suppressors
from devsort.sorting.run import open_run


def ablations(folders: list[Path]) -> Iterator[dict[str, Any]]:
    """One row per run and condition, for the head that suppresses most; no row without such a head.

    Returns:
        cell, head, copier, share and ratio (see `heads.suppressors`), condition, and what the
        condition changes: loss and entropy (nats), accuracy, confidence, calibration_error.

    Raises:
        UserError: A run has no heads.zarr.
    """
    for folder in folders:
        suppressors = stored_suppressors(open_run(folder).read(HEADS))
        if not suppressors:
            continue
        most = max(suppressors, key=lambda row: row["share"])
        columns = {key: most[key] for key in ("head", "copier", "share", "ratio")}
        for condition, change in most["changes"].items():
            yield {"cell": folder.name, **columns, "condition": condition, **change}
