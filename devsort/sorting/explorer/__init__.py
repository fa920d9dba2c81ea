"""The explorer of runs: the page with the sorter's own sections, where its networks run live."""

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
    """Writes the page for runs whose stages are known; returns what is in it.

    Raises:
        UserError: An artifact is missing or stale, a run is given twice, the runs have different
            geometries, half precision cannot hold the weights, or `out` is a file that is not an
            explorer page.
    """
    refuse_other(out)
    comparison = compare_runs(runs) if len(runs) > 1 else None
    names = short_names([run.path for run in runs])
    packed = [pack_run(run, name) for run, name in zip(runs, names, strict=True)]
    write_page(out, packed, comparison, [_web(name) for name in SCRIPTS])
    contents = [
        {"run": str(run.path), "steps": one["frames"], "half_precision": one["sorter"]["rounding"]}
        for run, one in zip(runs, packed, strict=True)
    ]
    return {"file": str(out), "bytes": out.stat().st_size, "runs": contents}


def table(value: dict[str, Any]) -> str:
    """The result as text."""
    lines = [
        f"{one['run']}: {len(one['steps'])} live networks, half precision changes the loss by "
        f"at most {max(one['half_precision']['loss_change']):.1e} nats"
        for one in value["runs"]
    ]
    return "\n".join([*lines, f"written: {value['file']} ({value['bytes'] / 1e6:.1f} MB)"])


def _web(name: str) -> str:
    return files("devsort.sorting.explorer").joinpath("web", name).read_text(encoding="utf-8")
