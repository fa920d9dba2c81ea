"""A long run.

Twenty thousand lanes through `devsort llc`, in bounded memory and with bounded open files.
"""

import os
import resource
import tempfile
import threading
from pathlib import Path

import yaml
from commands import devsort, last_line
from soak.inputs import MEMORY_DISK
from soak.report import Row

from devsort.sorting.artifacts import LLC
from devsort.sorting.checkpoints import save_checkpoint
from devsort.sorting.model import init_params, model_shape
from devsort.sorting.run import open_run
from runs import TINY

MEMORY = 400_000  # kB by which the whole run may raise the peak
FILES = 64  # files open at once beyond those before
CHAINS, LANES = 10, 20  # of a checkpoint, with two restrictions


def long_run(lanes: int) -> Row:
    """Samples `lanes` lanes around lanes / 20 checkpoints of one run."""
    row = Row("lanes through the sampler", lanes)
    count = lanes // LANES
    with tempfile.TemporaryDirectory(prefix="devsort-soak-", dir=MEMORY_DISK) as scratch:
        run = many_checkpoints(Path(scratch), count)
        before, files = peak(), OpenFiles()
        with files:
            result = devsort("llc", run.path)
        grown = peak() - before
        row.note = f"{grown / 1000:.0f} MB more memory, {files.most} more files open"
        if result.code:
            row.losses.append(f"llc ended with {result.code}: {last_line(result.err)[-300:]}")
        elif run.read(LLC).loss.shape[:3] != (count, 2, CHAINS):
            row.losses.append("lanes are missing")
        if grown > MEMORY or files.most > FILES:
            row.losses.append(
                f"{row.note}, where {MEMORY / 1000:.0f} MB and {FILES} files are allowed"
            )
    return row


def many_checkpoints(folder: Path, count: int):
    """A run with `count` saved steps.

    The weights are those of the initial network with other seeds.
    """
    sampler = {**TINY["llc"]["sampler"], "num_chains": CHAINS}
    chosen = {
        "first_step": 1,
        "max_checkpoints": count,
        "restrictions": ["full", "h0"],
        "parts": [],
    }
    config = TINY | {
        "train": {
            **TINY["train"],
            "steps": count,
            "checkpoints": {"linear_from": 1, "linear_every": 1},
        },
        "llc": {**TINY["llc"], "sampler": sampler, **chosen},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    run = open_run(folder)
    shape = model_shape(run.config.task, run.config.model)
    for step in range(1, count + 1):
        save_checkpoint(run, step, init_params(shape, 1.0, step))
    return run


def peak() -> int:
    """The most memory that this process has held, in kB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class OpenFiles:
    """Counts the open files of this process while a block runs.

    `most` is the largest number beyond those before.
    """

    def __init__(self) -> None:
        self.before, self.most = len(os.listdir("/proc/self/fd")), 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "OpenFiles":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.stop.wait(0.05):
            self.most = max(self.most, len(os.listdir("/proc/self/fd")) - self.before)
