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


def test_shares_are_equal_where_nothing_is_needed():
    share = ranges.shares(table(np.zeros((2, 60))), CONFIG)
    np.testing.assert_allclose(share, 0.5)
    share = ranges.shares(table(np.zeros((4, 1)), [[7.0], [0], [-2], [0]]), CONFIG)
    assert share.sum() == pytest.approx(1)
    assert share[0, 0] == pytest.approx((7 + 0.07 / 4) / 7.07)


def test_owner_is_the_head_that_is_needed_most():
    found = ranges.owner(table(np.zeros((2, 4)), [[5, 1, 0.2, 0], [1, 5, 0.1, 0.7]]), CONFIG)
    assert found.tolist() == [0, 1, -1, 1]
