"""The `devsort sweep` command: runs the cells that are left, and writes the tables."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from devsort.execution.device import cores
from devsort.execution.progress import progress
from devsort.storage.files import locked, write_atomic
from devsort.sweep import table
from devsort.sweep.cell import Job, Outcome, current_step, finished
from devsort.sweep.cluster import run_cluster
from devsort.sweep.local import run_local
from devsort.sweep.study import Cell, Study, config_text, read_study

NAMED = 4  # most running cells that the progress line names


@dataclass(frozen=True)
class Engine:
    """Where cells run.

    Attributes:
        workers: Processes on this machine; as many as its cores allow if None; 0: run nothing, and
            only gather the cells that are finished.
        address: Address of a Ray cluster; this machine if None.
        cpus: Cores of a cell.
        gpus: Share of a GPU that a cell requests from a Ray cluster.
    """

    workers: int | None = None
    address: str | None = None
    cpus: int = 1
    gpus: float = 0.0


def run_sweep(
    path: str | os.PathLike,
    out: str | os.PathLike | None = None,
    engine: Engine | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Runs the cells of a study that are left and writes its tables.

    Args:
        path: The study file.
        out: Folder for the run folders; runs/NAME if None.
        engine: Where cells run; on this machine if None.
        force: Repeat finished cells.

    Returns:
        study, out, cells, done, failed, waiting (counts), defects (failures that no user can
        cause), keys (changed by the study), rows (see `table.rows`) and files.

    Raises:
        UserError: The study is invalid, its folder is in use, or the cluster does not answer.
    """
    study, engine = read_study(path), engine or Engine()
    out = Path(out) if out else Path("runs") / study.path.stem
    write_atomic(out / "study.yaml", study.path.read_bytes())
    with locked(out):
        records = {} if force else _finished(study, out)
        jobs = [_job(study, out, cell, force) for cell in study.cells if cell.name not in records]
        outcomes = _run(study, jobs, engine) if engine.workers != 0 else []
        return _gather(study, out, outcomes)


def text_table(value: Mapping[str, Any]) -> str:
    """The result of a sweep as text."""
    counts = f"{value['done']} of {value['cells']} cells done, {value['failed']} failed"
    lines = [table.text(value["rows"], value["keys"]), f"{value['study']}: {counts}"]
    return "\n".join(filter(None, [*lines, *value["files"]]))


def failure(value: Mapping[str, Any]) -> str | None:
    """One line about failed cells; None if there are none."""
    first = next((r for r in value["rows"] if r["error"]), None)
    if first is None:
        return None
    counts = f"{value['failed']} of {value['cells']} cells failed"
    return f"{counts}, the first is {first['cell']}: {first['error']}"


def _finished(study: Study, out: Path) -> dict[str, dict[str, Any]]:
    """Records of the finished cells, by name."""
    records = {cell.name: finished(cell, out / cell.name) for cell in study.cells}
    return {name: record for name, record in records.items() if record}


def _job(study: Study, out: Path, cell: Cell, force: bool) -> Job:
    (out / cell.name / ".step").unlink(missing_ok=True)  # left by a worker that was killed
    return Job(out / cell.name, config_text(cell, study.path), cell.identity, cell.steps, force)


def _run(study: Study, jobs: Sequence[Job], engine: Engine) -> list[Outcome]:
    """Runs the jobs under one progress bar."""
    total = len(study.cells)
    with progress(
        total=total, initial=total - len(jobs), desc=f"sweep {study.path.stem}", unit="cell"
    ) as bar:
        outcomes = []
        for outcome in _engine(jobs, engine, bar):
            outcomes.append(outcome)
            bar.update()
        return outcomes


def _engine(jobs: Sequence[Job], engine: Engine, bar: tqdm) -> Iterator[Outcome]:
    def watch(running: Sequence[Job]) -> None:
        steps = ((job.folder.name, current_step(job.folder)) for job in running)
        entries = [f"{name} ({step})" for name, step in steps if step]
        more = [f"and {len(entries) - NAMED} more"] if len(entries) > NAMED else []
        bar.set_postfix_str(", ".join(entries[:NAMED] + more), refresh=sys.stderr.isatty())

    if engine.address:
        return run_cluster(jobs, engine.address, engine.cpus, engine.gpus, watch)
    workers = engine.workers or max(cores() // engine.cpus, 1)
    return run_local(jobs, min(workers, len(jobs)), engine.cpus, watch)


def _gather(study: Study, out: Path, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Reads all records and writes the tables."""
    records = _finished(study, out)
    absent = f"its node finished it, but nothing is in {out}: the nodes must share the file system"
    errors = {o.name: o.error or absent for o in outcomes if o.error or o.name not in records}
    rows = table.rows(study.cells, records, errors)
    files = table.write(out, "table", rows) + table.write(
        out, "trajectories", table.points(study.cells, records)
    )
    return {
        "study": str(study.path),
        "out": str(out),
        "cells": len(study.cells),
        "done": len(records),
        "failed": len(errors),
        "defects": sum(o.defect for o in outcomes),
        "waiting": len(study.cells) - len(records.keys() | errors.keys()),
        "keys": list(study.cells[0].values),
        "rows": rows,
        "files": [str(p) for p in files],
    }
