"""Axes at any range: all data inside, labels that can be read."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from devsort.charts import axes


def panel():
    return Figure(figsize=(6, 2)).subplots()


def labels(axis):
    axis.axes.figure.draw_without_rendering()
    low, high = sorted(axis.get_view_interval())
    ticks = zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True)
    return [text.get_text() for at, text in ticks if low <= at <= high and text.get_text()]


@pytest.mark.parametrize("scale", ["log", "linear"])
@pytest.mark.parametrize(
    ("low", "high"),
    [(1, 6000), (100, 50_000), (1e6, 5.12e8), (1e6, 1e13), (2000, 6000), (1e12, 1.1e12)],
)
def test_steps_have_two_labels_or_more_that_do_not_touch(scale, low, high):
    ax = panel()
    axes.over_steps(ax, scale, low, high)
    assert len(labels(ax.xaxis)) >= 2 and ax.get_xscale() == scale
    boxes = [t.get_window_extent() for t in ax.get_xticklabels() if t.get_text()]
    inside = [b for b in boxes if 0 <= b.x0 <= 600]
    assert not any(a.overlaps(b) for i, a in enumerate(inside) for b in inside[:i])


@pytest.mark.parametrize(
    ("first", "last", "scale"),
    [(9.0, 2.7, "linear"), (4.0, 0.04, "log"), (11.0, 1.0, "log"), (2.9, 2.7, "linear"),
     (1e-3, 1e-9, "log"), (5.0, 5.0, "linear")],
)  # fmt: skip
def test_a_loss_of_any_range_has_labels(first, last, scale):
    ax, loss = panel(), np.linspace(first, last, 10)
    axes.over_loss(ax, loss)
    low, high = ax.get_ylim()
    assert ax.get_yscale() == scale and low <= loss.min() and loss.max() <= high
    assert len(labels(ax.yaxis)) >= 2


@pytest.mark.parametrize(
    ("low", "high", "bottom"), [(140, 180, 137.6), (10, 180, 0), (-20, 180, -32), (7, 7, 6.58)]
)
def test_values_start_at_zero_unless_that_flattens_them(low, high, bottom):
    ax = panel()
    axes.over_values(ax, [np.array([low, high])], [])
    assert ax.get_ylim()[0] == pytest.approx(bottom)
    assert ax.get_ylim()[1] > high


def test_intervals_are_held_unless_they_dwarf_the_values():
    ax, values = panel(), [np.array([50.0, 60.0]), np.array([55.0, 70.0])]
    axes.over_values(ax, values, [np.array([[45.0, 80.0]])])
    assert ax.get_ylim()[0] < 45 and ax.get_ylim()[1] > 80
    axes.over_values(ax, values, [np.array([[-500.0, 500.0]])])
    assert 40 < ax.get_ylim()[0] < 50 and 70 < ax.get_ylim()[1] < 80


@pytest.mark.parametrize(("flagged", "bottom"), [(-10, -13.6), (-500, 0)])
def test_a_flagged_value_is_inside_unless_it_dwarfs_the_others(flagged, bottom):
    ax = panel()
    axes.over_values(ax, [np.array([20.0, 50.0])], [], [np.array([flagged])])
    assert ax.get_ylim()[0] == pytest.approx(bottom)
    assert 50 < ax.get_ylim()[1] < 60


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.5, "0.5"), (-500, "−500"), (20_000, "20,000"), (1e6, "$10^{6}$"),
     (5e8, "$5·10^{8}$"), (-3e-7, "$-3·10^{-7}$")],
)  # fmt: skip
def test_numbers_are_written_out_or_as_powers(value, text):
    assert axes.number(value) == text
