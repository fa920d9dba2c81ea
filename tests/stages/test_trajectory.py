"""A trajectory: taken from an LLC table, with what is missing left out and told."""

import numpy as np
import pytest
from folders import told
from stages.datasets import llc_table

from devsort.stages import from_llc
from devsort.stages.trajectory import rough_noise


def test_from_llc_takes_the_whole_model_and_leaves_out_dead_checkpoints():
    table = llc_table()
    table.llc[5, 0] = np.nan
    t = from_llc(table)
    assert len(t) == table.sizes["checkpoint"] - 1 and t.chains.shape == (len(t), 4)
    assert t.flagged.sum() == 1 and t.notes == (
        "1 checkpoints without a finite estimate were left out",
    )


def test_from_llc_names_a_missing_restriction():
    message = "x.zarr has no restriction h7, only full, h0, h1; sample it too"
    assert told(from_llc, llc_table(), "x.zarr", ("h7",)) == message


def test_rough_noise_is_the_standard_deviation_of_white_noise_on_a_line():
    x = np.arange(20_000.0)
    y = 3 * x + 5 * np.random.default_rng(0).standard_normal(len(x))
    assert rough_noise(y) == pytest.approx(5, rel=0.03)
