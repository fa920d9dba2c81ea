"""A trajectory: taken from an LLC table, with what is missing left out and told."""

import numpy as np
from folders import told
from stages.datasets import llc_table
from stages.test_tables import written

from devsort.stages import from_llc, read_csv


def test_from_llc_takes_the_whole_model_and_leaves_out_dead_checkpoints():
    table = llc_table()
    table.llc[5, 0] = np.nan
    t = from_llc(table)
    assert len(t) == table.sizes["checkpoint"] - 1 and t.chains.shape == (len(t), 4)
    assert t.flagged.sum() == 1 and t.notes == (
        "1 checkpoints without a finite estimate were left out",
    )


def test_from_llc_names_a_missing_restriction():
    message = "x.zarr has no restriction h7, only full, h0, h1; sample it as well"
    assert told(from_llc, llc_table(), "x.zarr", ("h7",)) == message


def test_a_table_without_errors_invents_none_and_has_no_note_of_it(tmp_path):
    t = read_csv(written(tmp_path, "step,llc\n1,10\n10,20\n100,30\n"))
    assert np.isnan(t.se).all() and t.notes == ()


def test_steps_may_count_tokens(tmp_path):
    t = read_csv(written(tmp_path, "step,llc,se\n1e6,10,1\n1e9,20,1\n1e13,30,1\n"))
    assert t.step.tolist() == [1e6, 1e9, 1e13]
    path = written(tmp_path, "step,llc,se\n1,10,1\n2,20,1\n1e19,30,1\n")
    assert told(read_csv, path) == f"{path} line 4: step is 1e+19, beyond 1e+18; correct the line"


def test_the_loss_as_a_signal_tells_no_errors():
    others = from_llc(llc_table(), also=("loss", "h0")).others
    assert np.isnan(others[0, :, 1]).all() and np.isfinite(others[1]).all()
