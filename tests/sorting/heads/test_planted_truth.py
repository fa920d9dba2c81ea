"""100 random planted networks of each kind: labels, range ends, and thresholds moved by 20 %."""

import numpy as np
import pytest

from devsort.rng import stream
from devsort.sorting import nulls, planted
from devsort.sorting.config import HeadsConfig, ModelConfig, TaskConfig
from devsort.sorting.heads import measure, modes, ranges
from devsort.sorting.heads.tables import group_sums, tables
from devsort.sorting.model import infer_shape
from devsort.sorting.task import eval_batch

DRAWS, NOISE = 100, 0.005
TASK = TaskConfig(eval_lists=80)
BATCH = eval_batch(TASK)
# that suppression is earned takes more lists, and so fewer draws; analysis/suppression_power.py
# has more of both
SUPPRESSING, SUPPRESSING_DRAWS = ("suppression", "three", "four"), 12
MANY = eval_batch(TaskConfig(eval_lists=1024))
CONFIG = HeadsConfig()
SUPPRESSION = "copy-suppression"
THRESHOLDS = ("copy_share", "copy_floor", "suppress_share", "need", "extent", "split", "overlap")
MOVED = [
    CONFIG.model_copy(update={k: getattr(CONFIG, k) * f}) for k in THRESHOLDS for f in (0.8, 1.2)
]


def measured(kind, index):
    params, plan = planted.draw_network(kind, TASK, ModelConfig(), 0, index, NOISE)
    batch = MANY if kind in SUPPRESSING else BATCH
    return table_of(params, batch), plan


def table_of(params, batch=BATCH):
    return tables(*group_sums(measure(params, infer_shape(params, 10, 51), batch), 51))


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
    draws = SUPPRESSING_DRAWS if kind in SUPPRESSING else DRAWS
    for index in range(draws):
        table, plan = measured(kind, index)
        label = named(table, CONFIG)
        right += label == plan.labels
        flips += any(named(table, config) != label for config in MOVED)
        for role in ends:
            ends[role] += ends_agree(getattr(ranges, role)(table, CONFIG), getattr(plan, role))
    assert right >= 0.98 * draws
    assert flips <= 0.02 * draws
    assert min(ends.values()) >= 0.98 * draws, ends


@pytest.mark.parametrize(("ratio", "found"), [(0.05, 0), (0.15, 3)])
def test_a_suppressor_is_found_from_a_ratio_of_15_percent(ratio, found):
    hits = 0
    for index in range(3):
        rng = stream(0, "test-suppressor", index)
        params = planted.network(planted.draw_suppressor(ratio, 51, rng), TASK, ModelConfig(), rng)
        hits += named(table_of(planted.noisy(params, NOISE, rng), MANY), CONFIG) == [SUPPRESSION]
    assert hits == found


@pytest.mark.parametrize("kind", ["split", "overlap", "single"])
def test_noise_is_no_suppression(kind):
    """With weight noise of 5 %, and beside a head of noise."""
    for index in range(4):
        rng = stream(0, "test-noise", index)
        params, _ = planted.draw_network(kind, TASK, ModelConfig(), 2, index, 0.05)
        if kind == "single":
            params = nulls.with_noise_head(params, 1.0, rng)
        assert not ranges.suppresses(table_of(params), CONFIG).any()


def test_a_rotated_head_lowers_numbers_and_earns_nothing():
    """It looks where a copier looks and writes anywhere: some pass the first half of the rule."""
    lowered = 0
    for index in range(8):
        rng = stream(0, "test-rotated", index)
        params, _ = planted.draw_network("overlap", TASK, ModelConfig(), 3, index, NOISE)
        params = nulls.rotated(params, 0, rng)
        table = table_of(params)
        lowered += modes.strength(table, CONFIG)["lowered_share"].max() >= CONFIG.extent
        assert SUPPRESSION not in named(table, CONFIG)
    assert lowered >= 1
