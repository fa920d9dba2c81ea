"""Means by number and their bootstrap."""

import numpy as np
import torch

from devsort.rng import torch_stream
from devsort.sorting.heads.measures import HEAD_MEASURES, Answers
from devsort.sorting.heads.tables import draw_weights, group_sums, tables

LISTS, L, H, N = 1000, 3, 2, 5


def answers(lists=LISTS):
    g = torch_stream(0, "tables")
    targets = torch.stack([torch.randperm(N, generator=g)[:L] for _ in range(lists)])
    values = {
        name: torch.randn(lists, H, L, generator=g) + i for i, name in enumerate(HEAD_MEASURES)
    }
    return Answers(targets, torch.zeros(lists, L), torch.ones(lists, L).bool(), values, 1.0)


def test_means_by_number_are_the_loop():
    a = answers(50)
    found = tables(*group_sums(a, N))
    for name in HEAD_MEASURES:
        for h in range(H):
            for t in range(N):
                expected = a.by_head[name][:, h][a.targets == t].mean()
                assert abs(found[name][h, t] - expected) < 1e-5


def test_a_number_that_never_occurs_has_mean_zero():
    found = tables(*group_sums(answers(50), N + 1))
    assert found["attention"][:, N].tolist() == [0, 0]


def test_bootstrap_spread_is_the_standard_error_of_the_mean():
    a = answers()
    counts, sums = group_sums(a, N)
    drawn = tables(counts, sums, draw_weights(len(counts), 2000, 0))["attention"]
    for t in range(N):
        values = a.by_head["attention"][:, 0][a.targets == t]
        expected = values.std() / len(values) ** 0.5
        # 256 groups: 5 % of noise, times three
        assert abs(drawn[:, 0, t].std() / expected - 1) < 0.15


def test_the_gain_over_all_answers_has_the_standard_error_of_a_mean_over_groups():
    a = answers(256)  # a group a list
    counts, sums = group_sums(a, N)
    found = tables(counts, sums)
    lists = a.by_head["suppression_gain"].double().mean(-1).numpy()  # (B, H)
    np.testing.assert_allclose(found["mean_suppression_gain"], lists.mean(0), rtol=1e-6)
    z = lists.mean(0) / (lists.std(0) / len(lists) ** 0.5)
    np.testing.assert_allclose(found["suppression_z"], z, rtol=1e-6)
    drawn = tables(counts, sums, draw_weights(len(counts), 7, 0))
    assert drawn["suppression_z"].shape == (7, H)


def test_no_suppression_has_no_gain():
    a = answers(50)
    a.by_head["suppression_gain"].zero_()
    found = tables(*group_sums(a, N))
    assert found["mean_suppression_gain"].tolist() == found["suppression_z"].tolist() == [0, 0]


def test_draws_take_as_many_groups_as_there_are():
    weights = draw_weights(40, 7, 0)
    assert weights.shape == (7, 40)
    assert (weights.sum(1) == 40).all()
    assert np.array_equal(weights, draw_weights(40, 7, 0))
    assert not np.array_equal(weights, draw_weights(40, 7, 1))
