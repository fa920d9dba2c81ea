"""The task: lists, targets, gaps, and batches that depend on their index alone."""

import subprocess
import sys
from fractions import Fraction
from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from chances import REJECT, p_value
from oracles import loop_gaps, loop_sequence
from scipy import stats

from devsort.rng import stream
from devsort.sorting.config import TaskConfig
from devsort.sorting.task import (
    Batch,
    draw_lists,
    eval_batch,
    gaps,
    make_batch,
    mean_gap,
    train_batch,
)

NOISY = TaskConfig(list_length=4, numbers=9, label_noise=0.3)
FINITE = TaskConfig(list_length=3, numbers=12, train_lists=50)


@pytest.mark.parametrize(("numbers", "length"), [(4, 2), (5, 3), (4, 4), (6, 2)])
def test_every_ordered_list_is_equally_likely(numbers, length):
    config = TaskConfig(list_length=length, numbers=numbers)
    lists = draw_lists(stream(11, "test"), 60_000, config)
    assert p_value(lists, list(permutations(range(numbers), length))) > REJECT


def test_the_test_of_uniformity_can_fail():
    # the classic wrong shuffle, which swaps with any position: 27 paths cannot share 6 permutations
    # evenly
    rng = stream(11, "test")
    deck, row = np.tile(np.arange(3), (60_000, 1)), np.arange(60_000)
    for i in range(3):
        j = rng.integers(0, 3, 60_000)
        deck[row, i], deck[row, j] = deck[row, j], deck[row, i].copy()
    assert p_value(deck, list(permutations(range(3)))) < REJECT


@pytest.mark.parametrize(("numbers", "length"), [(51, 10), (10, 10), (1000, 100), (2, 2)])
def test_lists_have_distinct_numbers_in_range(numbers, length):
    lists = draw_lists(stream(0, "test"), 300, TaskConfig(list_length=length, numbers=numbers))
    assert lists.shape == (300, length)
    assert lists.min() >= 0
    assert lists.max() < numbers
    assert all(len(set(row)) == length for row in lists.tolist())


def test_sequences_equal_the_loop_oracle():
    config = TaskConfig(list_length=5, numbers=20)
    lists = draw_lists(stream(0, "test"), 50, config)
    batch = make_batch(lists, config)
    expected = [loop_sequence(row, 20) for row in lists.tolist()]
    assert batch.tokens.tolist() == expected
    assert batch.targets.tolist() == [row[6:] for row in expected]
    assert batch.tokens.dtype == batch.targets.dtype == torch.int64


def test_gaps_equal_the_loop_oracle():
    lists = draw_lists(stream(0, "test"), 50, TaskConfig(list_length=6, numbers=30))
    assert gaps(lists).tolist() == [loop_gaps(row) for row in lists.tolist()]


@pytest.mark.parametrize(("numbers", "length"), [(5, 2), (7, 3), (9, 4), (6, 6), (12, 5)])
def test_mean_gap_is_the_exact_expectation(numbers, length):
    # all C(N, L) sets are equally likely; Fractions keep the enumeration exact
    every = [g for chosen in combinations(range(numbers), length) for g in loop_gaps(list(chosen))]
    exact = Fraction(sum(every), len(every))
    assert mean_gap(TaskConfig(list_length=length, numbers=numbers)) == pytest.approx(
        float(exact), rel=1e-15
    )


def test_gaps_of_drawn_lists_have_the_enumerated_distribution():
    # the first gap alone: gaps of one list are not independent of each other
    numbers, length, count = 7, 3, 60_000
    sets = [loop_gaps(list(c))[0] for c in combinations(range(numbers), length)]
    drawn = gaps(
        draw_lists(stream(5, "test"), count, TaskConfig(list_length=length, numbers=numbers))
    )[:, 0]
    values = sorted(set(sets))
    expected = [sets.count(v) / len(sets) * count for v in values]
    assert set(drawn.tolist()) == set(values)
    assert stats.chisquare([int((drawn == v).sum()) for v in values], expected).pvalue > REJECT


def test_the_papers_baseline_has_a_mean_gap_of_52_elevenths():
    assert mean_gap(TaskConfig()) == 52 / 11
    lists = eval_batch(TaskConfig()).tokens[:, :10].numpy()
    per_list = gaps(lists).mean(1)
    assert abs(per_list.mean() - 52 / 11) < 5 * per_list.std() / np.sqrt(len(lists))


STEPS = [1, 2, 63, 64, 65, 128, 129, 1000]
TASKS = [TaskConfig(), NOISY, FINITE]
BACKWARDS = """
from devsort.sorting.config import TaskConfig
from devsort.sorting.task import train_batch

for task in {tasks}:
    batches = [train_batch(TaskConfig(**task), step, 16) for step in reversed({steps})]
    print([(b.tokens.tolist(), b.targets.tolist()) for b in reversed(batches)])
"""


def test_a_batch_is_a_function_of_its_step_alone():
    """Another process draws the same batches, in the other order."""
    code = BACKWARDS.format(tasks=[task.model_dump() for task in TASKS], steps=STEPS)
    drawn = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for line, task in zip(drawn.stdout.splitlines(), TASKS, strict=True):
        batches = [train_batch(task, step, 16) for step in STEPS]
        assert line == str([(b.tokens.tolist(), b.targets.tolist()) for b in batches])


