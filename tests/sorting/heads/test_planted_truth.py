"""100 random planted networks of each kind: labels, range ends, and thresholds moved by 20 %."""

import numpy as np
import pytest

from devsort.sorting import planted
from devsort.sorting.config import HeadsConfig, ModelConfig, TaskConfig
from devsort.sorting.heads import measure, modes, ranges
from devsort.sorting.heads.tables import group_sums, tables
from devsort.sorting.model import infer_shape
from devsort.sorting.task import eval_batch

DRAWS, NOISE = 100, 0.005
TASK = TaskConfig(eval_lists=80)
BATCH = eval_batch(TASK)
CONFIG = HeadsConfig()
THRESHOLDS = ("copy_share", "copy_floor", "need", "extent", "split", "overlap")
MOVED = [
    CONFIG.model_copy(update={k: getattr(CONFIG, k) * f}) for k in THRESHOLDS for f in (0.8, 1.2)
]


def measured(kind, index):
    params, plan = planted.draw_network(kind, TASK, ModelConfig(), 0, index, NOISE)
    return tables(*group_sums(measure(params, infer_shape(params, 10, 51), BATCH), 51)), plan


def named(table, config):
    return [
        name for name, holds in zip(modes.LABELS, modes.labels(table, config), strict=True) if holds
    ]


def ends_agree(found, truth):
    """Same number of ranges for each head, each end within one number."""
    pairs = [(ranges.ranges(a), ranges.ranges(b)) for a, b in zip(found, truth, strict=True)]
    return all(
        len(a) == len(b) and np.abs(np.array(a) - np.array(b)).max(initial=0) <= 1 for a, b in pairs
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", planted.KINDS)
def test_what_was_planted_is_found(kind):
    right, flips, ends = 0, 0, {"copies": 0, "suppresses": 0, "needed": 0}
    for index in range(DRAWS):
        table, plan = measured(kind, index)
        label = named(table, CONFIG)
        right += label == plan.labels
        flips += any(named(table, config) != label for config in MOVED)
        for role in ends:
            ends[role] += ends_agree(getattr(ranges, role)(table, CONFIG), getattr(plan, role))
    assert right >= 98
    assert flips <= 2
    assert min(ends.values()) >= 98, ends
