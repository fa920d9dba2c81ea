"""Damage to a finished run: found or harmless, and mended.

The commands that the status names mend it to the same bits.

A trial damages a copy of a finished run and asks for its status. If that says done, the commands
must print what they printed before; if not, the commands that it names are run until it does. Then
everything must be bitwise as it was.
"""

import json
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import yaml
from commands import Process, Result, devsort, last_line
from soak.kills import difference, leftovers
from soak.report import Row

from devsort.rng import stream
from runs import Smoke

NAMED = re.compile(r"`devsort ([^`]+)`")
ROUNDS = 9  # commands that mend a run, at most: four steps, each with --force or after another
Damage = Callable[[Path, np.random.Generator], None]


def damages(smoke: Smoke, count: int, seed: int = 0) -> list[Row]:
    """One row for each kind of damage, each done `count` times at random places."""
    rows = []
    for name, damage in KINDS.items():
        row = Row(name)
        for trial in range(count):
            with copied(smoke) as run:
                damage(run, stream(seed, f"soak {name}", trial))
                row.count(mended(run, smoke))
        rows.append(row)
    return rows


def ran(*arguments: str | Path) -> Result:
    """The command in this process; a defect of ours is exit code 1."""
    try:
        return devsort(*arguments)
    except Exception as e:
        return Result(1, "", f"{type(e).__name__}: {e}")


def mended(run: Path, smoke: Smoke) -> str | None:
    """What is wrong with a damaged run, once all that its status names has been done."""
    for _ in range(ROUNDS):
        result = ran("status", run, "--json")
        if result.code:
            return f"status ended with {result.code}: {last_line(result.err)[-300:]}"
        parts = json.loads(result.out)["parts"]
        open_parts = [part for part in parts if part["state"] != "done"]
        if not open_parts:
            left = leftovers(run)
            return (
                f"{left[0]} is left"
                if left
                else difference(run, smoke.path) or told_otherwise(run, smoke)
            )
        if not (named := NAMED.search(open_parts[0]["detail"])):
            return f"no remedy in {open_parts[0]['detail']!r}"
        fixed = ran(*shlex.split(named[1]))
        if fixed.code:
            return f"{named[0]} ended with {fixed.code}: {last_line(fixed.err)[-300:]}"
    return f"not mended after {ROUNDS} commands: {open_parts[0]['detail']}"


def told_otherwise(run: Path, smoke: Smoke) -> str | None:
    """A command that prints other numbers than before the damage."""
    for command, before in smoke.values.items():
        result = ran(command, run, "--json")
        if result.code:
            return f"{command} ended with {result.code}: {last_line(result.err)[-300:]}"
        value = json.loads(result.out)
        varying = {"run": 0, "steps_per_second": 0, "files": 0}
        if {**value, **varying} != {**before, **varying}:
            return f"{command} prints other numbers"
    return None


# ---- kinds of damage


def artifacts(run: Path) -> list[Path]:
    """Files that the steps have written, figures apart."""
    written = [
        path
        for path in run.rglob("*")
        if path.is_file() and path.name not in ("config.yaml", ".lock")
    ]
    return sorted(path for path in written if "figures" not in path.parts)


def flip_a_bit(run: Path, rng: np.random.Generator) -> None:
    """One bit of one file."""
    path = an_artifact(run, rng)
    data = bytearray(path.read_bytes())
    if data:
        data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
    path.write_bytes(data)


def cut_short(run: Path, rng: np.random.Generator) -> None:
    """A file that ends too early."""
    path = an_artifact(run, rng)
    os.truncate(path, int(rng.integers(max(1, path.stat().st_size))))


def lose(run: Path, rng: np.random.Generator) -> None:
    """A file that is gone, as after half a copy."""
    for _ in range(int(rng.integers(1, 6))):
        an_artifact(run, rng).unlink()


def swap_checkpoints(run: Path, rng: np.random.Generator) -> None:
    """Two checkpoints under each other's names."""
    a, b = rng.choice(sorted((run / "checkpoints").glob("step-*")), 2, replace=False)
    swap(Path(a), Path(b))


def swap_chunks(run: Path, rng: np.random.Generator) -> None:
    """The draws of two checkpoints of llc.zarr under each other's names, in one array."""
    array = sorted((run / "llc.zarr").glob("*/c/1"))
    a = array[rng.integers(len(array))]
    swap(a, a.with_name(str(rng.choice([0, 2, 3, 4, 5]))))


