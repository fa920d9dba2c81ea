"""One look for all figures, whatever the caller has set, and what the caller has set stays."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator

import matplotlib as mpl
import pytest
from folders import hashes
from matplotlib.colors import to_hex, to_rgba_array
from matplotlib.figure import Figure
from stages.datasets import EVENTS, head_scores, llc_table

from devsort.charts import calibrate, compare, stage_chart, style, traces
from devsort.charts.style import FLAG, PALETTE, head_colour, save_figure
from devsort.errors import UserError
from devsort.llc.flags import FLAGS
from devsort.sorting.artifacts import HEADS, LLC
from devsort.sorting.charts import ownership
from devsort.sorting.run import open_run
from devsort.sorting.stages import scores
from devsort.stages import detect, from_llc
from devsort.stages.config import StagesConfig
from devsort.stages.report import as_json

CALIBRATED = {
    "checkpoints": [1, 9],
    "trials": [
        {"n_beta": 1.0, "localization": 1.0, "lr": 1e-3, "step": step, "climb": 0.1, "llc": 3.0,
         "se": 0.1, "flags": list(calibrate.SHORT)}
        for step in (1, 9)
    ],
    "proposal": {"settings": {"n_beta": 1.0, "localization": 1.0, "lr": 1e-3}},
}  # fmt: skip


def story(table=None) -> stage_chart.Story:
    table = llc_table() if table is None else table
    found = detect(from_llc(table), StagesConfig(bootstrap=20))
    stages = as_json(found, scores(head_scores()), EVENTS)
    return stage_chart.from_datasets(stages, table, head_scores(), None)


def eight_heads():
    table = llc_table()
    return table.isel(restriction=[0] + [1] * 8).assign_coords(
        restriction=["full", *(f"h{i}" for i in range(8))]
    )


@pytest.fixture(scope="module")
def figures(smoke) -> dict[str, Figure]:
    """Every kind of figure; the stage chart with as many heads as a model may have."""
    run = open_run(smoke.path)
    told = story(eight_heads())
    heads = run.read(HEADS)
    events = [{"event": "split_onset", "step": 100, "ci95": [90, 110]}]
    return {
        "stages": stage_chart.figure(told),
        "overlay": compare.figure(dict.fromkeys("abcdefghij", told)),
        "traces": traces.figure(run.read(LLC)),
        "calibration": calibrate.heat_map(CALIBRATED),
        "ownership": ownership.plot(heads, events),
    }


def colours(artist) -> Iterator[str]:
    """The colours of a line, a patch, a text or a collection."""
    for name in ("get_color", "get_facecolor", "get_edgecolor", "get_markerfacecolor"):
        if hasattr(artist, name):
            yield from map(to_hex, to_rgba_array(getattr(artist, name)()))


def test_red_is_for_flags_alone(figures):
    red = {
        (name, type(artist).__name__, getattr(artist, "get_marker", lambda: "")())
        for name, figure in figures.items()
        for artist in figure.findobj()
        if FLAG in map(str.lower, colours(artist))
    }
    raised = {style.flag_look(flag)["marker"] for flag in story().llc.flags}
    assert raised and red == {
        (name, "Line2D", marker) for name in ("stages", "overlay") for marker in raised
    }


def test_heads_differ_and_none_is_red():
    every = [head_colour(head) for head in range(8)]
    assert len(set(every)) == 8 and FLAG not in every
    assert every[:3] == PALETTE[:3]


def lines(figure: Figure, axis: int) -> dict[str, tuple[str, str]]:
    """Colour and style of the labelled lines of an axis."""
    found = figure.axes[axis].lines
    return {
        x.get_label(): (x.get_color(), x.get_linestyle()) for x in found if x.get_label()[0] != "_"
    }


def test_a_score_looks_the_same_in_every_chart(figures):
    expected = {label: (colour, line) for colour, line, label in style.SCORES.values()}
    assert len(expected) == 3
    assert lines(figures["stages"], -1) == lines(figures["ownership"], -1) == expected


def test_a_flag_has_a_shape_of_its_own():
    marks = list(style.FLAG_MARKERS.values())
    assert set(style.FLAG_MARKERS) == set(FLAGS) - {"unknown"} and len(set(marks)) == len(marks)


@pytest.mark.parametrize(
    ("value", "se", "told"),
    [
        (229.56, 2.01, "229.6 ± 2.0"),
        (0.01234, 0.00046, "0.01234 ± 0.00046"),
        (1520, 31, "1520 ± 31"),
        (3.0, float("nan"), "3"),
    ],
)
def test_an_error_has_two_digits(value, se, told):
    assert style.with_error(value, se) == told


@pytest.mark.parametrize("width", style.WIDTHS)
def test_a_pdf_has_its_width_and_its_fonts(tmp_path, width):
    inches = style.WIDTHS[width]
    kinds = style.kinds_of("pdf, png")
    paths = save_figure(stage_chart.figure(story(), inches), tmp_path, "chart", kinds)
    assert [p.name for p in paths] == ["chart.pdf", "chart.png"]
    pdf = paths[0].read_bytes()
    box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ", pdf)
    assert float(box[1]) == pytest.approx(72 * inches) and b"/FontFile2" in pdf
    again = save_figure(stage_chart.figure(story(), inches), tmp_path / "again", "chart", kinds)
    assert again[0].read_bytes() == pdf


def test_another_kind_of_file_is_refused():
    with pytest.raises(UserError, match=r"^no figure is written as 'gif'; give some of png, svg, "):
        style.kinds_of("png,gif")


def test_the_callers_settings_change_nothing_and_stay(tmp_path):
    """So drawn twice it is the same bytes."""
    changes = {"font.size": 30, "axes.facecolor": "blue", "savefig.facecolor": "blue"}
    for folder, settings in (("a", {}), ("b", changes)):
        with mpl.rc_context(settings):
            before = dict(dict.items(mpl.rcParams))
            save_figure(stage_chart.figure(story()), tmp_path / folder, "stages")
            save_figure(calibrate.heat_map(CALIBRATED), tmp_path / folder, "calibration")
            assert dict(dict.items(mpl.rcParams)) == before
    assert len(hashes(tmp_path / "a")) == 4
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")


DRAW = """
import os, sys
if os.environ.get("MPLBACKEND"):  # matplotlib alone cannot even be imported then
    import devsort.charts
    assert os.environ["MPLBACKEND"] == "module://matplotlib_inline.backend_inline"
