"""Every option that docs/sweeps.md offers, tried to its end."""

import json
from pathlib import Path

import pytest
import yaml
from commands import devsort
from folders import names
from sweeps import sweep_here, write_study

from devsort.sorting.run import open_run
from devsort.sorting.status import status
from devsort.sweep import load_table, load_trajectories
from devsort.sweep.cell import STEPS

DOCS = Path(__file__).parents[2] / "docs" / "sweeps.md"


def test_a_study_with_charts_draws_them_and_is_finished(tmp_path):
    path, out = write_study(tmp_path, steps=list(STEPS)), tmp_path / "out"
    result = sweep_here(path, "--out", out, "--json")
    value = json.loads(result.out)
    assert (result.code, result.err.count("error"), value["done"], value["failed"]) == (0, 0, 1, 0)
    run = open_run(out / "run")
    assert len([n for n in names(run.figures) if n.endswith((".png", ".svg"))]) == 8
    assert all(part["state"] == "done" for part in status(run)["parts"])
    begun = []
    again = sweep_here(path, "--out", out, engine=lambda jobs: begun.extend(jobs) or [])
    assert again.code == 0 and begun == []


SUBSETS = [["train"], ["train", "llc"], ["train", "heads"], ["train", "llc", "heads", "stages"]]


@pytest.mark.parametrize("steps", SUBSETS, ids="+".join)
def test_any_first_steps_are_a_study(tmp_path, steps):
    path, out = write_study(tmp_path, steps=steps), tmp_path / "out"
    assert sweep_here(path, "--out", out).code == 0
    assert ("llc_peak" in load_table(str(out))) == ("llc" in steps)
    rows = 3 if "llc" in steps else 7 if "heads" in steps else 0  # sampled checkpoints, or all
    assert len(load_trajectories(str(out))) == rows


def test_a_step_without_those_before_it_says_what_is_missing(tmp_path):
    path, out = write_study(tmp_path, steps=["train", "chart"]), tmp_path / "out"
    result = sweep_here(path, "--out", out)
    folder = out / "run"
    told = f"run failed: {folder}/llc.zarr is missing; run `devsort llc {folder}` first"
    assert result.code == 2 and told in result.out.splitlines()


BASES = {
    "a run folder": lambda run, folder: str(run),
    "a run folder, from the study file": lambda run, folder: "../base",
    "a YAML file": lambda run, folder: str(run / "config.yaml"),
    "settings in place": lambda run, folder: yaml.safe_load((run / "config.yaml").read_text()),
}


@pytest.mark.parametrize("base", BASES)
def test_every_kind_of_base(tiny_run, tmp_path, base):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.yaml").write_text((tiny_run.path / "config.yaml").read_text())
    (tmp_path / "study").mkdir()
    of = BASES[base](tiny_run.path, tmp_path)
    path = write_study(tmp_path / "study", base=of, steps=["train"])
    assert sweep_here(path, "--out", tmp_path / "out").code == 0
    assert open_run(tmp_path / "out" / "run").config == tiny_run.config


def test_the_documented_study_file_is_one(tmp_path, tiny_run):
    """The very text, with a base of its own."""
    text = DOCS.read_text().partition("```yaml\n")[2].partition("```")[0]
    assert "base: ../runs/baseline " in text
    path = tmp_path / "study.yaml"
    path.write_text(text.replace("../runs/baseline", str(tiny_run.path)).replace("5.4", "1.9"))
    result = devsort("sweep", path, "--out", tmp_path / "out", "--workers", "0", "--json")
    assert result.code == 0
    assert json.loads(result.out)["waiting"] == 16 + 16 + 2 * 16
