"""The stages step on an LLC table and head scores that are known, and the command on a CSV."""

import json
from itertools import pairwise
from unittest.mock import ANY

import numpy as np
import pytest
import xarray as xr
from commands import devsort
from folders import told
from stages.datasets import EVENTS, STEPS, head_scores, llc_table

from devsort.llc.store import Plan, open_store, write_table
from devsort.sampling import Trace
from devsort.sorting.artifacts import HEADS, LLC, STAGES
from devsort.sorting.run import Run, open_run
from devsort.sorting.samplers import settings
from devsort.sorting.stages import run_stages
from devsort.stages import read_csv
from devsort.stages.report import find_stages, table
from devsort.storage.datasets import write_dataset
from devsort.storage.files import remove

STAGE_KEYS = {"name", "from", "to", "llc", "loss"}
SHORT = ("llc.sampler.num_chains=4", "llc.sampler.num_draws=1", "llc.sampler.num_burnin_steps=0")


def write_llc(run: Run, seed: int = 0) -> None:
    """llc.zarr of a run with a table that is known, whatever its draws."""
    found = with_objects(llc_table(seed=seed))
    half = xr.DataArray([-2.0, 2.0], dims="bound")
    found = found.assign(ci95=found.llc + half * found.se)
    plan = Plan(STEPS.tolist(), found.restriction.values.tolist(), (), settings(run))
    remove(run.llc)
    store = open_store(run.llc, run.origin(LLC), plan)
    one, none = np.full((4, 1), 0.1 + seed, np.float32), np.zeros((4, 0), np.float32)
    trace = Trace(one, one, one, one, one, one, none, none, {}, 1, plan.sampler)
    for position in range(len(STEPS)):
        store.write(position, [trace] * 3)
    write_table(store, found)


def with_objects(dataset: xr.Dataset) -> xr.Dataset:
    """The same with names as the pipeline writes them."""
    names = {n: c.astype(object) for n, c in dataset.coords.items() if c.dtype.kind == "U"}
    return dataset.assign_coords(names)


@pytest.fixture
def measured_run(saved_run) -> Run:
    """A run whose LLC table and head scores are known."""
    run = open_run(saved_run.path, SHORT)
    write_llc(run)
    heads = with_objects(head_scores()).assign_attrs(events=json.dumps(EVENTS))
    write_dataset(run.heads, heads, run.origin(HEADS))
    return run


def again(run: Run) -> Run:
    """The run as another process finds it."""
    return open_run(run.path, SHORT)


def test_the_json_of_a_run(measured_run):
    value = run_stages(measured_run)
    stages, (event,) = value["stages"], value["events"]
    assert [round(b["step"], -1) for b in value["boundaries"]] == pytest.approx([30, 300], rel=0.15)
    assert all(b["ci95"][0] <= b["step"] <= b["ci95"][1] for b in value["boundaries"])
    assert [s["llc"] for s in stages] == ["flat", "rising", "falling"]
    assert [s["loss"] for s in stages] == ["flat", "falling", "flat"]
    names = ["unnamed", "initial learning", "head specialization"]
    assert [s["name"] for s in stages] == names
    assert all(s.keys() >= STAGE_KEYS for s in stages)
    assert all(a["to"] == b["from"] for a, b in pairwise(stages))
    assert event["stage"] == "head specialization"
    assert event["boundary_distance_log10"] == pytest.approx(0.37, abs=0.05)
    assert again(measured_run).read(STAGES) == value
    written = json.loads(measured_run.stages.read_text())
    assert {**value, "provenance": ANY} == {"run": str(measured_run.path), **written}
    text = table(value)
    assert "initial learning" in text and "split_onset at step 700: in stage 3" in text


def test_the_summary_is_that_of_the_table(measured_run):
    value, full = run_stages(measured_run)["summary"], llc_table().sel(restriction="full")
    top = int(full.llc.values.argmax())
    assert value["peak_llc"] == float(full.llc[top]) and value["peak_step"] == STEPS[top]
    assert value["fall"] == value["peak_llc"] - value["final_llc"]
    assert value["flagged"] == 1 / len(STEPS)


