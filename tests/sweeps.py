"""Study files for the tests: cells that take well under a second."""

from pathlib import Path
from typing import Any

import yaml
from conftest import TINY

from devsort.sweep import Study, read_study
from devsort.sweep.cell import Job
from devsort.sweep.study import config_text


def write_study(folder: Path, **parts: Any) -> Path:
    """folder/study.yaml with the tiny config as its base."""
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({"base": TINY} | parts, sort_keys=False))
    return path


def jobs_of(study: Study, out: Path, force: bool = False) -> list[Job]:
    return [Job(out / c.name, config_text(c, study.path), c.identity, study.steps, force) for c in study.cells]


def tiny_jobs(folder: Path, **parts: Any) -> list[Job]:
    return jobs_of(read_study(write_study(folder, **parts)), folder / "out")
