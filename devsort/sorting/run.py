"""A run folder: its config, its files, and its artifacts, each verified once."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devsort.errors import UserError
from devsort.sorting.config import Config, default_config, load_config
from devsort.storage.artifact import Artifact, Origin
from devsort.storage.files import (
    locked,
    refuse_links,
    remove,
    remove_leftovers,
    write_atomic,
    writing,
)
from devsort.storage.reference import reference


@dataclass(frozen=True)
class Run:
    """A run folder and its resolved config.

    It keeps every artifact that it has read, so none is verified twice.
    """

    path: Path
    config: Config
    _opened: dict[str, tuple[Any, str]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    # the artifacts, under their names in `artifacts`
    checkpoints = property(lambda self: self.path / "checkpoints")
    llc = property(lambda self: self.path / "llc.zarr")
    llc_devinterp = property(lambda self: self.path / "llc-devinterp.zarr")
    heads = property(lambda self: self.path / "heads.zarr")
    stages = property(lambda self: self.path / "stages.json")
    calibration = property(lambda self: self.path / "calibration.json")
    susceptibility = property(lambda self: self.path / "susceptibility.zarr")
    # other files
    training_log = property(lambda self: self.path / "training.jsonl")
    resume_state = property(lambda self: self.path / "checkpoints" / "resume.safetensors")
    figures = property(lambda self: self.path / "figures")

    def __reduce__(self) -> tuple:
        """Pickles without artifacts: another process opens its own."""
        return Run, (self.path, self.config)

    def checkpoint(self, step: int) -> Path:
        """The file of one saved step."""
        return self.checkpoints / f"step-{step:09d}.safetensors"

    def steps(self) -> list[int]:
        """Saved steps in order; none if nothing was trained."""
        files = self.checkpoints.glob("step-*.safetensors")
        numbers = [path.stem.removeprefix("step-") for path in files]
        return sorted(int(n) for n in numbers if n.isdecimal() and len(n) >= 9)

    def file(self, artifact: Artifact) -> Path:
        """The path of an artifact."""
        return getattr(self, artifact.name)

    def parts(self, artifact: Artifact) -> Path:
        """The folder that holds the finished pieces of an artifact until it is complete."""
        return self.path / f"{artifact.name}.parts"

    def origin(self, artifact: Artifact) -> Origin:
        """What an artifact would be made from now; verifies its inputs."""
        return Origin(
            command=f"devsort {artifact.command} {self.path}",
            resolved=self.resolved(*artifact.sections),
            inputs=artifact.inputs(self),
            format=artifact.format,
            force=artifact.force,
        )

    def resolved(self, *sections: str) -> str:
        """Config sections as JSON, with defaults filled in."""
        full = self.config.model_dump(mode="json")
        return json.dumps({section: full[section] for section in sections})

    def read(self, artifact: Artifact) -> Any:
        """The value of an artifact, verified when it is first asked for.

        Raises:
            UserError: The artifact or one of its inputs is missing or damaged; names the command
                that makes it.
            Stale: It was made from another config or from other inputs.
        """
        return self._verified(artifact)[0]

    def checksum(self, artifact: Artifact) -> str:
        """The checksum of an artifact, verified when it is first read."""
        return self._verified(artifact)[1]

    def forget(self, artifact: Artifact) -> None:
        """Drops an artifact that was just written, so that the next read verifies it again."""
        self._opened.pop(artifact.name, None)

    def is_current(self, artifact: Artifact) -> bool:
        """Whether an artifact exists, is intact, and was made from the run as it is now.

        An error is raised if its inputs are not current.
        """
        if not self.file(artifact).exists():
            return False
        self.origin(artifact)
        try:
            self.read(artifact)
        except UserError:
            return False
        return True

    def update(
        self,
        artifact: Artifact,
        make: Callable[["Run"], Any],
        write: Callable[[Path, Any, Origin], None],
        force: bool = False,
    ) -> Any:
        """The value of an artifact; makes and writes it first if it is not up to date.

        Args:
            artifact: What to make.
            make: Computes its value from the run; it may save finished work in `parts`.
            write: Writes the value with its origin.
            force: Make it again, from the start, even if it is up to date.

        Raises:
            InUse: Another process holds the folder.
            UserError: See `read`, or raised by `make`.
        """
        with self.lock():
            if force:
                remove(self.parts(artifact))
            if force or not self.is_current(artifact):
                write(self.file(artifact), make(self), self.origin(artifact))
                self.forget(artifact)
            remove(self.parts(artifact))
        return self.read(artifact)

    def _verified(self, artifact: Artifact) -> tuple[Any, str]:
        if artifact.name not in self._opened:
            self._opened[artifact.name] = artifact.read(self, self.origin(artifact))
        return self._opened[artifact.name]

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Locks the folder for one writer, see `locked`; removes leftovers of killed writers."""
        with locked(self.path):
            with writing(self.path):
                remove_leftovers(self.path)
            yield


def init_run(
    path: str | os.PathLike, like: str | os.PathLike | None = None, overrides: tuple[str, ...] = ()
) -> Run:
    """Makes a run folder with a config.yaml that lists every setting.

    Args:
        path: The folder, new or empty.
        like: A run folder whose settings are copied; None: the defaults.
        overrides: `key=value` settings that replace them.

    Raises:
        UserError: The folder is not empty, or a setting is refused.
    """
    path = Path(path)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UserError(f"{path} already exists", "choose a new name")
    config = open_run(like, overrides).config if like else default_config(overrides)
    write_atomic(path / "config.yaml", f"{reference(config)}\n".encode())
    return open_run(path)


def open_run(path: str | os.PathLike, overrides: tuple[str, ...] = ()) -> Run:
    """Opens a run folder by its path.

    Raises:
        UserError: There is no such folder, it contains a link or a device, or its config.yaml is
            missing or invalid.
    """
    path = Path(path)
    # unlike Path.is_dir, false if the name is too long or a parent folder cannot be read
    if not os.path.isdir(path):
        fix = f"give a run folder, or make one with `devsort init {path}`"
        raise UserError(f"{path} is not a folder", fix)
    refuse_links(path)
    return Run(path, load_config(path / "config.yaml", tuple(overrides)))


def short_names(paths: Sequence[Path]) -> list[str]:
    """Folder names, or whole paths where two folders share a name."""
    names = [p.resolve().name for p in paths]
    return names if len(set(names)) == len(names) else [str(p) for p in paths]
