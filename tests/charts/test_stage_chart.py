"""The stage chart and the overlay of runs: what is drawn is what was found."""

import dataclasses
import warnings
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.text import Text
from stages.datasets import EVENTS, head_scores, llc_table

from devsort.charts import compare, curves, stage_chart
from devsort.charts.style import FLAG, WIDTHS, flag_look, head_colour
from devsort.sorting.stages import scores
from devsort.stages import Trajectory, detect, from_llc
from devsort.stages.config import StagesConfig
from devsort.stages.report import as_json, find_stages


@pytest.fixture(scope="module")
def story():
    table = llc_table()
    found = detect(from_llc(table), StagesConfig(bootstrap=40))
    stages = as_json(found, scores(head_scores()), EVENTS)
    return stage_chart.from_datasets(stages, table, head_scores(), None)


@pytest.fixture(scope="module")
def drawn(story):
    figure = stage_chart.figure(story)
    figure.draw_without_rendering()
    return figure


def texts(figure):
    return [
        t
        for ax in figure.axes
        for t in ax.findobj(Text)
        if t.get_text().strip() and t.get_visible()
    ]


def test_every_panel_names_its_quantity_and_unit(drawn):
    labels = [ax.get_ylabel() for ax in drawn.axes[1:]]
    assert labels == ["loss (nats)", "LLC", "head LLC", "head-mode score"]
    assert drawn.axes[-1].get_xlabel() == "training step" and drawn.axes[-1].get_xscale() == "log"


def test_names_and_events_are_written_and_do_not_touch(drawn, story):
    ribbon = list(drawn.axes[0].texts)
    written = {t.get_text() for t in ribbon}
    assert {
        "initial learning",
        "head specialization",
        "LLC flat",
        "split onset (stage 3)",
    } <= written
    boxes = [t.get_window_extent() for t in ribbon]
    touching = [(i, j) for i in range(len(boxes)) for j in range(i) if boxes[i].overlaps(boxes[j])]
    assert touching == []


def test_all_text_has_seven_to_nine_points_in_one_font(drawn):
    assert {t.get_fontsize() for t in texts(drawn)} <= {7, 8, 9}
    assert {t.get_fontname() for t in texts(drawn)} == {"DejaVu Sans"}


def test_boundaries_and_flagged_points_are_drawn_where_they_are(drawn, story):
    llc = drawn.axes[2]
    upright = [line for line in llc.lines if len(set(line.get_xdata())) == 1]
    lines = [line.get_xdata()[0] for line in upright if line.get_marker() == "None"]
    upright = [line for line in lines if line in {b["step"] for b in story.stages["boundaries"]}]
    assert upright == [b["step"] for b in story.stages["boundaries"]]
    assert story.llc.flags
    for flag, at in story.llc.flags.items():
        marker = flag_look(flag)["marker"]
        (marks,) = [x for x in llc.lines if x.get_marker() == marker and x.get_color() == FLAG]
        assert marks.get_xdata() == pytest.approx(story.llc.step[at])
        assert flag.replace("_", " ") in [t.get_text() for t in llc.get_legend().get_texts()]


@pytest.mark.parametrize(
    ("unit", "label"), [("squared error", "loss (squared error)"), ("", "loss")]
)
def test_the_loss_has_the_unit_that_is_given(story, unit, label):
    figure = stage_chart.figure(dataclasses.replace(story, loss_unit=unit))
    assert figure.axes[1].get_ylabel() == label


def test_a_flagged_point_far_off_is_marked_at_the_edge_with_its_value():
    value = np.array([-900.0, 20.0, 30.0, 50.0])
    flags = {"negative": np.arange(4) == 0}
    curve = curves.Curve(np.array([10.0, 100, 1000, 2000]), value, flags=flags)
    stages = {"stages": [{"from": 10, "to": 2000, "llc": "rising", "name": "unnamed"}],
              "boundaries": [], "events": []}  # fmt: skip
    ax = stage_chart.figure(stage_chart.Story(stages, curve)).axes[1]
    low, high = ax.get_ylim()
    assert (low, 50 < high < 60) == (0, True)
    (mark,) = [line for line in ax.lines if line.get_color() == FLAG]
    assert mark.get_xydata().tolist() == [[10, low]] and not mark.get_clip_on()
    assert [text.get_text() for text in ax.texts] == ["−900"]


