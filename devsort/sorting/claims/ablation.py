"""What suppressing heads do for the finished networks of a sweep.

Each with and without them, on the same lists.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devsort.sorting.artifacts import HEADS
from devsort.sorting.checkpoints import load_checkpoint, trained_steps
from devsort.sorting.heads.function import Condition, head_function
from devsort.sorting.model import model_shape
from devsort.sorting.run import Run, open_run
from devsort.sorting.task import eval_batch

LISTS = 2048  # evaluation lists of a comparison
# the head replaced by its mean output; the head without its suppression
CONDITIONS = ("ablated", "rest")


@dataclass(frozen=True)
class Head:
    """A suppressing head of a finished run.

    Attributes:
        number: In its layer.
        share: Of all numbers, those that it suppresses.
    """

    number: int
    share: float


def suppressing_heads(run: Run) -> list[Head]:
    """Heads that suppress many numbers at the last checkpoint (docs/head-modes.md).

    Many is the share `heads.extent` of all numbers, or more.

    Raises:
        UserError: The run has no heads.zarr.
    """
    shares = run.read(HEADS).isel(checkpoint=-1).suppresses.mean("number").values
    return [
        Head(h, float(share)) for h, share in enumerate(shares) if share >= run.config.heads.extent
    ]


def ablations(folders: list[Path]) -> Iterator[dict[str, Any]]:
    """One row a run and condition, for the head that suppresses most; runs without one have none.

    Returns:
        cell, head, share, condition, and what the condition changes: loss and entropy (nats),
        accuracy, confidence, calibration_error.
    """
    for folder in folders:
        run = open_run(folder)
        heads = suppressing_heads(run)
        if not heads:
            continue
        head = max(heads, key=lambda h: h.share)
        params = load_checkpoint(run, trained_steps(run)[-1])
        lists = eval_batch(run.config.task.model_copy(update={"eval_lists": LISTS}))
        found = head_function(
            params, model_shape(run.config.task, run.config.model), lists, head.number
        )
        for name in CONDITIONS:
            change = _change(found.conditions["whole"], found.conditions[name])
            yield {
                "cell": folder.name,
                "head": head.number,
                "share": head.share,
                "condition": name,
                **change,
            }


def _change(before: Condition, after: Condition) -> dict[str, float]:
    change = {
        name: getattr(after, name) - getattr(before, name)
        for name in ("loss", "accuracy", "entropy", "confidence")
    }
    return change | {"calibration_error": after.reliability.error - before.reliability.error}
