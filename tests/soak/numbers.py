"""The same numbers.

Bitwise on any number of cores of one machine, to a tolerance in another grouping of lanes.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from commands import Process, devsort, last_line
from soak.kills import by_processes, difference
from soak.report import Row

from devsort.llc.store import BURNIN, DRAWN, OWN
from devsort.sorting.artifacts import LLC
from devsort.sorting.run import open_run
from runs import Smoke

RTOL, ATOL = 2e-4, 2e-5  # of a draw, nats for losses
GROUPINGS = {
    "one restriction": ("llc.restrictions=[h1]",),
    "two checkpoints": ("llc.max_checkpoints=2",),
    "two chains": ("llc.sampler.num_chains=2",),
    "one restriction, two checkpoints": ("llc.restrictions=[h1]", "llc.max_checkpoints=2"),
}


def same_numbers(smoke: Smoke) -> list[Row]:
    """The pipeline on one core, and lanes in other groupings."""
    return [one_core(smoke), groupings(smoke)]


def one_core(smoke: Smoke) -> Row:
    """Every step on one core, against the run on all; and sampling on a process a core."""
    row = Row("one core, or a process a core, bitwise")
    with tempfile.TemporaryDirectory(prefix="devsort-soak-") as scratch:
        run = smoke.copy(Path(scratch), "config.yaml")
        core = min(os.sched_getaffinity(0))

        def trial(prepare: Callable[[], None], command: str, *options: str) -> None:
            process = Process(Path(scratch) / "log", command, run, *options, prepare=prepare)
            code = process.wait()
            row.count(last_line(process.log.read_text()) if code else difference(run, smoke.path))

        for command in ("train", "llc", "heads", "stages"):
            trial(lambda: os.sched_setaffinity(0, {core}), command)
        trial(by_processes, "llc", "--force")
    return row


def groupings(smoke: Smoke) -> Row:
    """Lanes with others beside them than in the finished run."""
    row, worst = Row("lanes in another grouping, to rounding"), 0.0
    whole = open_run(smoke.path).read(LLC)
    for name, options in GROUPINGS.items():
        with tempfile.TemporaryDirectory(prefix="devsort-soak-") as scratch:
            run = smoke.copy(Path(scratch), "checkpoints", "training.jsonl")
            result = devsort(
                "llc", run, *(text for option in options for text in ("--set", option))
            )
            assert result.code == 0, result.err
            some = open_run(run, options).read(LLC)
            same = whole.sel(
                checkpoint=some.checkpoint, restriction=some.restriction, chain=some.chain
            )
            alike = [(some[n] == same[n]).values for n in OWN]  # fewer chains may settle earlier
            cells = np.logical_and.reduce(alike)
            assert cells.any(), name
            pairs = [
                (some[n].values.astype(float)[cells], same[n].values.astype(float)[cells])
                for n in (*DRAWN, *BURNIN)
            ]
        worst = max(
            worst, *(float((np.abs(a - b) / (ATOL + RTOL * np.abs(b))).max()) for a, b in pairs)
        )
        row.count(None if worst <= 1 else f"{name}: {worst:.1f} times the tolerance")
    row.note = f"largest difference {worst:.2g} of {ATOL:g} + {RTOL:g} · value"
    return row
