"""Charts of the heads.

What they draw is what is in the tables, and every axis says what it shows.
"""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from devsort.charts.style import head_colour, save_figure
from devsort.sorting import planted
from devsort.sorting.charts import circuits, ownership, reliability
from devsort.sorting.config import HeadsConfig, ModelConfig, TaskConfig
from devsort.sorting.heads import analyse, dataset, run_heads
from devsort.sorting.heads.function import CONDITIONS, head_function
from devsort.sorting.model import infer_shape
from devsort.sorting.task import eval_batch

TASK = TaskConfig(eval_lists=128)


@pytest.fixture(scope="module")
def split():
    params, plan = planted.draw_network("split", TASK, ModelConfig(), 0, 0)
    shape = infer_shape(params, 10, 51)
    return params, plan, shape, eval_batch(TASK)


@pytest.mark.parametrize("chart", [circuits, ownership], ids=["circuits", "ownership"])
def test_charts_of_a_run_are_saved_as_png_and_svg(saved_run, chart):
    run_heads(saved_run)
    paths = save_figure(chart.of_run(saved_run), saved_run.figures, "chart")
    assert paths == [saved_run.figures / f"chart.{kind}" for kind in ("png", "svg")]
    assert all(p.stat().st_size > 5000 for p in paths)


def test_steps_without_stages_are_spread_over_the_saved_ones(saved_run):
    assert circuits.shown_steps(saved_run, 2) == [20]  # from step 30 on, and the run has 20
    assert set(circuits.shown_steps(saved_run)) <= {1, 5, 20}


def test_the_circuits_chart_shows_the_matrices(split):
    params, plan, shape, batch = split
    found = circuits.circuits_of(params, shape, batch)
    diagonal = found["OV"].diagonal(axis1=1, axis2=2)
    assert (diagonal[plan.copies] > 5).all()  # logits
    assert (np.abs(diagonal[~plan.copies]) < 1).all()
    figure = circuits.plot([found, found], ["step 1", "step 2"])
    axes = [ax for ax in figure.axes if ax.get_images()]
    assert len(axes) == 2 * 2 * 2  # heads, kinds, steps
    np.testing.assert_array_equal(axes[0].get_images()[0].get_array(), found["OV"][0])
    np.testing.assert_array_equal(axes[-1].get_images()[0].get_array(), found["QK"][1])
    assert axes[0].get_title(loc="left") == "step 1"
    assert "head 0 OV" in axes[0].get_ylabel()
    bars = [ax.get_ylabel() for ax in figure.axes if not ax.get_images()]
    assert bars == ["logits", "score (nats)"]  # all matrices of a kind share their colours


def test_numbers_take_the_colour_of_the_head_that_they_need(split):
    params, plan, shape, batch = split
    heads = dataset([analyse(params, shape, batch, HeadsConfig())], [1], HeadsConfig())
    rgb = ownership.colours(heads)
    assert rgb.shape == (1, 51, 3)
    for number in range(51):
        expected = to_rgb(head_colour(int(plan.copies[:, number].argmax())))
        np.testing.assert_allclose(rgb[0, number], expected, atol=0.05)


def test_a_suppressed_number_takes_the_suppressors_colour_and_a_line():
    task = TaskConfig(eval_lists=1024)
    params, plan = planted.draw_network("suppression", task, ModelConfig(), 0, 0)
    one = analyse(params, infer_shape(params, 10, 51), eval_batch(task), HeadsConfig(bootstrap=5))
    heads = dataset([one, one], [1, 10], HeadsConfig())
    who = int(plan.suppresses.any(1).argmax())
    rgb = ownership.lowering(heads)[0]
    np.testing.assert_allclose(rgb[~plan.suppresses[who]], 1, atol=0.05)
    undone = -one.ratio[who][plan.suppresses[who]][:, None]
    depth = np.minimum(undone / 0.25, 1)
    assert (depth > 0.6).all()
    expected = depth * np.array(to_rgb(head_colour(who))) + 1 - depth
    np.testing.assert_allclose(rgb[plan.suppresses[who]], expected, atol=1e-6)
    middle = ownership.plot(heads, []).axes[1]
    assert len(middle.collections) == 2  # the map, and the line around what the rule names


def test_a_number_that_needs_no_head_is_white():
    params, _ = planted.draw_network("single", TASK, ModelConfig(), 0, 0)
    shape = infer_shape(params, 10, 51)
    heads = dataset([analyse(params, shape, eval_batch(TASK), HeadsConfig())], [1], HeadsConfig())
    heads["loss_increase"] = heads.loss_increase * 0
    np.testing.assert_allclose(ownership.colours(heads), 1)


def test_step_edges_lie_halfway_on_the_log_axis():
    edges = ownership.step_edges(np.array([1, 100, 10000]))
    np.testing.assert_allclose(edges, [0.1, 10, 1000, 100000])
    assert len(ownership.step_edges(np.array([7]))) == 2


def test_axes_and_events_of_the_ownership_chart(split):
    params, _, shape, batch = split
    one = analyse(params, shape, batch, HeadsConfig())
    heads = dataset([one, one, one], [1, 10, 100], HeadsConfig())
    figure = ownership.plot(heads, [{"event": "split_onset", "step": 10, "ci95": [1, 10]}])
    top, middle, bottom = figure.axes
    assert top.get_ylabel() == middle.get_ylabel() == "number in the list"
    assert bottom.get_ylabel() == "head-mode score"
    assert not middle.collections[1:]  # no head suppresses: no line
    assert bottom.get_xlabel() == "training step"
    assert [t.get_text() for t in bottom.texts] == ["split onset"]


def test_reliability_diagrams_carry_their_figures(split, tmp_path):
    params, _, shape, batch = split
    result = head_function(params, shape, batch, 0)
    rows = reliability.values(result)
    assert tuple(r["condition"] for r in rows) == CONDITIONS
    assert rows[0]["accuracy"] > 0.99 > rows[1]["accuracy"]
    paths = reliability.draw(result, tmp_path)
    assert [p.name for p in paths] == ["reliability.png", "reliability.svg"]
    figure = reliability.plot(result)
    assert f"loss {result.conditions['whole'].loss:.3f} nats" in figure.axes[0].get_title(
        loc="left"
    )
