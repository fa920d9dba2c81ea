"""Scores and labels on tables whose answer is known."""

import numpy as np
import pytest
from tables import table

from devsort.rng import stream
from devsort.sorting.config import HeadsConfig
from devsort.sorting.heads import modes

CONFIG = HeadsConfig()
N = 60


def owned(owners, heads=2, strength=8.0):
    return strength * (np.asarray(owners) == np.arange(heads)[:, None])


def named(t, config=CONFIG):
    return [
        name for name, holds in zip(modes.LABELS, modes.labels(t, config), strict=True) if holds
    ]


BLOCKS = np.repeat([0, 1], N // 2)


def test_split_score_of_hard_shares_by_hand():
    """Two halves.

    Neighbours agree in N − 2 of N − 1 pairs, by chance in half: (1 − 1/59 − ½) / ½.
    """
    score = modes.split_score(owned(BLOCKS, strength=1.0), CONFIG)
    assert score == pytest.approx((1 - 1 / 59 - 0.5) / 0.5)


def test_random_order_scores_zero_on_average_and_is_called_a_split_in_fewer_than_one_of_200():
    rng = stream(0, "speckle")
    found, called = [], 0
    for _ in range(500):
        share = owned(rng.integers(0, 2, N), strength=1.0)
        agreement, chance = (share[:, 1:] * share[:, :-1]).sum(0).mean(), (share.mean(1) ** 2).sum()
        found.append((agreement - chance) / (1 - chance))
        assert modes.split_score(share, CONFIG) == pytest.approx(max(found[-1], 0))
        called += "vocabulary-splitting" in named(table(8 * share))
    assert abs(np.mean(found)) < 0.03  # before the cut at 0; standard error 0.006, bias −1/59
    assert called <= 2  # of 500


def test_one_head_alone_or_equal_shares_score_zero():
    assert modes.split_score(np.ones((1, N)), CONFIG) == 0
    assert modes.split_score(np.full((2, N), 0.5), CONFIG) == 0
    assert modes.split_score(owned(np.zeros(N), strength=1.0), CONFIG) == 0


def test_a_head_that_owns_one_number_makes_no_split():
    owners = np.zeros(N)
    owners[-1] = 1
    assert modes.split_score(owned(owners, strength=1.0), CONFIG) < 0.15


@pytest.mark.parametrize(
    ("effect", "increase", "labels"),
    [
        ([8 * np.ones(N)], None, []),
        (owned(BLOCKS), None, ["vocabulary-splitting"]),
        (owned(np.arange(N) // 10 % 2), None, ["vocabulary-splitting"]),
        (8 * np.ones((2, N)), np.zeros((2, N)), ["overlapping"]),
        ([8 * np.ones(N), np.where(np.arange(N) < 12, -3.0, 0)], None, ["copy-suppression"]),
        ([8 * np.ones(N), np.where(np.arange(N) < 12, -1.2, 0)], None, ["copy-suppression"]),
        ([20 * np.ones(N), np.where(np.arange(N) < 12, -1.8, 0)], None, []),  # undoes 9 %
        ([8 * np.ones(N), np.where(np.arange(N) < 12, -0.9, 0)], None, []),  # less than a logit
        ([8 * np.ones(N), np.where(np.arange(N) < 4, -3.0, 0)], None, []),  # 4 of 60 numbers
        ([*owned(BLOCKS), -3.0 * BLOCKS], None, ["vocabulary-splitting", "copy-suppression"]),
        ([0.5 * np.ones(N), np.zeros(N)], None, ["unformed"]),
        ([-8 * np.ones(N), np.zeros(N)], None, ["unformed"]),  # nobody copies: nothing to suppress
    ],
    ids=["one head", "split", "regions", "overlap", "suppression",
         "15 %", "9 %", "too weak", "too few", "both", "unformed", "negative"],
)  # fmt: skip
def test_labels(effect, increase, labels):
    assert named(table(effect, increase)) == labels


def test_a_positive_diagonal_in_both_heads_is_a_split_if_attention_and_ablation_say_so():
    """The copy effect holds the attention: a head that copies what it never looks at has none."""
    diagonal, attention = 8 * np.ones((2, N)), owned(BLOCKS, strength=0.9)
    assert named(table(diagonal * attention)) == ["vocabulary-splitting"]


def test_overlap_and_suppression_scores_by_hand():
    """A number that nobody copies is not suppressed, however low it is pushed."""
    t = table([[8, 8, 4, 0.5], [4, -2, -4, -9]])
    assert modes.overlap_score(t, CONFIG) == pytest.approx(0.5 / 4)
    assert modes.suppression_score(t, CONFIG) == pytest.approx((0 + 0.5 + 1 + 0) / 4)


@pytest.mark.parametrize(("z", "named_so"), [(3.0, True), (2.9, False), (-50.0, False)])
def test_suppression_must_be_earned(z, named_so):
    t = table([8 * np.ones(N), np.where(np.arange(N) < 12, -3.0, 0)], z=[0.0, z])
    assert (named(t) == ["copy-suppression"]) == named_so


def test_two_heads_with_half_a_role_each_have_none():
    low = np.where(np.arange(N) < 4, -3.0, 0)
    assert named(table([8 * np.ones(N), low, low[::-1]])) == []


def test_strength_by_hand():
    t = table([[8, 8, 4, 0.5], [4, -2, -2, -9]], z=[0.0, 4.0])
    found = modes.strength(t, CONFIG)
    assert found["lowered_share"].tolist() == [0, 0.5]
    assert found["lowered_ratio"].tolist() == [0, pytest.approx((2 / 8 + 2 / 4) / 2)]
    assert found["suppression_z"].tolist() == [0, 4]


def test_more_than_two_heads_overlap_by_the_two_strongest():
    t = table([[1.0], [8.0], [6.0], [0.0]])
    assert modes.overlap_score(t, CONFIG) == pytest.approx(6 / 8)


def test_leading_axes_are_independent():
    stack = np.stack([owned(BLOCKS), 8 * np.ones((2, N)), np.zeros((2, N))])
    both = modes.scores(table(stack), CONFIG)
    one_by_one = [modes.scores(table(one), CONFIG) for one in stack]
    np.testing.assert_allclose(both, one_by_one)
    assert modes.labels(table(stack), CONFIG).shape == (3, 4)
