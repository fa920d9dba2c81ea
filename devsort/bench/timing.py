"""What is timed, and the result of one contender."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Timed:
    """One repeat of one contender.

    Attributes:
        rate: Units of work per second, without start-up.
        values: (n,) what it computed, to be compared with the other contenders.
    """

    rate: float
    values: np.ndarray


Contender = Callable[[int], Timed]  # index of the repeat → result


@dataclass(frozen=True)
class Work:
    """One kind of work.

    It has our contender, the peers by name, the flops of one unit (None if a unit is no fixed
    number of them), and the test of whether two answers agree.
    """

    what: str
    batch: int
    unit: str
    flops: int | None
    ours: Contender
    peers: dict[str, Contender]
    agreement: Callable[[list[np.ndarray], list[np.ndarray]], dict[str, Any]]


def rate_of(ticks: Sequence[Sequence[float]], per_tick: int = 1) -> float:
    """Work per second between the first tick and the last of workers that run side by side.

    Args:
        ticks: For each worker the seconds at which it finished a step; its first step is start-up
            and does not count.
        per_tick: Units of work per step.
    """
    done = sum(len(own) - 1 for own in ticks)
    return per_tick * done / (max(own[-1] for own in ticks) - min(own[0] for own in ticks))


def now(device: torch.device) -> float:
    """The time in seconds, after the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
