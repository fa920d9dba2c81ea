"""Chooses which checkpoints to sample."""

import math
from collections.abc import Sequence

import numpy as np


def chosen_steps(saved: Sequence[int], count: int) -> list[int]:
    """Returns at most `count` of the saved steps, spread evenly over log step.

    They include the first and the last.
    """
    if len(saved) <= count:
        return list(saved)
    targets = np.linspace(math.log10(saved[0]), math.log10(saved[-1]), count)
    left, picked = list(saved), []
    for i, target in enumerate(targets):
        usable = left[: len(left) - (count - i - 1)]
        best = min(range(len(usable)), key=lambda j: abs(math.log10(usable[j]) - target))
        picked.append(left[best])
        left = left[best + 1 :]
    return picked
