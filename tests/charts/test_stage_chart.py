import warnings
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.text import Text
from stages.datasets import EVENTS, head_scores, llc_table

from devsort.charts import compare, stage_chart
from devsort.errors import UserError
from devsort.sorting.stages import as_json, scores
from devsort.stages import detect, from_llc
from devsort.stages.config import StagesConfig


@pytest.fixture(scope="module")
def story():
    table = llc_table()
    stages = as_json(
        detect(from_llc(table), StagesConfig(bootstrap=40)), scores(head_scores()), EVENTS
    )
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
    assert labels == ["loss (nats)", "LLC (nats)", "head LLC (nats)", "head-mode score"]
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


def test_no_text_is_smaller_than_six_points_and_all_share_a_font(drawn):
    assert min(t.get_fontsize() for t in texts(drawn)) >= 6
    assert {t.get_fontname() for t in texts(drawn)} == {"DejaVu Sans"}


def test_boundaries_and_flagged_points_are_drawn_where_they_are(drawn, story):
    llc = drawn.axes[2]
    lines = [
        line.get_xdata()[0]
        for line in llc.lines
        if len(set(line.get_xdata())) == 1 and line.get_marker() == "None"
    ]
    assert lines == [b["step"] for b in story.stages["boundaries"]]
    (flags,) = [line for line in llc.lines if line.get_marker() == "x"]
    assert flags.get_xdata() == pytest.approx(story.llc.step[story.llc.flagged])


def test_a_trajectory_alone_gets_one_panel(story):
    figure = stage_chart.figure(stage_chart.Story({**story.stages, "events": []}, story.llc))
    assert [ax.get_ylabel() for ax in figure.axes[1:]] == ["LLC (nats)"]


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


def test_the_overlay_shows_each_run(story):
    figure = compare.figure({"a": story, "b": story})
    assert [t.get_text() for t in figure.axes[2].get_legend().get_texts()] == ["a", "b"]
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["a", "b"]


def test_a_narrow_stage_of_the_overlay_has_its_name_on_two_lines(story):
    first, second, *rest = story.stages["stages"]
    narrow = [
        {**first, "to": 80},
        {**second, "name": "head overlapping", "from": 80, "to": 190},
        *rest,
    ]
    figure = compare.figure({"a": stage_chart.Story({**story.stages, "stages": narrow}, story.llc)})
    assert "head\noverlapping" in {t.get_text() for t in figure.axes[0].texts}


def test_a_csv_whose_loss_no_log_axis_can_show_gets_no_loss_panel(tmp_path, story):
    rows = [
        f"{s},{v},{e},-1"
        for s, v, e in zip(story.llc.step, story.llc.value, story.llc.se, strict=True)
    ]
    path = tmp_path / "t.csv"
    path.write_text("step,llc,se,loss\n" + "\n".join(rows), encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value = stage_chart.draw_csv(path, StagesConfig(bootstrap=20), tmp_path / "out")
    assert {s["loss"] for s in value["stages"]} == {"flat"} and (
        tmp_path / "out" / "stages.png"
    ).is_file()


def test_training_log_is_read_or_refused(tiny_run):
    assert stage_chart.training_loss(tiny_run) is None
    tiny_run.training_log.write_text(
        '{"step": 0, "val_loss": 4}\n{"step": 5, "val_loss": 3.5}\n{"step": 6, "val_loss": null}\n'
    )
    curve = stage_chart.training_loss(tiny_run)
    assert curve.step.tolist() == [5] and np.allclose(curve.value, [3.5])
    tiny_run.training_log.write_text('{"step": 5, "val')
    with pytest.raises(
        UserError, match=r"training.jsonl is cut short or damaged; run `devsort train .* --force`"
    ):
        stage_chart.training_loss(tiny_run)
