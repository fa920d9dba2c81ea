"""Trajectories from anywhere: read, repaired with a note, or refused in one line."""

import numpy as np
import pytest
from folders import told
from stages.datasets import llc_table

from devsort.stages import from_llc, read_csv


def written(tmp_path, text):
    path = tmp_path / "t.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_reads_columns_in_any_order_and_ignores_others(tmp_path):
    t = read_csv(
        written(tmp_path, "loss,Step,name,se,llc\n3,1,a,1,10\n2,10,b,2,20\n1,100,c,3,30\n")
    )
    assert t.step.tolist() == [1, 10, 100] and t.llc.tolist() == [10, 20, 30]
    assert t.se.tolist() == [1, 2, 3] and t.loss.tolist() == [3, 2, 1] and t.notes == ()


def test_unsorted_rows_and_nans_are_repaired_and_told(tmp_path):
    t = read_csv(written(tmp_path, "step,llc,se\n100,30,3\n1,10,1\n10,nan,2\n1000,40,\n5,15,0\n"))
    assert t.step.tolist() == [1, 5, 100, 1000]
    assert t.se.tolist() == [1, 2, 3, 2]  # the median of 1 and 3 where there is none
    assert t.notes == (
        "1 rows without a finite llc were left out",
        "rows were sorted by step",
        "2 points without a positive se were given one",
    )


def test_an_error_below_the_rounding_of_the_values_is_none(tmp_path):
    t = read_csv(written(tmp_path, "step,llc,se\n1,10,1e-200\n2,20,3\n3,30,3\n"))
    assert t.se.tolist() == [3, 3, 3] and t.notes == (
        "1 points without a positive se were given one",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("step,llc,se\n1,10,1\n", "has 1 points, expected 3 or more; add points"),
        ("", "has no column step and no llc (got nothing); name them in the first line"),
        ("time,llc\n1,2\n", "has no column step (got time, llc); name them in the first line"),
        ("step,llc,se\n1,1,1\n2,2,1\n2,3,1\n", ": step 2 is there twice; keep one row a step"),
        (
            "step,llc,se\n1,1,1\n2,high,1\n3,3,1\n",
            " line 3: llc is 'high', expected a number; mend the line",
        ),
        (
            "step,llc,se\n0,1,1\n2,2,1\n3,3,1\n",
            ": step 0 has no logarithm to place it at; start at step 1, all steps finite",
        ),
        (
            "step,llc,se\n1,1,1\n2,-1e150,1\n3,3,1\n",
            " line 3: llc is -1e+150, beyond 1e+12; mend the line",
        ),
        (
            "step,llc,se\n1,nan,1\n2,,1\n3,3,1\n",
            "has 1 points with a finite llc, expected 3 or more; add points",
        ),
        (
            "step,llc,se\n1,1,1\n2,inf,1\n3,3,1\n",
            "has 2 points with a finite llc, expected 3 or more; add points",
        ),
        (
            "step,llc,se\n1,1,1\n2,1e300,1\n3,3,1\n",
            " line 3: llc is 1e+300, beyond 1e+12; mend the line",
        ),
        (
            "step,llc,se\n,1,1\n2,2,1\n3,3,1\n",
            ": step nan has no logarithm to place it at; start at step 1, all steps finite",
        ),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path, text, message):
    path = written(tmp_path, text)
    assert told(read_csv, path).removeprefix(str(path)).strip() == message.strip()


def test_a_file_that_would_take_for_ever_is_refused(tmp_path):
    path = written(tmp_path, "step,llc\n" + "".join(f"{i},1\n" for i in range(1, 2002)))
    many = f"{path} has 2001 points, expected 2000 or fewer; keep some, over log step"
    assert told(read_csv, path) == many
    with open(path, "r+b") as f:
        f.truncate(2**24 + 1)  # no byte of it is read
    fix = "keep the columns step, llc, se and loss alone"
    assert told(read_csv, path) == f"{path} is larger than 16,777,216 bytes; {fix}"


def test_a_missing_and_a_binary_file_are_refused(tmp_path):
    path = tmp_path / "b.csv"
    fix = "give a CSV with the columns step, llc, se and optionally loss"
    assert told(read_csv, path) == f"{path} is missing; {fix}"
    path.write_bytes(b"\xff\xfe\x00\x01")
    message = told(read_csv, path)
    assert message.startswith(f"{path} is no readable CSV (")
    assert message.endswith("); save it as UTF-8 text with commas")


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


def test_a_table_without_errors_invents_none_and_has_no_note_of_it(tmp_path):
    t = read_csv(written(tmp_path, "step,llc\n1,10\n10,20\n100,30\n"))
    assert np.isnan(t.se).all() and t.notes == ()


def test_steps_may_count_tokens(tmp_path):
    t = read_csv(written(tmp_path, "step,llc,se\n1e6,10,1\n1e9,20,1\n1e13,30,1\n"))
    assert t.step.tolist() == [1e6, 1e9, 1e13]
    path = written(tmp_path, "step,llc,se\n1,10,1\n2,20,1\n1e19,30,1\n")
    assert told(read_csv, path) == f"{path} line 4: step is 1e+19, beyond 1e+18; mend the line"


def test_the_loss_as_a_signal_tells_no_errors():
    others = from_llc(llc_table(), also=("loss", "h0")).others
    assert np.isnan(others[0, :, 1]).all() and np.isfinite(others[1]).all()
