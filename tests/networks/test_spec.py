"""`devsort trajectory SPEC.py`: the same from the command line."""

import json
from pathlib import Path

from commands import devsort
from gates import save

import devsort as package
from devsort.networks.spec import REQUIRED, _names

SPEC = """
import torch
from gates import CONFIG, STEPS, X, loss as make, save
loss, checkpoints, data, config = make(), "checkpoints", X, CONFIG
options = __import__("devsort").Options(device="cpu")
events = {"probe": 20}
"""


def spec(folder: Path, text: str = SPEC) -> Path:
    path = folder / "spec.py"
    path.write_text(text)
    return path


def test_a_spec_gives_trajectory_stages_and_chart(tmp_path):
    save(tmp_path / "checkpoints")
    path = spec(tmp_path)
    result = devsort("trajectory", path, "--json")
    assert result.code == 0
    value = json.loads(result.out)
    stored = package.load_trajectory(tmp_path / "spec.zarr")
    assert [row["llc"] for row in value["trajectory"]] == stored.llc.values.ravel().tolist()
    assert value["stages"]["events"][0]["event"] == "probe"
    files = [str(tmp_path / f"spec.{kind}") for kind in ("zarr", "png", "svg")]
    assert value["files"] == files and all(Path(file).exists() for file in files)
    again = devsort("trajectory", path)
    assert again.code == 0 and "per decade" in again.out
    assert again.out.count("\n") > len(value["trajectory"])


def test_the_spec_of_the_help_is_a_spec(tmp_path):
    """Its names are known ones; the page's test runs the same network."""
    assert "devsort trajectory examples/spec/spec.py" in devsort("trajectory", "--help").out
    path = Path(__file__).parents[2] / "examples" / "spec" / "spec.py"
    before = sorted(path.parent.iterdir())
    names = _names(path)
    assert {*REQUIRED, "data", "config", "restrictions", "signals", "events"} <= names.keys()
    assert sorted(names["checkpoints"]) == [1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256]
    assert [p for p in sorted(path.parent.iterdir()) if p.name != "__pycache__"] == before


def test_a_spec_that_cannot_be_used_is_refused_in_one_line(tmp_path):
    known = (
        "loss, checkpoints, data, config, restrictions, parts, store, options, signals, events, "
        "stages, figure"
    )
    missing = tmp_path / "nowhere.py"
    cases = {
        missing: f"{missing} is missing; give a Python file that defines loss and checkpoints",
        spec(tmp_path, "loss = 1"): (
            f"{tmp_path}/spec.py does not define checkpoints; it may define {known}"
        ),
    }
    for path, message in cases.items():
        result = devsort("trajectory", path)
        assert (result.code, result.err) == (2, f"devsort: error: {message}\n")
    failing = spec(tmp_path, "1 / 0")
    result = devsort("trajectory", failing)
    what = f"{failing} fails (ZeroDivisionError: division by zero)"
    assert result.err == f"devsort: error: {what}; run `python spec.py` for the traceback\n"
