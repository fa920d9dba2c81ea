"""`devsort explore`: what it says and what it refuses."""

import json
from pathlib import Path

from commands import devsort


def test_the_command_writes_one_page(smoke, tmp_path):
    out = tmp_path / "one.html"
    result = devsort("explore", smoke.path, "--out", out, "--json")
    assert result.code == 0, result.err
    value = json.loads(result.out)
    assert value["file"] == str(out) and value["bytes"] == out.stat().st_size
    steps = sorted({row["step"] for row in smoke.values["llc"]["trajectory"]})
    assert value["runs"][0]["steps"] == steps
    assert list(tmp_path.iterdir()) == [out]


def test_the_text_names_the_file(smoke, tmp_path):
    out = tmp_path / "one.html"
    result = devsort("explore", smoke.path, "--out", out)
    assert result.out.splitlines()[-1].startswith(f"written: {out} (")


def test_a_run_twice_is_refused(smoke, tmp_path):
    result = devsort("explore", smoke.path, smoke.path, "--out", tmp_path / "page.html")
    told = "compare needs two or more different runs; name them, as in `devsort compare RUN RUN`"
    assert (result.code, result.err.strip()) == (2, f"devsort: error: {told}")


def test_a_run_without_stages_is_told_what_to_do(smoke, tmp_path):
    run = smoke.copy(tmp_path, "checkpoints", "training.jsonl", "llc.zarr", "heads.zarr")
    result = devsort("explore", run, "--out", tmp_path / "page.html")
    told = f"{run}/stages.json is missing; run `devsort stages {run}` first"
    assert (result.code, result.err.strip()) == (2, f"devsort: error: {told}")


def test_a_strangers_file_is_kept(smoke, tmp_path):
    out: Path = tmp_path / "notes.html"
    out.write_text("mine")
    result = devsort("explore", smoke.path, "--out", out)
    told = f"{out} is a file that devsort did not write; give another with --out"
    assert (result.code, result.err.strip()) == (2, f"devsort: error: {told}")
    assert out.read_text() == "mine"
