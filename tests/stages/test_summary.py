"""Peak, final value and fall of a trajectory, with the intervals that its table holds."""

import json

import numpy as np
import pytest
from stages.datasets import llc_table

from devsort.stages.summary import FIGURES, summary


def test_figures_of_a_trajectory():
    found = summary(llc_table())
    assert found["peak_llc"] == pytest.approx(900, rel=0.15)
    assert found["final_llc"] == pytest.approx(300, rel=0.15)
    assert found["peak_step_ci95"][0] <= 300 <= found["peak_step_ci95"][1] * 1.3
    assert found["fall"] == pytest.approx(found["peak_llc"] - found["final_llc"])
    assert found["flagged"] == pytest.approx(1 / 44, abs=0.01)
    json.dumps(found, allow_nan=False)


def test_intervals_are_those_of_the_table():
    table = llc_table()
    full, found = table.sel(restriction="full"), summary(table)
    top = int(full.llc.values.argmax())
    for key, at in (("peak_llc", top), ("final_llc", -1)):
        assert found[f"{key}_ci95"] == pytest.approx(full.ci95[at].values.tolist())
        assert found[f"{key}_se"] == pytest.approx(float(full.se[at]))
    halves = np.diff(full.ci95.values)[[top, -1], 0] / 2
    low, high = found["fall_ci95"]
    assert (high - low) / 2 == pytest.approx(np.hypot(*halves))
    assert found["fall_se"] == pytest.approx(np.hypot(*full.se.values[[top, -1]]))


def test_a_trajectory_that_ends_at_its_peak_does_not_fall():
    found = summary(llc_table(edges=(1, 6000), levels=(20.0, 900.0), noise=0.001))
    assert (found["fall"], found["fall_se"], found["fall_ci95"]) == (0, 0, [0, 0])


def test_without_a_finite_estimate_nothing_is_known():
    table = llc_table()
    table.llc[:] = np.nan
    found = summary(table)
    assert found.pop("flagged") == pytest.approx(1 / 44, abs=0.01)
    assert set(found) > {"peak_step", *FIGURES} and set(found.values()) == {None}


def test_a_figure_carries_the_flags_of_the_estimates_behind_it():
    table = llc_table()
    full = table.sel(restriction="full")
    top = int(full.llc.values.argmax())
    table.flags[top, 0] = [True, False]
    table.flags[-1, 0] = [True, True]
    table.flags[-1, 1] = True  # of a head, which the whole model's figures do not rest on
    found = summary(table)
    assert found["peak_llc_flags"] == ["diverged"]
    assert found["final_llc_flags"] == found["fall_flags"] == ["diverged", "drift"]
    assert summary(llc_table())["fall_flags"] == []


def test_an_estimate_without_an_error_has_no_interval():
    table = llc_table()
    table["se"][:] = table["ci95"][:] = np.nan
    found = summary(table)
    for key in FIGURES:
        assert np.isfinite(found[key])
        assert found[f"{key}_se"] is None and found[f"{key}_ci95"] is None
