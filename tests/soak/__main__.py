"""The soak: faults by the hundred against the commands.

One table tells what was tried, survived and lost.

make soak, or PYTHONPATH=tests python -m soak. Exit code 1 if anything was lost.
"""

import os
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

# processes are forked, which threads of torch do not survive
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from soak import damage, disk, hostile, inputs, kills, lanes, numbers, strangers
from soak.report import Row, table

from runs import smoke_run


def main() -> None:
    """Runs every part; prints its rows on standard error, and in the end the whole table."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    begun, rows = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="devsort-soak-") as folder:
        smoke = smoke_run(Path(folder))
        on_disk: list[Callable[[], list[Row]]] = [
            lambda: kills.Trials(smoke, signal.SIGKILL).run(100),
            lambda: kills.Trials(smoke, signal.SIGINT).run(20),
            lambda: kills.Trials(smoke, signal.SIGTERM).run(20),
            lambda: [damage.two_at_once(smoke, 6)],
            lambda: [
                disk.full_disks(smoke, 16),
                disk.size_limits(smoke, 16),
                disk.permissions(smoke),
            ],
        ]
        in_memory: list[Callable[[], list[Row]]] = [
            lambda: damage.damages(smoke, 10),
            lambda: [hostile.refusals(smoke)],
            lambda: numbers.same_numbers(smoke),
            lambda: inputs.rows_of("soak"),
            lambda: inputs.rows_of("soak", strangers.PROPERTIES),
            lambda: [lanes.long_run(20_000)],
        ]
        # what does not need a disk is quicker
        for folder, parts in ((None, on_disk), (inputs.MEMORY_DISK, in_memory)):
            tempfile.tempdir = folder
            for part in parts:
                found = part()
                rows += found
                print(table(found), file=sys.stderr, flush=True)
    print(table(rows))
    print(f"\n{(time.monotonic() - begun) / 60:.0f} minutes")
    sys.exit(any(row.losses for row in rows))


if __name__ == "__main__":
    main()
