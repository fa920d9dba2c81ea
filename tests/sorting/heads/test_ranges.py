"""Ranges, shares and owners on tables whose answer is known."""

import numpy as np
import pytest
from tables import table

from devsort.sorting.config import HeadsConfig
from devsort.sorting.heads import ranges

CONFIG = HeadsConfig()


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ([0, 0, 0], []),
        ([1, 1, 1], [[0, 2]]),
        ([1, 0, 1, 1], [[0, 0], [2, 3]]),
        ([0, 1, 0], [[1, 1]]),
    ],
)
def test_ranges(mask, expected):
    assert ranges.ranges(np.array(mask, bool)) == expected


@pytest.mark.parametrize(
    ("owners", "count"),
    [([0, 0, 1], 2), ([0, -1, 0], 1), ([-1, -1], 0), ([0, 1, -1, 1, 0], 3), ([2], 1)],
)
def test_regions(owners, count):
    assert ranges.regions(np.array(owners)) == count


def test_a_ratio_is_to_the_head_that_copies():
    found = ranges.ratio(table([[8, 0.5, 8, 2], [-2, -5, 4, 8]]), CONFIG)
    np.testing.assert_allclose(found, [[np.nan] * 3 + [0.25], [-0.25, np.nan, 0.5, np.nan]])


def test_a_head_lowers_what_another_copies_by_a_tenth_and_a_logit():
    effect = [[20, 20, 8, 8, 0.9], [-2, -1.9, -1, -0.9, -5]]
    assert ranges.lowers(table(effect), CONFIG)[1].tolist() == [True, False, True, False, False]
    kept = ranges.suppresses(table(effect, z=[9.0, 2.0]), CONFIG)
    assert not kept.any()


def test_shares_are_equal_where_nothing_is_needed():
    share = ranges.shares(table(np.zeros((2, 60))), CONFIG)
    np.testing.assert_allclose(share, 0.5)
    share = ranges.shares(table(np.zeros((4, 1)), [[7.0], [0], [-2], [0]]), CONFIG)
    assert share.sum() == pytest.approx(1)
    assert share[0, 0] == pytest.approx((7 + 0.07 / 4) / 7.07)


def test_owner_is_the_head_that_is_needed_most():
    found = ranges.owner(table(np.zeros((2, 4)), [[5, 1, 0.2, 0], [1, 5, 0.1, 0.7]]), CONFIG)
    assert found.tolist() == [0, 1, -1, 1]