import matplotlib as mpl
before = dict(dict.items(mpl.rcParams))  # without looking one up, which would choose a backend
import devsort.charts.calibrate, devsort.charts.compare, devsort.charts.traces
from devsort.sorting.charts import draw_all
from devsort.sorting.run import open_run
assert dict(dict.items(mpl.rcParams)) == before, "importing"
print(*draw_all(open_run(sys.argv[1])), sep="\\n")
assert dict(dict.items(mpl.rcParams)) == before, "drawing"
import matplotlib.pyplot as plt
assert plt.get_fignums() == []
"""
SURROUNDINGS = {
    "a backend that is missing": {"MPLBACKEND": "module://matplotlib_inline.backend_inline"},
    "LaTeX": {"MATPLOTLIBRC": "text.usetex: True\nfont.size: 20\n"},
}


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_another_process_draws_the_same_and_keeps_its_settings(smoke, tmp_path, name):
    """Also where its backend cannot be imported, and where its text is set by LaTeX."""
    folder = smoke.copy(tmp_path)
    environment = dict(SURROUNDINGS[name])
    if "MATPLOTLIBRC" in environment:
        (tmp_path / "matplotlibrc").write_text(environment["MATPLOTLIBRC"])
        environment["MATPLOTLIBRC"] = str(tmp_path / "matplotlibrc")
    command = [sys.executable, "-c", DRAW, folder]
    plain = {key: value for key, value in os.environ.items() if key != "MPLBACKEND"}
    found = subprocess.run(command, env=plain | environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert found.stdout.count("\n") == 8
    assert hashes(folder / "figures") == hashes(smoke.path / "figures")
