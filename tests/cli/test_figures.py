"""The commands that draw write the kinds and the width that are asked for."""

import json

import pytest
from commands import devsort
from matplotlib.image import imread

SINGLE = 3.4 * 200  # pixels


def test_a_run_is_drawn_at_the_width_of_a_column(smoke, tmp_path):
    run = smoke.copy(tmp_path)
    result = devsort("chart", run, "--format", "pdf,png", "--width", "single", "--json")
    assert result.code == 0, result.err
    files = json.loads(result.out)["files"]
    assert sorted(f.rsplit(".")[-1] for f in files) == ["pdf"] * 4 + ["png"] * 4
    widths = {f: imread(f).shape[1] for f in files if f.endswith("stages.png")}
    assert list(widths.values()) == [SINGLE]
    assert devsort("status", run).code == 0


def test_a_trajectory_is_drawn_as_pdf_alone(tmp_path):
    rows = [f"{10**i},{value},1" for i, value in enumerate((1, 10, 300, 20))]
    (tmp_path / "t.csv").write_text("\n".join(["step,llc,se", *rows]))
    out, setting = tmp_path / "out", ("--set", "stages.bootstrap=20")
    result = devsort(
        "stages", "--trajectory", tmp_path / "t.csv", "--out", out, "--format", "pdf", *setting
    )
    assert result.code == 0, result.err
    assert sorted(p.name for p in out.iterdir()) == ["stages.json", "stages.pdf"]


@pytest.mark.parametrize("command", ["chart", "compare"])
def test_an_unknown_kind_is_refused_before_anything_is_written(smoke, command):
    runs = [smoke.path] if command == "chart" else [smoke.path, smoke.path]
    result = devsort(command, *runs, "--format", "gif")
    assert result.code == 2
    assert result.err == (
        "devsort: error: no figure is written as 'gif'; give some of png, svg, pdf\n"
    )
