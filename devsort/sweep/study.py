"""The study file: a base config, changes for all cells, and grids of changes.

Every cell is one run.

    base: ../runs/baseline        # a run folder or a YAML file, relative to the study file;
                                  # or a mapping of settings
    steps: [train, llc]           # steps of the pipeline; all but chart if left out
    set: {train.steps: 2000}      # changes for every cell, dotted keys as in --set
    grid: {seed: 0..15}           # all combinations of the values of all keys
    groups:                       # each with changes, a grid or steps; if left out, one group
      decay: {}
      no-decay: {set: {train.weight_decay: 0}}

`seed` stands for task.seed, train.seed and llc.sampler.seed together: runs with different seeds
share no random numbers.
"""

import copy
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from devsort.errors import UserError
from devsort.sorting.config import Config, parse_config
from devsort.storage.artifact import identity
from devsort.storage.settings import Section, problems, set_key
from devsort.storage.yaml_files import read_yaml

SEEDS = ("task.seed", "train.seed", "llc.sampler.seed")  # what the key `seed` stands for
MOST_CELLS = 100_000  # of a study; more are taken for a mistake
SECTIONS = ("task", "model", "train", "llc", "heads", "stages")  # sections that define a run
LONGEST_NAME = 120  # characters of a cell's name, which is also the name of its folder
StepName = Literal["train", "llc", "heads", "stages", "chart"]
Values = list[Any] | str


class Group(Section):
    """Cells that differ from the others in the same way."""

    set: dict[str, Any] = Field({}, description="changes for every cell of the group")
    grid: dict[str, Values] = Field({}, description="key → values, or FROM..TO for whole numbers")
    steps: tuple[StepName, ...] | None = Field(
        None, description="steps of the pipeline, if they differ from the study's"
    )


class StudyFile(Section):
    """The contents of a study file."""

    base: str | dict[str, Any] = Field(
        {}, description="run folder, YAML file or settings from which all cells start"
    )
    steps: tuple[StepName, ...] = Field(
        ("train", "llc", "heads", "stages"), description="steps of the pipeline"
    )
    set: dict[str, Any] = Field({}, description="changes for every cell")
    grid: dict[str, Values] = Field({}, description="grid of every group")
    groups: dict[str, Group | None] = Field({}, description="name → changes and grid")


@dataclass(frozen=True)
class Cell:
    """One run of a study.

    Attributes:
        name: Name of the cell and of its folder.
        group: Its group; empty if the study has none.
        steps: Steps of the pipeline, in order.
        values: The value of each key that the study changes.
        settings: Contents of its config.yaml.
        config: The same with defaults filled in.
    """

    name: str
    group: str
    steps: tuple[str, ...]
    values: dict[str, Any]
    settings: dict[str, Any]
    config: Config

    @property
    def identity(self) -> str:
        """Identity of everything that defines the run."""
        settings = self.config.model_dump(mode="json")
        return identity({section: settings[section] for section in SECTIONS})


@dataclass(frozen=True)
class Study:
    """A study, as read from its file.

    Attributes:
        path: The file.
        cells: The cells, in the order of the file.
    """

    path: Path
    cells: tuple[Cell, ...]


