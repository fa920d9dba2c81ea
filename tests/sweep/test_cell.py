"""A cell: the steps, the record, when it counts as finished, and how failures are told."""

import json
import shutil
from dataclasses import replace

import pytest
from sweeps import jobs_of, tiny_jobs, write_study

from devsort.sorting.artifacts import HEADS, LLC, STAGES
from devsort.sorting.checkpoints import read_log
from devsort.sorting.run import open_run
from devsort.storage.files import locked, remove
from devsort.sweep import cell as cell_module
from devsort.sweep import read_study
from devsort.sweep.cell import current_step, finished, run_cell


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A study of one cell, done: study, its cell, its folder."""
    folder = tmp_path_factory.mktemp("cell")
    study = read_study(write_study(folder))
    (job,) = jobs_of(study, folder / "out")
    assert run_cell(job).error is None
    return study, study.cells[0], job.folder


def test_the_row_is_what_the_artifacts_say(done):
    _, cell, folder = done
    row = finished(cell, folder)["row"]
    run = open_run(folder)
    llc, heads, stages, last = run.read(LLC), run.read(HEADS), run.read(STAGES), read_log(run)[-1]
    full, end = llc.sel(restriction="full"), heads.isel(checkpoint=-1)
    expected = (last["val_loss"], last["val_accuracy"], 20)
    assert (row["loss"], row["accuracy"], row["steps"]) == expected
    assert row["llc_final"] == float(full.llc[-1]) and row["llc_final_se"] == float(full.se[-1])
    at_peak = float(full.llc.sel(checkpoint=row["llc_peak_step"]))
    assert row["llc_peak"] == float(full.llc.max()) == at_peak
    assert row["llc_fall"] == pytest.approx(row["llc_peak"] - row["llc_final"], abs=1e-12)
    assert row["llc_final_h1"] == float(llc.llc.sel(restriction="h1")[-1])
    assert row["split_score"] == float(end.scores.sel(score="vocabulary_splitting"))
    labels = end.label.values[end.labels.values.astype(bool)]
    assert row["labels"].split(";") == list(map(str, labels))
    assert row["stages"] == len(stages["stages"]) == len(stages["boundaries"]) + 1
    assert row["window_from"] == stages["stages"][0]["from"]
    for column, figure in (
        ("llc_peak", "peak_llc"),
        ("llc_final", "final_llc"),
        ("llc_fall", "fall"),
    ):
        assert row[f"{column}_flags"] == ";".join(stages["summary"][f"{figure}_flags"])
    of_head = llc.sel(restriction="h1").isel(checkpoint=-1)
    raised = of_head.flag.values[of_head.flags.values.astype(bool)]
    assert row["llc_final_h1_flags"] == ";".join(raised)


def test_the_trajectory_has_every_sampled_checkpoint(done):
    _, cell, folder = done
    points, run = finished(cell, folder)["trajectory"], open_run(folder)
    llc = run.read(LLC)
    assert [p["step"] for p in points] == llc.checkpoint.values.tolist()
    assert [p["llc"] for p in points] == llc.llc.sel(restriction="full").values.tolist()
    at = run.read(HEADS).scores.sel(checkpoint=points[1]["step"], score="overlap")
    assert points[1]["overlap_score"] == float(at)


def test_without_an_llc_the_trajectory_has_every_checkpoint(done, tmp_path):
    """A group may have steps of its own."""
    study = read_study(write_study(tmp_path, groups={"few": {"steps": ["heads", "train"]}}))
    (job,) = jobs_of(study, tmp_path)
    assert run_cell(job).error is None
    (cell,) = study.cells
    assert cell.steps == ("train", "heads") and not (job.folder / "llc.zarr").exists()
    points, log = finished(cell, job.folder)["trajectory"], read_log(open_run(job.folder))
    heads = open_run(job.folder).read(HEADS)
    assert [p["step"] for p in points] == heads.checkpoint.values.tolist()
    assert points[-1]["loss"] == log[-1]["val_loss"] and "llc" not in points[0]
    at = heads.scores.sel(checkpoint=points[1]["step"], score="overlap")
    assert points[1]["overlap_score"] == float(at)


def test_progress_and_warnings_go_to_the_cells_log(done):
    log = (done[2] / "sweep.log").read_text()
    assert "train run" in log and "llc run" in log
    assert current_step(done[2]) is None


def copied(done, folder):
    """The finished cell again, in a folder that a test may harm."""
    study, cell, source = done
    shutil.copytree(source, folder / "run")
    return study, cell, folder / "run"


def test_a_finished_cell_counts_until_something_is_missing(done, tmp_path):
    _, cell, folder = copied(done, tmp_path)
    assert finished(cell, folder) and finished(replace(cell, steps=("train",)), folder)
    assert not finished(replace(cell, steps=(*cell.steps, "chart")), folder)
    remove(folder / "heads.zarr")
    assert not finished(cell, folder) and finished(replace(cell, steps=("train", "llc")), folder)


@pytest.mark.parametrize("harm", ["cut", "changed", "no object", "fewer keys", "missing"])
def test_a_damaged_record_does_not_count(done, tmp_path, harm):
    _, cell, folder = copied(done, tmp_path)
    path = folder / "cell.json"
    text = path.read_text()
    changed = text.replace('"accuracy": ', '"accuracy": 1', 1)
    assert changed != text
    fewer = json.dumps({k: v for k, v in json.loads(text).items() if k != "row"})
    texts = {"cut": text[:-20], "changed": changed, "no object": "[]", "fewer keys": fewer}
    path.write_text(texts[harm]) if harm in texts else path.unlink()
    assert finished(cell, folder) is None


def test_a_record_of_another_config_does_not_count(done, tmp_path):
    other = read_study(write_study(tmp_path, set={"stages.bootstrap": 21})).cells[0]
    _, _, folder = done
    assert finished(other, folder) is None


def test_a_changed_setting_redoes_only_what_depends_on_it(done, tmp_path):
    _, _, folder = copied(done, tmp_path)
    before = {p: p.stat().st_mtime_ns for p in (folder / "checkpoints").iterdir()}
    study = read_study(write_study(tmp_path, set={"stages.bootstrap": 21}))
    (job,) = jobs_of(study, tmp_path)
    assert run_cell(job).error is None
    assert finished(study.cells[0], folder)
    assert before == {p: p.stat().st_mtime_ns for p in (folder / "checkpoints").iterdir()}


def test_a_failed_cell_tells_one_line_and_leaves_no_record(done, tmp_path):
    _, _, folder = copied(done, tmp_path)
    study = read_study(write_study(tmp_path, set={"train.lr": 0.002}))
    (job,) = jobs_of(study, tmp_path)
    outcome = run_cell(job)
    assert outcome.error == (
        f"{folder}/checkpoints was trained from another config (train.lr was 0.001, is 0.002); "
        "undo the change, as with `--set train.lr=0.001`, "
        f"or run `devsort train {folder} --force` to discard it and start again"
    )
    assert not outcome.defect and finished(study.cells[0], folder) is None
    assert run_cell(replace(job, force=True)).error is None


def test_a_defect_is_told_apart_and_its_traceback_is_in_the_log(tmp_path, monkeypatch):
    def broken(run, force):
        raise ZeroDivisionError("by\nnothing")

    (job,) = tiny_jobs(tmp_path, steps=["train"])
    monkeypatch.setitem(cell_module.STEPS, "train", broken)
    outcome = run_cell(job)
    assert outcome.defect and outcome.error == "ZeroDivisionError: by nothing"
    assert "Traceback" in (job.folder / "sweep.log").read_text()
    assert current_step(job.folder) is None


def test_a_folder_that_stays_in_use_is_a_users_error(tmp_path, monkeypatch):
    (job,) = tiny_jobs(tmp_path, steps=["train"])
    monkeypatch.setattr(cell_module, "PATIENCE", 0.3)
    job.folder.mkdir(parents=True)
    with locked(job.folder):
        outcome = run_cell(job)
    assert outcome.error.startswith(f"{job.folder} is in use by process ") and not outcome.defect


def test_a_full_disk_is_a_users_error(tmp_path):
    (job,) = tiny_jobs(tmp_path, steps=["train"])
    job.folder.parent.write_text("a file where the folder should be")
    outcome = run_cell(job)
    assert "cannot be written" in outcome.error and not outcome.defect