def test_a_trajectory_alone_gets_one_panel(story):
    figure = stage_chart.figure(stage_chart.Story({**story.stages, "events": []}, story.llc))
    assert [ax.get_ylabel() for ax in figure.axes[1:]] == ["LLC"]


def test_crowded_names_are_lifted_and_stay_inside(story):
    edges = [1, 2, 2.6, 3.4, 4.4, 5.7, 6000]
    stages = [{**story.stages["stages"][1], "from": a, "to": b} for a, b in pairwise(edges)]
    crowded = {"stages": stages, "boundaries": [], "events": []}
    figure = stage_chart.figure(stage_chart.Story(crowded, story.llc))
    figure.draw_without_rendering()
    names = [t for t in figure.axes[0].texts if t.get_text() == "initial learning"]
    boxes, frame = [t.get_window_extent() for t in names], figure.axes[0].get_window_extent()
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert all(b.x0 >= frame.x0 - 1 and b.x1 <= frame.x1 + 1 for b in boxes)


@pytest.mark.parametrize("width", WIDTHS)
def test_no_pole_crosses_a_name_at_the_width_of_a_column(story, width):
    edges = [1, 3, 10, 40, 300, 1000, 6000]
    stages = [{**story.stages["stages"][1], "from": a, "to": b} for a, b in pairwise(edges)]
    crowded = {"stages": stages, "boundaries": [], "events": []}
    figure = stage_chart.figure(stage_chart.Story(crowded, story.llc), WIDTHS[width])
    figure.draw_without_rendering()
    ribbon = figure.axes[0]
    boxes = [t.get_window_extent() for t in ribbon.texts if t.get_text() == "initial learning"]
    poles = [line.get_window_extent() for line in ribbon.lines]
    assert len(boxes) == 6 and len(poles) >= (0 if width == "double" else 4)
    for pole in poles:
        x = (pole.x0 + pole.x1) / 2
        assert not any(b.x0 + 1 < x < b.x1 - 1 and b.y0 + 2 < pole.y1 - 2 for b in boxes)


def test_the_overlay_shows_each_run(story):
    figure = compare.figure({"a": story, "b": story})
    assert [t.get_text() for t in figure.axes[2].get_legend().get_texts()] == [
        "a",
        "b",
        *(flag.replace("_", " ") for flag in story.llc.flags),
    ]
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["a", "b"]


def test_a_narrow_stage_of_the_overlay_has_its_name_on_two_lines(story):
    first, second, *rest = story.stages["stages"]
    narrow = [
        {**first, "to": 80},
        {**second, "name": "head overlapping", "from": 80, "to": 250},
        *rest,
    ]
    figure = compare.figure({"a": stage_chart.Story({**story.stages, "stages": narrow}, story.llc)})
    names = [t.get_text() for t in figure.axes[0].texts]
    assert sum(name.startswith("head\noverlapping ") for name in names) == 1


def bands(ax) -> dict[str, np.ndarray]:
    """The upper and lower edges of the filled curves of an axis, by their colour."""
    found = {}
    for band in ax.findobj(PolyCollection):
        vertices = band.get_paths()[0].vertices
        n = (len(vertices) - 3) // 2
        edges = vertices[1 : n + 1, 1], vertices[n + 2 : -1, 1][::-1]
        found[tuple(band.get_facecolor()[0][:3].round(3))] = np.stack(edges, 1)
    return found


def test_the_bands_are_the_stored_intervals(story, drawn):
    table = llc_table()
    for restriction, ax in (("full", drawn.axes[2]), ("h0", drawn.axes[3]), ("h1", drawn.axes[3])):
        stored = table.ci95.sel(restriction=restriction).values
        assert any(np.allclose(band, stored) for band in bands(ax).values()), restriction
    overlay = compare.figure({"a": story})
    (band,) = bands(overlay.axes[2]).values()
    np.testing.assert_allclose(band, table.ci95.sel(restriction="full").values)


def test_heads_have_their_own_colours_in_the_chart(drawn):
    colours = {line.get_label(): line.get_color() for line in drawn.axes[3].lines}
    assert colours["head 0"] == head_colour(0) and colours["head 1"] == head_colour(1)


def test_a_trajectory_from_anywhere_has_normal_intervals():
    step = np.array([0.5, 1, 10, 100])
    table = Trajectory(step, step, np.full(4, 2.0), flagged=np.arange(4) == 3)
    story = stage_chart.of_trajectory(table.select(step >= 1), {})
    np.testing.assert_allclose(story.llc.ci95, [[s - 3.92, s + 3.92] for s in (1, 10, 100)])
    assert story.llc.flags["flagged"].tolist() == [False, False, True] and story.loss is None


