"""Parts of the data whose loss is recorded at the draws of the same chains.

They give the data-refined LLC of arXiv 2410.02984.
"""

import re
from collections.abc import Collection
from itertools import pairwise

import torch
from torch import Tensor

from devsort.errors import UserError
from devsort.sorting.config import TaskConfig
from devsort.sorting.task import Batch


def data_parts(names: tuple[str, ...], data: Batch, task: TaskConfig) -> dict[str, Tensor]:
    """Which answers of the data set belong to each part.

    Args:
        names: `gaps` gives the parts small-gaps and large-gaps: lists with a mean gap below the
            median, and the rest; no part if all lists have the same mean gap, see `without_gaps`.
            `targets:K` gives the parts targets-LO-HI: answers in K equal ranges of numbers.
        data: n lists.
        task: Gives the range of numbers.

    Returns:
        Part → (n, L) bool.

    Raises:
        UserError: A name is none of these, or a part has no answer in the data.
    """
    parts: dict[str, Tensor] = {}
    for name in names:
        if name == "gaps":
            parts |= _by_gap(data)
        elif match := re.fullmatch(r"targets:(\d{1,4})", name):
            parts |= _by_target(data, task, int(match[1]))
        else:
            raise UserError(
                f"llc.parts: {name!r} is not known",
                "use gaps, or targets:K for K ranges of numbers",
            )
    empty = [name for name, chosen in parts.items() if not chosen.any()]
    if empty:
        raise UserError(
            f"llc.parts: no answer of the data lies in {', '.join(empty)}", "ask for fewer ranges"
        )
    return parts


def without_gaps(names: tuple[str, ...], parts: Collection[str]) -> list[str]:
    """A note if `gaps` is asked for but gives no part, as with lists that hold all numbers."""
    if "gaps" not in names or "small-gaps" in parts:
        return []
    return ["llc.parts: gaps was left out, because all lists of the data have the same mean gap"]


def _by_gap(data: Batch) -> dict[str, Tensor]:
    L = data.targets.shape[1]
    ordered = data.tokens[:, L + 1 :]
    mean_gap = (ordered[:, -1] - ordered[:, 0]) / (L - 1)
    small = mean_gap < mean_gap.median()
    if not small.any():  # half of the lists or more have the smallest gap
        small = mean_gap == mean_gap.min()
    small = small[:, None].expand(-1, L)
    return {} if small.all() else {"small-gaps": small, "large-gaps": ~small}


def _by_target(data: Batch, task: TaskConfig, count: int) -> dict[str, Tensor]:
    if not 1 <= count <= task.numbers:
        raise UserError(
            f"llc.parts: targets:{count} is not possible", f"ask for 1 to {task.numbers} ranges"
        )
    edges = torch.linspace(0, task.numbers, count + 1).round().int().tolist()
    return {
        f"targets-{lo}-{hi - 1}": (data.targets >= lo) & (data.targets < hi)
        for lo, hi in pairwise(edges)
    }
