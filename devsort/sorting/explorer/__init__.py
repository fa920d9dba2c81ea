"""The explorer of runs: the page with the sorter's own sections, its network alive in it."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from devsort.explorer.page import refuse_other, write_page
from devsort.sorting.compare import compare_runs
from devsort.sorting.explorer.pack import pack_run
from devsort.sorting.run import Run, short_names

SCRIPTS = ("network.js", "circuits.js", "list.js", "live.js", "matrices.js", "ownership.js")


def explore_runs(runs: Sequence[Run], out: Path) -> dict[str, Any]:
    """Writes the page of runs that have their stages; says what is in it.

    Raises:
        UserError: An artifact is missing or stale, a run is given twice, two geometries, weights
            that half precision cannot hold, or `out` is a file that is no page of ours.
    """
    refuse_other(out)
    comparison = compare_runs(runs) if len(runs) > 1 else None
    names = short_names([run.path for run in runs])
    packed = [pack_run(run, name) for run, name in zip(runs, names, strict=True)]
    write_page(out, packed, comparison, [_web(name) for name in SCRIPTS])
    shown = [
        {"run": str(run.path), "steps": one["frames"], "half_precision": one["sorter"]["rounding"]}
        for run, one in zip(runs, packed, strict=True)
    ]
    return {"file": str(out), "bytes": out.stat().st_size, "runs": shown}


def table(value: dict[str, Any]) -> str:
    """The result for a reader."""
    lines = [
        f"{one['run']}: {len(one['steps'])} checkpoints alive, half precision moves the loss by "
        f"{max(one['half_precision']['loss_change']):.1e} nats at most"
        for one in value["runs"]
    ]
    return "\n".join([*lines, f"written: {value['file']} ({value['bytes'] / 1e6:.1f} MB)"])


def _web(name: str) -> str:
    return files("devsort.sorting.explorer").joinpath("web", name).read_text(encoding="utf-8")