def test_a_loss_that_no_log_axis_can_show_gets_no_panel(story):
    llc = story.llc
    table = Trajectory(llc.step, llc.value, np.ones(len(llc.step)), np.full(len(llc.step), -1.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value = find_stages(table, StagesConfig(bootstrap=20))
        figure = stage_chart.figure(stage_chart.of_trajectory(table, value))
    assert {s["loss"] for s in value["stages"]} == {"flat"}
    assert [ax.get_ylabel() for ax in figure.axes[1:]] == ["LLC"]


def test_a_log_axis_gets_the_points_that_it_can_show():
    curve = curves.Curve(np.array([0.0, 5, 6, 7]), np.array([4, 3.5, np.nan, 3]))
    kept = curves.positive(curve)
    assert kept.step.tolist() == [5, 7] and kept.value.tolist() == [3.5, 3]


def inside(ax, x, y):
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    known, near = np.isfinite(y), 1e-9 * right
    return (
        (left - near <= x[known]).all()
        and (x[known] <= right + near).all()
        and ((bottom <= y[known]) & (y[known] <= top)).all()
    )


def test_all_data_of_a_panel_are_visible(story):
    low, high = (curves.Curve(story.llc.step, v) for v in (story.llc.value, 9 * story.llc.value))
    below = curves.Curve(story.llc.step, -story.llc.value)
    heads = {"head 0": low, "head 1": high, "head 2": below}
    figure = stage_chart.figure(dataclasses.replace(story, heads=heads))
    for ax in figure.axes[1:]:
        drawn = [line for line in ax.lines if len(line.get_xdata()) > 2]
        assert drawn and all(inside(ax, *map(np.asarray, line.get_data())) for line in drawn)
    assert inside(figure.axes[2], story.llc.step, story.llc.ci95[:, 0])
    assert inside(figure.axes[2], story.llc.step, story.llc.ci95[:, 1])


def many(scale="log"):
    """500 checkpoints whose level is uncertain by 7 nats, and their shape by 0.2."""
    step = np.linspace(100, 50_000, 500)
    x = np.log10(step)
    llc = np.interp(x, [2, 3.8, 3.93, 4.23, 4.7], [100, 157, 155, 164, 166])
    llc = llc + 0.2 * np.random.default_rng(0).standard_normal(500)
    table = Trajectory(step, llc, np.full(500, 7.0), np.linspace(9, 2.7, 500))
    stages = find_stages(table, StagesConfig(bootstrap=20))
    return stages, stage_chart.figure(stage_chart.of_trajectory(table, stages, scale))


def test_many_points_with_a_band_for_the_level_and_whiskers_for_the_shape():
    stages, figure = many("linear")
    loss, llc = figure.axes[1:]
    assert llc.get_xscale() == "linear" and loss.get_yscale() == "linear"
    assert llc.get_ylim()[0] > 50  # not from zero
    (band,) = bands(llc).values()
    assert np.diff(band, axis=1) == pytest.approx(2 * 1.96 * 7)
    (whiskers,) = [c for c in llc.collections if isinstance(c, LineCollection)]
    heights = [np.ptp(segment[:, 1]) for segment in whiskers.get_segments()]
    assert np.median(heights) == pytest.approx(2 * 1.96 * 0.2, rel=0.1)
    (line,) = [line for line in llc.lines if line.get_label() == "fitted line"]
    corners = np.array(stages["line"])
    at = np.interp(np.log10(corners[:, 0]), np.log10(line.get_xdata()), line.get_ydata())
    assert at == pytest.approx(corners[:, 1], abs=0.05)


def test_weak_boundaries_are_dashed_and_explained(story):
    strong, *rest = story.stages["boundaries"]
    weak = [{**b, "strength": "weak"} for b in rest]
    stages = {**story.stages, "boundaries": [{**strong, "strength": "strong"}, *weak]}
    llc = stage_chart.figure(dataclasses.replace(story, stages=stages)).axes[2]
    upright = {line.get_xdata()[0]: line for line in llc.lines if len(line.get_xdata()) == 2}
    looks = [upright[b["step"]].get_linestyle() for b in stages["boundaries"]]
    assert looks == ["-", "--"]
    legend = [t.get_text() for t in llc.get_legend().get_texts()]
    assert "weak boundary" in legend
