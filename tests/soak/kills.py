"""Kills and interruptions at random moments.

What is there at the end is bitwise that of the run never stopped.

A trial copies the inputs of a command into a new folder, starts the command as a process of its
own, stops it one to three times at moments that are uniform over the time it takes when nobody
stops it, and lets it come to its end.
"""

import os
import re
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from pkgutil import resolve_name
from unittest.mock import patch

import numpy as np
import zarr
from commands import Process, last_line, wait_until
from soak.report import Row

from devsort.errors import UserError
from devsort.execution import Member
from devsort.llc.store import Store
from devsort.llc.trajectory import Job
from devsort.rng import stream
from devsort.sorting import samplers, train
from devsort.sorting.artifacts import HEADS
from devsort.sorting.checkpoints import checkpoint_steps, load_resume_step
from devsort.sorting.heads import step as heads
from devsort.sorting.llc import restrictions
from devsort.sorting.run import Run, open_run
from devsort.storage.files import LEFTOVERS
from runs import Smoke

INPUTS = {
    "train": ("config.yaml",),
    "llc": ("checkpoints", "training.jsonl"),
    "heads": ("checkpoints", "training.jsonl"),
    "stages": ("checkpoints", "training.jsonl", "llc.zarr", "heads.zarr"),
}
# as they work where there is more to do
SPREAD = {f"{command} by processes": command for command in ("train", "llc", "heads")}
STOPPED = INPUTS | {name: INPUTS[command] for name, command in SPREAD.items()}
STAGES = "stages.json"
MOST = 2  # processes that share the work
ANSWERS = 0.02  # seconds after which a process that has begun has its handlers of signals
CODES = {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}
SAID = re.compile(
    r"devsort: (interrupted|terminated); .* (is|are) .*saved, the same command goes on from there"
)


@dataclass
class Trials:
    """The trials of one signal on all commands.

    Args:
        smoke: The run never stopped.
        with_signal: SIGKILL, SIGINT or SIGTERM.
        patience: Seconds within which an interruption must end the process.
    """

    smoke: Smoke
    with_signal: signal.Signals
    patience: float = 2.0
    slowest: float = 0.0
    inside_writes: int = 0
    durations: dict[str, float] = field(default_factory=dict)

    def run(self, count: int, seed: int = 0) -> list[Row]:
        """One row for each command; `count` is how often processes are stopped in all."""
        rows = [Row(f"{self.with_signal.name} during {command}") for command in STOPPED]
        for row, command, share in zip(
            rows, STOPPED, np.array_split(range(count), len(rows)), strict=True
        ):
            self.inside_writes = 0
            trial = 0
            while row.tried < len(share):
                rng = stream(seed, f"soak {self.with_signal.name} {command}", trial)
                self.trial(command, rng, row, len(share) - row.tried)
                trial += 1
            killed = self.with_signal is signal.SIGKILL
            row.note = (
                f"{self.inside_writes} with a file half-written"
                if killed
                else f"slowest {self.slowest:.2f} s"
            )
        return rows

    def trial(self, command: str, rng: np.random.Generator, row: Row, at_most: int) -> None:
        """Stops a command up to three times and lets it end; counts each stop in the row."""
        if command not in self.durations:
            self.durations[command] = self._duration(command)
        with self._folder(command) as folder:
            problem, stops = None, 0
            for _ in range(min(int(rng.integers(1, 4)), at_most)):
                code, found = self._stopped(
                    command, folder, rng.uniform(ANSWERS, self.durations[command])
                )
                if code == 0:  # it was done before its time
                    break
                problem, stops = problem or found, stops + 1
            if stops:
                problem = problem or self._ends_as_never_stopped(command, folder)
                row.count(problem)
                for _ in range(stops - 1):
                    row.count(None)

    def _stopped(self, command: str, folder: Path, delay: float) -> tuple[int, str | None]:
        """Exit code, and what is wrong with how the process ended or with what it did again."""
        before = saved_units(command, folder)
        with counted(command, folder) as units:
            process = started(command, folder)
            time.sleep(delay)
            os.kill(process.pid, self.with_signal)
            sent = time.monotonic()
            code = process.wait()
        if code == 0:
            return code, None
        took = time.monotonic() - sent
        self.slowest = max(self.slowest, took)
        self.inside_writes += bool(leftovers(folder, LEFTOVERS))
        wrong = self._wrong_end(code, took, process.log.read_text())
        return code, wrong or wasted(command, folder, before, units())

    def _wrong_end(self, code: int, took: float, log: str) -> str | None:
        if code != CODES[self.with_signal]:
            return f"exit code {code}: {last_line(log)[-300:]}"
        if self.with_signal is signal.SIGKILL:
            return None
        if not SAID.fullmatch(last_line(log)) or "Traceback" in log:
            return f"it said {last_line(log)!r}"
        return f"it went on for {took:.2f} s" if took > self.patience else None

    def _ends_as_never_stopped(self, command: str, folder: Path) -> str | None:
        before = saved_units(command, folder)
        with counted(command, folder) as units:
            process = started(command, folder)
            code = process.wait()
        if code:
            return f"{command} did not go on: {last_line(process.log.read_text())[-300:]}"
        if again := [unit for unit in units() if unit in before]:
            return f"{command} did {again[:3]} again, which was saved"
        if left := leftovers(folder):
            return f"{command} left {left[0]}"
        return difference(folder, self.smoke.path)

    def _duration(self, command: str) -> float:
        """Seconds that the command takes when nobody stops it."""
        with self._folder(command) as folder:
            begun = time.monotonic()
            assert started(command, folder).wait() == 0
            return time.monotonic() - begun

    @contextmanager
    def _folder(self, command: str) -> Iterator[Path]:
        scratch = Path(tempfile.mkdtemp(prefix="devsort-soak-"))
        try:
            yield self.smoke.copy(scratch, *STOPPED[command])
        finally:
            shutil.rmtree(scratch)