def read_study(path: str | os.PathLike) -> Study:
    """Reads a study file and makes its cells.

    Raises:
        UserError: The file or its base cannot be read, a setting is refused, or two cells have the
            same name or the same config.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist", "give a study file, such as studies/small.yaml")
    try:
        file = StudyFile.model_validate(read_yaml(path))
    except ValidationError as e:
        raise UserError(
            f"{path}: {problems(e)}", "see docs/sweeps.md for the form of a study"
        ) from None
    base = (
        file.base if isinstance(file.base, dict) else read_yaml(_base_path(path.parent / file.base))
    )
    plans = list(_plans(file, path))
    keys = list(dict.fromkeys(key for _, changes, _ in plans for key in changes))
    names = [_name(group, grid) for group, _, grid in plans]
    cells = tuple(
        _cell(path, name, group, _steps(file, group), base, file.set | changes, keys)
        for name, (group, changes, _) in zip(names, plans, strict=True)
    )
    _refuse_twins(path, cells)
    return Study(path, cells)


def _steps(file: StudyFile, group: str) -> tuple[str, ...]:
    """The steps of a group, in the order of the pipeline."""
    own = file.groups.get(group)
    chosen = file.steps if own is None or own.steps is None else own.steps
    return tuple(step for step in StepName.__args__ if step in chosen)


def _base_path(path: Path) -> Path:
    return path / "config.yaml" if path.is_dir() else path


def _plans(file: StudyFile, path: Path) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """For each cell its group, all of its changes, and those of the grid alone."""
    grids, count = {}, 0
    for name, group in (file.groups or {"": Group()}).items():
        if name and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}", name):
            raise UserError(
                f"{path}: {name!r} cannot name a group",
                "use letters, digits, dots, dashes, at most 60",
            )
        grid = file.grid | (group.grid if group else {})
        grids[name] = {key: _values(values, f"{path}: grid: {key}") for key, values in grid.items()}
        size = 1
        for values in grids[name].values():
            size *= len(values)
        count += size
    if count > MOST_CELLS:
        raise UserError(
            f"{path} asks for {count:,} cells, at most {MOST_CELLS:,} are allowed",
            "make its grids smaller",
        )
    for name, grid in grids.items():
        group = file.groups.get(name)
        changes = group.set if group else {}
        for point in product(*grid.values()):
            chosen = dict(zip(grid, point, strict=True))
            yield name, changes | chosen, chosen


def _values(values: Values, where: str) -> list[Any] | range:
    if isinstance(values, list) and values:
        return values
    match = re.fullmatch(r"(\d{1,9})\.\.(\d{1,9})", values) if isinstance(values, str) else None
    if not match or int(match[1]) > int(match[2]):
        raise UserError(
            f"{where} has no values (got {str(values)[:60]!r})",
            "write a list, or FROM..TO such as 0..15",
        )
    return range(int(match[1]), int(match[2]) + 1)


def _cell(
    path: Path,
    name: str,
    group: str,
    steps: tuple[str, ...],
    base: Mapping,
    changes: Mapping[str, Any],
    keys: list[str],
) -> Cell:
    settings, where = copy.deepcopy(dict(base)), f"{path}: cell {name}"
    for key, value in changes.items():
        for full in SEEDS if key == "seed" else (key,):
            set_key(settings, full, value, f"{where}: {key}")
    config = parse_config(settings, where)
    return Cell(name, group, steps, {key: _value(config, key) for key in keys}, settings, config)


def _value(config: Config, key: str) -> Any:
    value: Any = config
    for part in (SEEDS[0] if key == "seed" else key).split("."):
        value = getattr(value, part)
    return value.model_dump(mode="json") if isinstance(value, Section) else value


def _name(group: str, grid: Mapping[str, Any]) -> str:
    """Group and values, for example no-decay-seed3.

    Keys are written in full if their last parts are not unique.
    """
    last = [key.rpartition(".")[2] for key in grid]
    labels = last if len(set(last)) == len(last) else list(grid)
    parts = [f"{label}{_plain(value)}" for label, value in zip(labels, grid.values(), strict=True)]
    name = "-".join(filter(None, [group, *parts])) or "run"
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 17]}-{identity(name)}"


def _plain(value: Any) -> str:
    """A value as a part of a folder's name."""
    if isinstance(value, bool) or value is None:
        return {True: "-true", False: "-false", None: "-null"}[value]
    text = re.sub(r"[^A-Za-z0-9.]+", "_", f"{value:g}" if isinstance(value, float) else str(value))
    return text if isinstance(value, int | float) else f"-{text}"


def _refuse_twins(path: Path, cells: tuple[Cell, ...]) -> None:
    for what, key in (("name", lambda c: c.name), ("config", lambda c: c.identity)):
        first: dict[str, str] = {}
        for cell in cells:
            if twin := first.get(key(cell)):
                raise UserError(
                    f"{path}: cells {twin} and {cell.name} have the same {what}",
                    "drop or change one of them",
                )
            first[key(cell)] = cell.name


def config_text(cell: Cell, study: Path) -> str:
    """The config.yaml of a cell."""
    origin = f"# Cell {cell.name} of {study.name}, written by `devsort sweep`"
    head = f"{origin}: change the study, not this file.\n"
    return head + yaml.safe_dump(cell.settings, sort_keys=False)