def edit_config(run: Path, rng: np.random.Generator) -> None:
    """A setting changed after the run, and changed back once the status has said so."""
    text = (run / "config.yaml").read_text()
    section, key, value = EDITS[rng.integers(len(EDITS))]
    config = yaml.safe_load(text)
    config[section][key] = value
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    parts = json.loads(devsort("status", run, "--json").out)["parts"]
    told = [
        part
        for part in parts
        if part["state"] == "stale" and f"{section}.{key} was " in part["detail"]
    ]
    assert told, f"{section}.{key} was changed, and the status says {parts}"
    (run / "config.yaml").write_text(text)


def another_run(run: Path, rng: np.random.Generator) -> None:
    """llc.zarr and heads.zarr of other weights.

    A run with another seed, taken through the same steps.
    """
    with tempfile.TemporaryDirectory(prefix="devsort-soak-") as scratch:
        other = Path(scratch) / "other"
        other.mkdir()
        config = yaml.safe_load((run / "config.yaml").read_text())
        (other / "config.yaml").write_text(yaml.safe_dump(config))
        seed = f"train.seed={rng.integers(1, 1000)}"
        for command in ("train", "llc", "heads"):
            assert devsort(command, other, "--set", seed).code == 0
        name = ("llc.zarr", "heads.zarr")[rng.integers(2)]
        shutil.rmtree(run / name)
        shutil.copytree(other / name, run / name)
    told = json.loads(devsort("status", run, "--json").out)["parts"]
    state = {part["part"]: part["state"] for part in told}[name.removesuffix(".zarr")]
    assert state == "stale", f"{name} of other weights is {state}"


def rename(run: Path, rng: np.random.Generator) -> None:
    """A folder under another name holds the same run, and says so under that name."""
    aside = run.rename(run.with_name("renamed"))
    status = json.loads(devsort("status", aside, "--json").out)
    assert status["run"] == str(aside) and all(part["state"] == "done" for part in status["parts"])
    assert all(
        json.loads(devsort(command, aside, "--json").out).get("run") == str(aside)
        for command in STEPS
    )
    aside.rename(run)


def swap(a: Path, b: Path) -> None:
    """Two files or folders under each other's names."""
    aside = a.with_name("aside")
    a.rename(aside)
    b.rename(a)
    aside.rename(b)


STEPS = ("train", "llc", "heads", "stages")
EDITS = [
    ("train", "lr", 0.002),
    ("task", "seed", 5),
    ("model", "init_scale", 0.7),
    ("llc", "first_step", 20),
    ("heads", "need", 0.6),
    ("stages", "bootstrap", 51),
]
KINDS: dict[str, Damage] = {
    "a bit flipped": flip_a_bit,
    "a file cut short": cut_short,
    "files lost": lose,
    "two checkpoints swapped": swap_checkpoints,
    "draws of two checkpoints swapped": swap_chunks,
    "config.yaml edited after the run": edit_config,
    "results of other weights put in": another_run,
    "folder renamed": rename,
}


def an_artifact(run: Path, rng: np.random.Generator) -> Path:
    """A random file.

    First which of checkpoints, log, llc.zarr, heads.zarr and stages.json, so that each is met.
    """
    by_part: dict[str, list[Path]] = {}
    for path in artifacts(run):
        by_part.setdefault(path.relative_to(run).parts[0], []).append(path)
    paths = by_part[sorted(by_part)[rng.integers(len(by_part))]]
    return paths[rng.integers(len(paths))]


@contextmanager
def copied(smoke: Smoke) -> Iterator[Path]:
    """A copy of the finished run that is removed in the end."""
    with tempfile.TemporaryDirectory(prefix="devsort-soak-") as scratch:
        yield smoke.copy(Path(scratch))


# ---- two at once


def two_at_once(smoke: Smoke, count: int) -> Row:
    """Two processes on one folder: one works, the other names it and ends with 2."""
    row = Row("two processes on one folder")
    for trial in range(count):
        command = STEPS[trial % 3]
        kept = () if command == "train" else ("checkpoints", "training.jsonl")
        with tempfile.TemporaryDirectory(prefix="devsort-soak-") as scratch:
            run = smoke.copy(Path(scratch), "config.yaml", *kept)
            pair = [Process(Path(scratch) / f"log{i}", command, run) for i in (0, 1)]
            codes = [process.wait() for process in pair]
            row.count(one_worked(run, pair, codes) or difference(run, smoke.path))
    return row


def one_worked(run: Path, pair: list[Process], codes: list[int]) -> str | None:
    """What is wrong with how two processes shared a folder."""
    if sorted(codes) != [0, 2]:
        return f"exit codes {codes}"
    works, waits = pair[codes.index(0)], pair[codes.index(2)]
    expected = (
        f"devsort: error: {run} is in use by process {works.pid}; wait for it, or stop that process"
    )
    said = last_line(waits.log.read_text())
    return None if said == expected else f"it said {said!r}"
