"""Arrays as text: what comes back, and what is refused."""

import numpy as np
import pytest
from pages import unpacked

from devsort.explorer.packing import BYTE, HALF, SINGLE, numbers, packed


@pytest.mark.parametrize(("kind", "precision"), [(HALF, 2**-11), (SINGLE, 2**-24)])
def test_numbers_come_back_to_the_precision_of_their_kind(kind, precision):
    values = np.array([[1 / 3, -2e-3, 6e4], [0.0, np.nan, 7.0]])
    found = unpacked(packed(values, kind))
    assert found.shape == (2, 3) and np.isnan(found[1, 1])
    np.testing.assert_allclose(found, values, rtol=precision)


def test_bytes_come_back_exactly():
    values = np.arange(256).reshape(16, 16)
    np.testing.assert_array_equal(unpacked(packed(values, BYTE)), values)


def test_the_layout_is_little_endian_row_by_row():
    assert packed([[1.0], [-2.0]], HALF) == {"type": "<f2", "shape": [2, 1], "data": "ADwAwA=="}


def test_what_half_precision_cannot_hold_is_refused():
    with pytest.raises(OverflowError, match=r"^70000 does not fit <f2$"):
        packed([1.0, 7e4], HALF)


def test_numbers_are_finite_or_null():
    assert numbers([1.23456789, np.nan, -np.inf]) == [1.23457, None, None]