def started(command: str, folder: Path) -> Process:
    """The command at work on the folder."""
    prepare = by_processes if command in SPREAD else None
    (folder.parent / "log").unlink(missing_ok=True)
    process = Process(folder.parent / "log", command.split()[0], folder, prepare=prepare)
    wait_until(process.log.exists)
    return process


def by_processes() -> None:
    """Has the commands take a process a core, however little there is to do."""
    os.environ["OMP_NUM_THREADS"] = str(MOST)
    train.ALONE = samplers.ALONE = heads.ALONE = 0


def processes() -> int:
    """How many processes work then, at most."""
    return min(MOST, len(os.sched_getaffinity(0)))


# ---- units of work


def a_step_of_training(trainer: train.Trainer) -> list[str]:
    return [str(trainer.step + 1)]


def a_job(_: object, job: object, *__: object) -> list[str]:
    """A restriction at some checkpoints, or a checkpoint whose heads are measured."""
    if isinstance(job, Job):
        return [f"{step} {job.restriction}" for step in job.steps]
    return [str(job)] if isinstance(job, int) else []  # its work comes to a process before its jobs


def all_of_it(*_: object) -> list[str]:
    return ["all"]


# where a command takes up a unit of its work, and which unit; with processes, where it is given
UNITS: dict[str, tuple[str, Callable[..., list[str]]]] = {
    "train": ("devsort.sorting.train.Trainer.advance", a_step_of_training),
    "llc": ("devsort.sorting.samplers.SortSampler.__call__", a_job),
    "heads": ("devsort.sorting.heads.step._analyse", a_job),
    "stages": ("devsort.sorting.stages.detect", all_of_it),
    "train by processes": ("devsort.sorting.train.Trainer.advance", a_step_of_training),
    "llc by processes": (f"{Member.__module__}.Member.give", a_job),
    "heads by processes": (f"{Member.__module__}.Member.give", a_job),
}


@contextmanager
def counted(command: str, folder: Path) -> Iterator[Callable[[], list[str]]]:
    """Has processes that start in the block write down each unit that they take up.

    Yields a reader of the list.
    """
    path, (target, units_of) = folder.parent / "units", UNITS[command]
    original = resolve_name(target)
    path.write_bytes(b"")
    file = os.open(path, os.O_WRONLY | os.O_APPEND)

    def noting(*args, **options):
        os.write(file, "".join(f"{unit}\n" for unit in units_of(*args)).encode())
        return original(*args, **options)

    with patch(target, noting):
        yield lambda: path.read_text().splitlines()
    os.close(file)