def test_fresh_batches_differ_by_step_by_seed_and_from_the_evaluation_set():
    config = TaskConfig(eval_lists=16)
    batches = [train_batch(config, step, 16) for step in range(1, 131)]
    batches += [
        train_batch(TaskConfig(seed=1), 1, 16),
        eval_batch(config),
        eval_batch(TaskConfig(seed=1, eval_lists=16)),
    ]
    # 10 of 51 numbers in order: two equal lists among 2,000 are a chance of 5e-11
    assert len({tuple(row) for b in batches for row in b.tokens.tolist()}) == 16 * len(batches)


def test_data_are_pinned():
    # a run is defined by its config: a change of these numbers changes every published run
    assert train_batch(TaskConfig(), 1, 512).tokens[0, :10].tolist() == [
        45,
        26,
        42,
        46,
        5,
        8,
        33,
        3,
        49,
        43,
    ]
    assert eval_batch(TaskConfig(eval_lists=4096)).tokens[0, :10].tolist() == [
        13,
        47,
        17,
        7,
        5,
        4,
        15,
        33,
        22,
        48,
    ]


@pytest.mark.parametrize("batch_size", [10, 16, 50, 7, 120], ids="batch of {}".format)
def test_epochs_visit_each_list_exactly_once(batch_size):
    epochs = 4
    steps = -(-epochs * FINITE.train_lists // batch_size)
    rows = [
        tuple(r)
        for s in range(1, steps + 1)
        for r in train_batch(FINITE, s, batch_size).tokens.tolist()
    ]
    size = FINITE.train_lists
    visited = [rows[e * size : (e + 1) * size] for e in range(epochs)]
    assert all(sorted(epoch) == sorted(visited[0]) for epoch in visited)
    assert len({tuple(epoch) for epoch in visited}) == epochs  # each in its own order


def test_each_order_of_an_epoch_is_equally_likely():
    config = TaskConfig(list_length=2, numbers=30, train_lists=3, seed=4)
    first = [tuple(r) for r in train_batch(config, 1, 3).tokens.tolist()]
    assert len(set(first)) == 3
    orders = [
        [first.index(tuple(r)) for r in train_batch(config, epoch, 3).tokens.tolist()]
        for epoch in range(1, 6001)
    ]
    assert p_value(np.array(orders), list(permutations(range(3)))) > REJECT


@pytest.mark.parametrize("noise", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("finite", [None, 8192], ids=["fresh", "finite"])
def test_label_noise_has_its_rate_and_leaves_contexts_clean(noise, finite):
    config = TaskConfig(list_length=4, numbers=9, label_noise=noise, train_lists=finite)
    batch = train_batch(config, 1, 8192)
    answers = batch.tokens[:, 5:]
    assert torch.equal(answers, batch.tokens[:, :4].sort(1).values)
    changed = (batch.targets != answers).double().mean().item()
    expected = noise * (1 - 1 / 9)  # a random number is the right one once in N times
    assert abs(changed - expected) < 5 * np.sqrt(expected * (1 - expected) / answers.numel())
    assert batch.targets.min() >= 0
    assert batch.targets.max() < 9  # never SEP


def test_noisy_targets_are_uniform_numbers():
    config = TaskConfig(list_length=4, numbers=9, label_noise=1.0)
    assert p_value(train_batch(config, 1, 8192).targets.flatten().numpy(), list(range(9))) > REJECT


def test_label_noise_changes_targets_and_no_list():
    clean = TaskConfig(list_length=4, numbers=9)
    assert torch.equal(train_batch(NOISY, 1, 64).tokens, train_batch(clean, 1, 64).tokens)
    assert torch.equal(train_batch(clean, 1, 64).targets, train_batch(clean, 1, 64).tokens[:, 5:])


def test_a_list_of_a_finite_set_keeps_its_noisy_targets_in_every_epoch():
    config = TaskConfig(list_length=3, numbers=12, train_lists=50, label_noise=0.5)
    epochs = [train_batch(config, epoch, 50) for epoch in (1, 2, 3)]
    seen = [sorted(zip(e.tokens.tolist(), e.targets.tolist(), strict=True)) for e in epochs]
    assert seen[0] == seen[1] == seen[2]


def test_the_evaluation_set_is_fixed_and_clean():
    plain = eval_batch(TaskConfig(eval_lists=100))
    other = eval_batch(TaskConfig(eval_lists=100, label_noise=1.0, train_lists=10))
    assert torch.equal(plain.tokens, other.tokens)
    assert torch.equal(other.targets, other.tokens[:, 11:])
    assert torch.equal(eval_batch(TaskConfig(eval_lists=100), 30).tokens, plain.tokens[:30])


def test_a_batch_is_indexed_like_a_tensor():
    batch = train_batch(TaskConfig(), 1, 8)
    part = batch[torch.tensor([3, 1])].to("cpu")
    assert isinstance(part, Batch)
    assert len(part) == 2
    assert torch.equal(part.tokens, batch.tokens[[3, 1]])
    assert torch.equal(batch[2:5].targets, batch.targets[2:5])
