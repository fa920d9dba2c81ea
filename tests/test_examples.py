"""The worked examples run in their short form, from any folder, and leave nothing in it."""

import runpy
from pathlib import Path

import pytest
import torch

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_an_example_runs_in_its_short_form(path, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DEVSORT_SHORT", "1")
    monkeypatch.setenv("DEVSORT_OUT", str(tmp_path / "out"))
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng():
        names = runpy.run_path(str(path))
    pictures = {p.name for p in (tmp_path / "out").glob(f"{path.stem}.*")}
    assert pictures == {f"{path.stem}.png", f"{path.stem}.svg"}
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert names["trajectory"].llc.notnull().all() and "LLC" in capsys.readouterr().out


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_an_example_is_a_notebook_of_jupytext(path):
    text = path.read_text()
    assert text.startswith("# ---\n# jupyter:\n#   jupytext:\n") and "format_name: percent" in text
    cells = text.split("\n# %%")
    assert sum(cell.startswith(" [markdown]") for cell in cells) >= 4