def saved_units(command: str, folder: Path) -> set[str]:
    """Units of a command whose result is in the folder."""
    run, command = open_run(folder), SPREAD.get(command, command)
    if command == "train":
        return {str(step) for step in range(1, load_resume_step(run) + 1)}
    if command == "stages":
        return {"all"} if run.stages.exists() else set()
    return sampled(run) if command == "llc" else measured(run)


def sampled(run: Run) -> set[str]:
    """Jobs of the checkpoints whose draws are whole in llc.zarr."""
    if not run.llc.exists():
        return set()
    store = Store(run.llc, zarr.open_group(run.llc, mode="r"), samplers.settings(run))
    done = set(range(len(store.steps))) - set(store.todo())
    return {f"{store.steps[i]} {name}" for i in done for name in store.restrictions}


def measured(run: Run) -> set[str]:
    """Checkpoints whose measures are whole, in heads.zarr or beside it."""
    try:
        return {str(int(step)) for step in run.read(HEADS).checkpoint}
    except UserError:
        kept = run.parts(HEADS).glob("step-*.safetensors")
        return {str(int(path.stem.removeprefix("step-"))) for path in kept}


def wasted(command: str, folder: Path, before: set[str], units: list[str]) -> str | None:
    """What a process did that was saved before, or did in vain beyond what may be in flight."""
    if again := [unit for unit in units if unit in before]:
        return f"{command} did {again[:3]} again, which was saved"
    if twice := sorted(unit for unit, times in Counter(units).items() if times > 1):
        return f"{command} did {twice[:3]} twice"
    saved, allowed = saved_units(command, folder), in_flight(command, folder)
    lost = [unit for unit in units if unit not in saved]
    if len(lost) > allowed:
        told = f"{lost[:3]} … {lost[-1]}, {len(lost)} where {allowed} may be in flight"
        return f"{command} lost units {told}"
    return None


def in_flight(command: str, folder: Path) -> int:
    """How many units may be begun and not saved.

    A checkpoint is saved when all its restrictions are done. A process gets its next job before the
    result of its last one is saved.
    """
    run, name = open_run(folder), SPREAD.get(command, command)
    count, next_one = (processes(), 1) if command in SPREAD else (1, 0)
    if name == "train":
        return stretch(run)
    of_each = len(restrictions(run)) if name == "llc" else 1
    return count * of_each + next_one


def stretch(run: Run) -> int:
    """Steps of training from the last that is saved to the next that is to be."""
    saved, config = load_resume_step(run), run.config.train
    later = [step for step in checkpoint_steps(config.checkpoints, config.steps) if step > saved]
    return later[0] - saved if later else 0


# ---- what there is at the end


def leftovers(folder: Path, patterns: tuple[str, ...] = (*LEFTOVERS, "heads.parts")) -> list[Path]:
    """Files that are no artifact."""
    return [path for pattern in patterns for path in folder.rglob(pattern)]


def difference(folder: Path, expected: Path) -> str | None:
    """The first artifact of a folder that is not bitwise that of another, of those that it has."""
    files = [folder / "training.jsonl", *sorted((folder / "checkpoints").iterdir())]
    files += [folder / STAGES] if (folder / STAGES).exists() else []
    for path in files:
        if path.read_bytes() != (expected / path.relative_to(folder)).read_bytes():
            return f"{path.name} differs"
    for name in ("llc.zarr", "heads.zarr"):
        if (folder / name).exists() and arrays(folder / name) != arrays(expected / name):
            return f"{name} differs"
    return None


def arrays(path: Path) -> dict[str, tuple]:
    """Type and content of every array of a zarr group."""
    group = zarr.open_group(path, mode="r")
    found = {name: np.asarray(group[name][:]) for name in sorted(group.array_keys())}
    return {
        n: (a.dtype.kind, a.tobytes() if a.dtype.kind in "bif" else a.tolist())
        for n, a in found.items()
    }
