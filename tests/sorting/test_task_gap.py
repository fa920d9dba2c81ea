"""Lists with a chosen mean gap.

The tilted distribution against enumeration, and uniform lists as they always were.
"""

import zlib
from dataclasses import replace
from itertools import combinations, permutations
from math import comb

import numpy as np
import pytest
import torch
from chances import REJECT, p_value
from folders import told
from hypothesis import given
from hypothesis import strategies as st
from oracles import loop_gaps
from scipy import stats
from scipy.optimize import bisect

from devsort.rng import stream
from devsort.sorting.artifacts import CHECKPOINTS
from devsort.sorting.checkpoints import load_checkpoint
from devsort.sorting.config import TaskConfig, parse_config
from devsort.sorting.run import open_run
from devsort.sorting.task import (
    draw_lists,
    eval_batch,
    gaps,
    mean_gap,
    span_probabilities,
    train_batch,
)
from devsort.storage.tensors import save_tensors


def enumerated(numbers: int, length: int, gap: float) -> dict[tuple[int, ...], float]:
    """P of every set of numbers under exp(θ · span), θ by bisection over the enumeration."""
    sets = list(combinations(range(numbers), length))
    span = np.array([s[-1] - s[0] for s in sets], float)

    def probabilities(tilt: float) -> np.ndarray:
        weight = np.exp(tilt * (span - span.mean()))
        return weight / weight.sum()

    tilt = bisect(lambda t: probabilities(t) @ span / (length - 1) - gap, -40, 40, xtol=1e-13)
    return dict(zip(sets, probabilities(tilt), strict=True))


@pytest.mark.parametrize(
    ("numbers", "length", "gap"), [(7, 3, 1.5), (7, 3, 2.6), (9, 4, 2.0), (8, 2, 2.2), (6, 5, 1.1)]
)
def test_sets_have_the_enumerated_probabilities_and_orders_are_equally_likely(numbers, length, gap):
    count, expected = 60_000, enumerated(numbers, length, gap)
    lists = draw_lists(
        stream(3, "test"), count, TaskConfig(list_length=length, numbers=numbers, mean_gap=gap)
    )
    found = dict.fromkeys(expected, 0)
    for row in np.sort(lists, axis=1).tolist():
        found[tuple(row)] += 1
    often = [s for s in expected if expected[s] * count >= 10]
    rare = count - sum(found[s] for s in often), count * (1 - sum(expected[s] for s in often))
    observed, wanted = [found[s] for s in often], [expected[s] * count for s in often]
    if rare[1] > 1:
        observed, wanted = [*observed, rare[0]], [*wanted, rare[1]]
    assert stats.chisquare(observed, wanted).pvalue > REJECT
    assert p_value(lists.argsort(axis=1), list(permutations(range(length)))) > REJECT


@pytest.mark.parametrize(("numbers", "length"), [(6, 2), (5, 3), (51, 10), (1000, 100)])
def test_the_uniform_mean_gap_gives_the_uniform_spans(numbers, length):
    """Uniform spans are (N − s) C(s − 1, L − 2) / C(N, L): exact in integers."""
    found = span_probabilities(numbers, length, (numbers + 1) / (length + 1))
    exact = [
        (numbers - s) * comb(s - 1, length - 2) / comb(numbers, length) if s else 0.0
        for s in range(numbers)
    ]
    assert found == pytest.approx(exact, abs=1e-9)


def test_lists_with_the_uniform_mean_gap_are_uniform():
    lists = draw_lists(
        stream(11, "test"), 60_000, TaskConfig(list_length=3, numbers=5, mean_gap=1.5)
    )
    assert p_value(lists, list(permutations(range(5), 3))) > REJECT


@pytest.mark.parametrize("gap", [1.001, 1.5, 3.0, 4.0, 5.2, 5.55])
def test_the_mean_gap_of_drawn_lists_is_what_was_asked_for(gap):
    task = TaskConfig(mean_gap=gap, eval_lists=20_000)
    per_list = gaps(eval_batch(task).tokens[:, :10].numpy()).mean(1)
    assert mean_gap(task) == gap
    assert abs(per_list.mean() - gap) < 4 * per_list.std() / np.sqrt(len(per_list))
    spans = span_probabilities(51, 10, gap)
    assert spans @ np.arange(51) / 9 == pytest.approx(gap, rel=1e-10)


def test_a_tilt_towards_the_mean_gap_of_the_window_moves_the_spans_one_way():
    means = [
        gaps(draw_lists(stream(0, "test"), 4000, TaskConfig(mean_gap=g))).mean()
        for g in (2.0, 3.0, 4.0, 5.0)
    ]
    assert means == sorted(means) and means[0] < 2.1 and means[-1] > 4.9


@given(st.integers(2, 20), st.integers(1, 200), st.floats(1e-6, 1 - 1e-6), st.integers(0, 99))
def test_lists_are_distinct_and_in_range(length, more, share, seed):
    numbers = length + more
    gap = 1 + share * ((numbers - 1) / (length - 1) - 1)
    lists = draw_lists(
        stream(seed, "test"), 20, TaskConfig(list_length=length, numbers=numbers, mean_gap=gap)
    )
    assert lists.shape == (20, length) and lists.dtype == np.int64
    assert lists.min() >= 0 and lists.max() < numbers
    assert all(len(set(row)) == length and min(loop_gaps(row)) >= 1 for row in lists.tolist())


def test_training_evaluation_and_sampling_share_the_gap():
    task = TaskConfig(list_length=4, numbers=30, mean_gap=2.0, label_noise=0.2)
    lists = np.concatenate(
        [train_batch(task, step, 64).tokens[:, :4].numpy() for step in range(1, 40)]
    )
    per_list = gaps(lists).mean(1)
    assert abs(per_list.mean() - 2.0) < 4 * per_list.std() / np.sqrt(len(per_list))


@pytest.mark.parametrize("gap", [1, 0.5, 50 / 9, 7])
def test_a_mean_gap_that_no_list_can_have_is_refused(gap):
    assert told(parse_config, {"task": {"mean_gap": gap}}, "config.yaml") == (
        f"config.yaml: task: mean_gap must lie between 1 and 5.556, both excluded, got {gap:g}; "
        "see `devsort config --help` for keys and ranges"
    )


def test_uniform_lists_are_the_bits_that_they_were_before_gaps_could_be_chosen():
    task = TaskConfig(list_length=4, numbers=9, label_noise=0.3)
    batch = train_batch(task, 70, 16)
    found = [zlib.crc32(t.numpy().tobytes()) for t in (batch.tokens, batch.targets)]
    assert found == [1148213770, 4127590461]
    assert (
        zlib.crc32(eval_batch(TaskConfig(eval_lists=4096), 50).tokens.numpy().tobytes())
        == 657966875
    )


def test_a_checkpoint_made_before_gaps_could_be_chosen_is_read(tiny_run):
    origin, params = tiny_run.origin(CHECKPOINTS), {"w": torch.ones(2)}
    old = origin.resolved.replace(', "mean_gap": null', "")
    assert old != origin.resolved
    save_tensors(tiny_run.checkpoint(5), params, replace(origin, resolved=old), step="5")
    assert torch.equal(load_checkpoint(tiny_run, 5)["w"], params["w"])
    other = open_run(tiny_run.path, ("task.mean_gap=1.5",))
    changed = "was made from another config (task.mean_gap was None, is 1.5); "
    assert changed in told(load_checkpoint, other, 5)
