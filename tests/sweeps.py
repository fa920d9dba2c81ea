"""Study files for the tests: cells that take well under a second."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from commands import Result, devsort

from devsort.sweep import Study, read_study
from devsort.sweep import step as step_module
from devsort.sweep.cell import Job, Outcome, run_cell
from devsort.sweep.study import config_text
from runs import TINY

Engine = Callable[[Sequence[Job]], Iterable[Outcome]]


def write_study(folder: Path, **parts: Any) -> Path:
    """folder/study.yaml with the tiny config as its base."""
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({"base": TINY} | parts, sort_keys=False))
    return path


def jobs_of(study: Study, out: Path, force: bool = False) -> list[Job]:
    return [
        Job(out / c.name, config_text(c, study.path), c.identity, c.steps, force)
        for c in study.cells
    ]


def tiny_jobs(folder: Path, **parts: Any) -> list[Job]:
    return jobs_of(read_study(write_study(folder, **parts)), folder / "out")


def here(jobs: Sequence[Job]) -> Iterable[Outcome]:
    """Cells in this process, which saves the imports of the workers."""
    return map(run_cell, jobs)


def sweep_here(*arguments: str | Path, engine: Engine = here) -> Result:
    """`devsort sweep ARGUMENTS` with an engine of ours in the place of the workers."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step_module, "run_local", lambda jobs, *_: engine(jobs))
        return devsort("sweep", *arguments)
