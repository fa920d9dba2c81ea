"""docs/reference says what is true: every public name is there, and its example runs."""

import re
from pathlib import Path

import pytest
import torch

import devsort
from devsort.llc import calibrate as grid
from devsort.llc import tuning

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "index.md").read_text(encoding="utf-8")
ERRORS = (ROOT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)


def test_every_public_name_is_documented_once():
    named = re.findall(r"^::: devsort\.(\w+)$", PAGE, re.MULTILINE)
    assert sorted(named) == sorted(set(devsort.__all__) - {"__version__"})


@pytest.mark.parametrize("name", sorted(set(devsort.__all__) - {"__version__"}))
def test_every_public_name_is_used_in_an_example(name):
    code = "\n".join(PYTHON.findall(PAGE))
    # made, not called
    returned = {"Trace", "Estimate", "Imported", "Calibration", "Trajectory", "Responses"}
    assert f"devsort.{name}" in code or name in returned


def test_the_examples_run_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, few in {"N_BETAS": (100.0,), "DRAWS": 4, "MAX_BURNIN": 4}.items():
        monkeypatch.setattr(grid, name, few)  # a search takes a quarter of a minute
    monkeypatch.setattr(tuning, "STEPS", 40)
    names: dict = {}
    with torch.random.fork_rng():
        for block in PYTHON.findall(PAGE):
            exec(compile(block, "reference/index.md", "exec"), names)  # noqa: S102  our own page
    assert isinstance(names["trace"], devsort.Trace)
    assert isinstance(names["found"], devsort.Estimate)
    assert isinstance(names["calibration"], devsort.Calibration)
    assert isinstance(names["curve"], devsort.Trajectory)
    assert {"stages.png", "explorer.html"} <= {p.name for p in tmp_path.iterdir()}
    printed = capsys.readouterr().out.splitlines()
    assert {"0.004 6.66", "(2, 20) 19", "(5, 5)"} <= set(printed)
    assert printed[-1].startswith("signal 'accuracy' does not cover steps 1 to 256 → give")


def test_the_example_of_an_error_prints_what_its_comments_say(capsys):
    (code,) = PYTHON.findall(ERRORS)
    exec(compile(code, "errors.md", "exec"), {})  # noqa: S102  our own page
    assert capsys.readouterr().out.splitlines() == re.findall(r"# (.*)", code)


def test_every_error_that_is_raised_is_listed():
    kinds = {k for k, v in vars(devsort.errors).items() if isinstance(v, type)}
    kinds = {k for k in kinds if issubclass(getattr(devsort.errors, k), BaseException)}
    assert set(re.findall(r"^::: devsort\.errors\.(\w+)", ERRORS, re.MULTILINE)) == kinds
