"""The tutorials run on a finished run, say what is true of it, and their pages hold their code."""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
TUTORIALS = sorted((ROOT / "examples" / "tutorials").glob("*.py"))


@pytest.fixture
def ran(smoke, tmp_path, monkeypatch):
    """Runs a tutorial by name on the run of the session; gives its names."""

    def run(name: str) -> dict:
        monkeypatch.setenv("DEVSORT_SHORT", "1")
        monkeypatch.setenv("DEVSORT_RUN", str(smoke.path))
        monkeypatch.setenv("DEVSORT_OUT", str(tmp_path / "out"))
        return runpy.run_path(str(ROOT / "examples" / "tutorials" / f"{name}.py"))

    return run


def test_the_baseline_in_pieces(ran, smoke, tmp_path):
    names = ran("baseline")
    assert (tmp_path / "out" / "tutorial-baseline.png").is_file()
    known = [b["step"] for b in smoke.values["stages"]["boundaries"]]
    assert [b["step"] for b in names["stages"]["boundaries"]] == pytest.approx(known, rel=1e-6)
    assert names["trace"].loss.shape == (names["config"].num_chains, 8)


def test_the_files_hold_what_the_tutorial_reads_from_them(ran, tmp_path):
    names = ran("files")
    assert (tmp_path / "out" / "tutorial-files.png").is_file()
    np.testing.assert_allclose(names["again"], names["full"].llc, rtol=1e-4, atol=1e-3)
    assert list(names["need"].columns) == ["head 0", "head 1"]


@pytest.mark.parametrize("path", [*TUTORIALS, *EXAMPLES], ids=lambda p: p.stem)
def test_a_page_holds_the_code_of_its_tutorial(path):
    cells = re.split(r"^# %%.*\n", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    code = [cell.strip() for cell in cells[1:] if not cell.startswith("# ")]
    page = (ROOT / "docs" / "tutorials" / f"{path.stem}.md").read_text(encoding="utf-8")
    assert re.findall(r"```python\n(.*?)\n```", page, re.DOTALL) == code
