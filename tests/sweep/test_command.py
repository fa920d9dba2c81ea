"""`devsort sweep`.

What it prints, its exit codes, its tables, and that finished work is not opened again.
"""

import json

import pandas as pd
import pytest
from commands import devsort, last_line
from sweeps import sweep_here, write_study

from devsort.storage.files import locked
from devsort.sweep import load_table, load_trajectories, read_study, table
from devsort.sweep.cell import Outcome


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A sweep of three cells, of which one fails: result, study file, folder."""
    folder = tmp_path_factory.mktemp("command")
    groups = {
        "plain": {"grid": {"seed": [0, 1]}},
        "wild": {"set": {"train.lr": 1e11, "model.layer_norm": False, "train.steps": 200}},
    }
    path = write_study(folder, groups=groups)
    return sweep_here(path, "--out", folder / "out", "--json"), path, folder / "out"


def test_one_json_object_and_one_line_for_what_failed(done):
    result, path, out = done
    value = json.loads(result.out)
    assert result.code == 2
    assert value.items() >= {
        "study": str(path), "out": str(out),
        "cells": 3, "done": 2, "failed": 1, "waiting": 0, "defects": 0,
    }.items()  # fmt: skip
    assert [r["cell"] for r in value["rows"]] == ["plain-seed0", "plain-seed1", "wild"]
    wild = value["rows"][2]
    assert wild["error"].startswith("training diverged by step ")
    assert (
        last_line(result.err)
        == f"devsort: error: 1 of 3 cells failed, the first is wild: {wild['error']}"
    )


def test_the_tables_hold_the_rows_in_parquet_and_csv(done):
    result, _, out = done
    value, found = json.loads(result.out), load_table(out)
    assert value["files"] == [
        str(out / f"{n}.{e}") for n in table.KINDS for e in ("parquet", "csv")
    ]
    assert found.cell.tolist() == ["plain-seed0", "plain-seed1", "wild"]
    assert found.loss[:2].tolist() == [r["loss"] for r in value["rows"][:2]]
    assert found["train.lr"].tolist() == [0.001, 0.001, 1e11] and found.seed.tolist() == [0, 1, 0]
    assert pd.isna(found.loss[2]) and pd.isna(found.error[0])
    assert (out / "table.csv").read_text() == found.to_csv(index=False)
    points = load_trajectories(out)
    assert points.groupby("cell").size().to_dict() == {"plain-seed0": 3, "plain-seed1": 3}


def test_the_text_has_a_line_a_cell_and_the_failures_below():
    rows = [
        {
            "cell": "a",
            "seed": 1,
            "loss": 0.5,
            "llc_peak": None,
            "labels": "overlapping",
            "error": None,
        },
        {"cell": "b", "seed": 2, "error": "went wrong"},
    ]
    assert table.text(rows, ["seed"]).splitlines() == [
        "cell  seed  loss    labels",
        "a     1     0.5000  overlapping",
        "b failed: went wrong",
    ]


def test_flags_stand_beside_the_numbers_that_carry_them():
    row = {"cell": "a", "llc_peak": 12.3, "llc_final": 4.0, "labels": "", "error": None}
    flags = {"llc_peak_flags": "negative;improper", "llc_final_flags": ""}
    assert table.text([row | flags], []).splitlines() == [
        "cell  llc_peak                llc_final  labels",
        "a     12 [negative;improper]  4",
    ]


def test_a_second_sweep_opens_no_finished_cell(done):
    _, path, out = done
    begun = []

    def engine(jobs):
        begun.extend(job.folder.name for job in jobs)
        return [Outcome(name, error="again") for name in begun]

    assert sweep_here(path, "--out", out, engine=engine).code == 2
    assert begun == ["wild"]
    begun.clear()
    sweep_here(path, "--out", out, "--force", engine=engine)
    assert begun == ["plain-seed0", "plain-seed1", "wild"]


def test_no_workers_only_gather(done):
    _, path, out = done
    result = sweep_here(path, "--out", out, "--workers", "0", engine=lambda _: pytest.fail("begun"))
    assert result.code == 0
    assert f"{path}: 2 of 3 cells done, 0 failed" in result.out.splitlines()


def test_a_defect_ends_with_1(done):
    _, path, out = done
    broken = Outcome("wild", error="KeyError: x", defect=True)
    result = sweep_here(path, "--out", out, engine=lambda _: [broken])
    told = "devsort: error: 1 of 3 cells failed, the first is wild: KeyError: x"
    assert (result.code, last_line(result.err)) == (1, told)


def test_a_cell_whose_folder_is_not_seen_is_told(done):
    _, path, out = done
    result = sweep_here(path, "--out", out, engine=lambda _: [Outcome("wild")])
    shared = f"nothing is in {out}: the nodes must share the file system"
    assert result.code == 2
    assert last_line(result.err).endswith(f"wild: its node finished it, but {shared}")


def test_the_study_is_kept_beside_its_cells(done):
    _, path, out = done
    assert (out / "study.yaml").read_bytes() == path.read_bytes()
    names = [c.name for c in read_study(out / "study.yaml").cells]
    assert names == ["plain-seed0", "plain-seed1", "wild"]


def test_two_sweeps_do_not_share_a_folder(done):
    _, path, out = done
    with locked(out):
        result = devsort("sweep", path, "--out", out)
    assert result.code == 2
    assert last_line(result.err).startswith(f"devsort: error: {out} is in use by process ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["nowhere.yaml"],
            "nowhere.yaml does not exist; give a study file, such as studies/small.yaml",
        ),
        (["nowhere.yaml", "--workers", "-1"], "Invalid value for '--workers': "),
    ],
)
def test_a_users_error_is_one_line(arguments, message):
    result = devsort("sweep", *arguments)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"devsort: error: {message}") and result.err.count("\n") == 1
