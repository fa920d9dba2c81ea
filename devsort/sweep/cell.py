"""One cell of a sweep: a run folder that is taken through the pipeline, and its record.

The record, cell.json, has the cell's row of the table. It is written last, when all steps are done,
and it names the config that it belongs to. A cell with a record and with its artifacts in place is
finished and is not opened again.
"""

import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devsort import __version__
from devsort.errors import InUse, UserError, one_line
from devsort.sorting.run import Run, open_run
from devsort.storage.artifact import identity
from devsort.storage.files import locked, write_atomic
from devsort.storage.objects import read_json, write_json
from devsort.sweep.row import results
from devsort.sweep.study import Cell

PATIENCE = 60.0  # seconds to wait for a folder that a worker on a lost node may still lock
ARTIFACTS = {
    "train": "resume_state",
    "llc": "llc",
    "heads": "heads",
    "stages": "stages",
    "chart": "figures",
}


@dataclass(frozen=True)
class Job:
    """What a worker needs to know about a cell.

    Attributes:
        folder: Its run folder.
        config: Text of its config.yaml.
        identity: Identity of its config, see `Cell.identity`.
        steps: Steps of the pipeline, in order.
        force: Repeat steps that are done.
    """

    folder: Path
    config: str
    identity: str
    steps: tuple[str, ...]
    force: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a cell ended.

    Attributes:
        name: Name of the cell.
        seconds: Seconds that it took.
        error: One line if it failed, else None.
        defect: Whether the failure is a defect of devsort, not an error that a user can cause.
    """

    name: str
    seconds: float = 0.0
    error: str | None = None
    defect: bool = False


def run_cell(job: Job) -> Outcome:
    """Takes a cell through its steps and writes its record; a failure is returned, not raised."""
    start = time.perf_counter()
    error, defect = None, False
    try:
        _prepare(job)
        with _logged(job.folder):
            _run_steps(job)
    except UserError as e:
        error = str(e)
    # one cell's defect must not stop the others; the traceback is in the cell's log
    except Exception as e:
        error, defect = one_line(f"{type(e).__name__}: {e}"), True
    return Outcome(job.folder.name, time.perf_counter() - start, error, defect)


def finished(cell: Cell, folder: Path) -> dict[str, Any] | None:
    """The record of a cell whose steps are done, or None.

    The artifacts must exist; they are not read.
    """
    try:
        record = read_json(folder / "cell.json", "")
    except UserError:
        return None
    run = Run(folder, cell.config)
    whole = {"identity", "config", "steps", "seconds", "row", "trajectory"} <= record.keys()
    if not whole or record.pop("identity") != identity(record) or record["config"] != cell.identity:
        return None
    present = set(cell.steps) <= set(record["steps"]) and all(
        getattr(run, ARTIFACTS[s]).exists() for s in cell.steps
    )
    return record if present else None


def current_step(folder: Path) -> str | None:
    """The step that a worker is doing in a folder, from the file that it writes."""
    try:
        return (folder / ".step").read_text()
    except OSError:
        return None


def _prepare(job: Job) -> None:
    path = job.folder / "config.yaml"
    if not path.is_file() or path.read_text(encoding="utf-8") != job.config:
        write_atomic(path, job.config.encode())


def _run_steps(job: Job) -> None:
    run, seconds = open_run(job.folder), {}
    _wait_for(job.folder)
    (job.folder / "cell.json").unlink(missing_ok=True)
    try:
        for step in job.steps:
            (job.folder / ".step").write_text(step)
            start = time.perf_counter()
            STEPS[step](run, job.force)
            seconds[step] = round(time.perf_counter() - start, 3)
        row, trajectory = results(run, job.steps)
        record = {
            "devsort": __version__,
            "config": job.identity,
            "steps": list(job.steps),
            "seconds": seconds,
            "row": row,
            "trajectory": trajectory,
        }
        write_json(job.folder / "cell.json", record | {"identity": identity(record)})
    finally:
        (job.folder / ".step").unlink(missing_ok=True)


def _wait_for(folder: Path) -> None:
    """Waits until no process locks the folder.

    If one still does after PATIENCE, the first step raises an error.
    """
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with suppress(InUse), locked(folder):
            return
        time.sleep(0.2)


@contextmanager
def _logged(folder: Path) -> Iterator[None]:
    """Sends progress bars, warnings and a defect's traceback to sweep.log of the cell."""
    with (
        open(folder / "sweep.log", "a", buffering=1, encoding="utf-8") as log,
        redirect_stderr(log),
    ):
        try:
            yield
        except Exception:
            now = time.strftime("%Y-%m-%d %H:%M:%S")
            log.write(f"{now} process {os.getpid()}\n{traceback.format_exc()}")
            raise


def _train(run: Run, force: bool) -> None:
    from devsort.sorting.train import train

    train(run, force)


def _llc(run: Run, force: bool) -> None:
    from devsort.sorting.llc import run_llc

    run_llc(run, force)


def _heads(run: Run, force: bool) -> None:
    from devsort.sorting.heads import run_heads

    run_heads(run, force)


def _stages(run: Run, force: bool) -> None:
    from devsort.sorting.stages import run_stages

    run_stages(run, force)


def _chart(run: Run, _: bool) -> None:
    from devsort.sorting.charts import draw_all

    draw_all(run)


STEPS: dict[str, Callable[[Run, bool], None]] = {
    "train": _train,
    "llc": _llc,
    "heads": _heads,
    "stages": _stages,
    "chart": _chart,
}