def test_done_work_is_kept_and_stale_work_redone(measured_run):
    value = run_stages(measured_run)
    written = measured_run.stages.stat().st_mtime_ns
    assert run_stages(again(measured_run)) == value
    assert measured_run.stages.stat().st_mtime_ns == written
    assert run_stages(again(measured_run), force=True) == value
    assert measured_run.stages.stat().st_mtime_ns > written
    write_llc(measured_run, seed=1)
    fix = f"run `devsort stages {measured_run.path} --force` to discard it and make it again"
    stale = f"{measured_run.stages} was made from other inputs; {fix}"
    assert told(again(measured_run).read, STAGES) == stale
    assert run_stages(again(measured_run)) != value
    assert again(measured_run).read(STAGES) != value


def test_a_number_that_is_edited_and_a_folder_that_is_renamed(measured_run):
    value = run_stages(measured_run)
    text = measured_run.stages.read_text()
    measured_run.stages.write_text(text.replace('"flagged": ', '"flagged": 1', 1))
    fix = f"run `devsort stages {measured_run.path} --force` to make it again"
    changed = f"{measured_run.stages} does not match its checksum; {fix}"
    assert told(again(measured_run).read, STAGES) == changed
    assert run_stages(again(measured_run)) == value and measured_run.stages.read_text() == text
    renamed = open_run(measured_run.path.rename(measured_run.path.with_name("renamed")), SHORT)
    assert renamed.read(STAGES) == run_stages(renamed) == {**value, "run": str(renamed.path)}


def test_missing_and_foreign_stages_name_the_command(measured_run):
    missing = f"{measured_run.stages} is missing; run `devsort stages {measured_run.path}` first"
    assert told(measured_run.read, STAGES) == missing
    measured_run.stages.write_text("{}")
    fix = f"run `devsort stages {measured_run.path} --force` to make it again"
    foreign = f"{measured_run.stages} is not what devsort wrote; {fix}"
    assert told(measured_run.read, STAGES) == foreign


def test_a_csv_gets_stages_and_a_chart(tmp_path):
    one, path, out = llc_table().sel(restriction="full"), tmp_path / "t.csv", tmp_path / "o"
    columns = (one.checkpoint, one.llc, one.se, one.checkpoint_loss)
    lines = zip(*(c.values for c in columns), strict=True)
    path.write_text("step,llc,se,loss\n" + "\n".join(",".join(map(str, row)) for row in lines))
    few = ("--set", "stages.bootstrap=30")
    result = devsort("stages", "--trajectory", path, "--out", out, "--json", *few)
    assert result.code == 0
    value = json.loads(result.out)
    assert len(value["boundaries"]) == 2 and value["events"] == []
    steps = [b["step"] for b in find_stages(read_csv(path))["boundaries"]]
    assert [b["step"] for b in value["boundaries"]] == steps
    assert sorted(p.name for p in out.iterdir()) == ["stages.json", "stages.png", "stages.svg"]
    drawn = (out / "stages.svg").read_bytes()
    linear = devsort("stages", "--trajectory", path, "--out", out, "--axis", "linear", *few)
    assert linear.code == 0 and (out / "stages.svg").read_bytes() != drawn


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("stages",), "stages needs either RUN or --trajectory FILE.csv; give one of them"),
        (
            ("stages", "--trajectory", "no.csv"),
            "no.csv is missing; give a CSV with the columns step, llc, se and optionally loss",
        ),
        *(
            (
                ("compare", *runs),
                "compare needs two or more different runs; "
                "name them, as in `devsort compare RUN RUN`",
            )
            for runs in (["RUN"], ["RUN", "RUN"])
        ),
    ],
)
def test_errors_of_the_commands(tiny_run, arguments, message):
    result = devsort(*(tiny_run.path if a == "RUN" else a for a in arguments))
    assert (result.code, result.err) == (2, f"devsort: error: {message}\n")
