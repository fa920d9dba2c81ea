"""`devsort trajectory SPEC.py`: computes a trajectory that is defined by a Python file.

The file is the user's own code, and it is run. It defines the arguments of `llc_trajectory`
(`loss`, `checkpoints`, `data`, `config`, `restrictions`, `parts`, `store`, `options`) and, for the
stages and their chart, `signals`, `events`, `stages` (a StagesConfig) and `figure` (the path of the
chart).
"""

import dataclasses
import os
import runpy
import sys
from pathlib import Path
from typing import Any

from devsort.errors import Interrupted, UserError
from devsort.llc.table import rows, text_table
from devsort.networks.stages import find_stages, stage_chart
from devsort.networks.trajectory import Options, llc_trajectory
from devsort.stages.report import table as stages_table

REQUIRED = ("loss", "checkpoints")
SAMPLED = ("data", "config", "restrictions", "parts")
KNOWN = (*REQUIRED, *SAMPLED, "store", "options", "signals", "events", "stages", "figure")


def run_spec(path: Path, force: bool = False) -> dict[str, Any]:
    """Samples the trajectory, finds its stages and draws the chart.

    Args:
        path: The file. Paths in it are relative to its folder.
        force: Whether to sample again what is already in the store.

    Returns:
        spec, store, trajectory (rows like those of `devsort llc`), stages (see docs/stages.md; None
        if there are too few checkpoints), files and notes.

    Raises:
        UserError: If the file is missing, fails, or does not define a loss and checkpoints.
    """
    path = Path(path).resolve()
    names = _names(path)
    before = Path.cwd()
    os.chdir(path.parent)
    try:
        return {"spec": str(path), **_run(path, names, force)}
    finally:
        os.chdir(before)


def table(value: dict[str, Any]) -> str:
    """Formats the result as text."""
    stages = stages_table(value["stages"]) if value["stages"] else "too few checkpoints for stages"
    files = [f"written: {file}" for file in value["files"]]
    return "\n".join([text_table(value), "", stages, *files])


def _run(path: Path, names: dict[str, Any], force: bool) -> dict[str, Any]:
    options = names.get("options") or Options()
    store = path.parent / names.get("store", f"{path.stem}.zarr")
    trajectory = llc_trajectory(
        names["loss"],
        names["checkpoints"],
        **{key: names.get(key) for key in SAMPLED},
        store=store,
        options=dataclasses.replace(options, force=options.force or force),
    )
    signals, notes = names.get("signals") or {}, list(trajectory.attrs["notes"])
    stages, files = None, [str(store)]
    try:
        stages = find_stages(
            trajectory, names.get("stages"), signals=signals, events=names.get("events")
        )
        figure = path.parent / names.get("figure", f"{path.stem}.png")
        series = signals if isinstance(signals, dict) else None
        files += map(str, stage_chart(trajectory, stages, figure, signals=series))
    except UserError as e:
        notes.append(f"no stages: {e}")
    return {
        "store": str(store),
        "trajectory": list(rows(trajectory)),
        "stages": stages,
        "files": files,
        "notes": notes,
    }


def _names(path: Path) -> dict[str, Any]:
    """Runs the file and returns the names that it defines."""
    if not path.is_file():
        fix = "give a Python file that defines loss and checkpoints"
        raise UserError(f"{path} is missing", fix)
    before = Path.cwd()
    os.chdir(path.parent)
    sys.path.insert(0, str(path.parent))
    try:
        names = runpy.run_path(str(path), run_name="devsort_spec")
    except (UserError, Interrupted):
        raise
    except BaseException as e:  # the user's code can raise anything, including SystemExit
        what = f"{path} fails ({type(e).__name__}: {e})"
        raise UserError(what, f"run `python {path.name}` for the traceback") from e
    finally:
        sys.path.remove(str(path.parent))
        os.chdir(before)
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        known = ", ".join(KNOWN)
        raise UserError(f"{path} does not define {' and '.join(missing)}", f"it may define {known}")
    return names
