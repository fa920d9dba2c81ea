import json

import pytest
from stages.datasets import EVENTS, head_scores, llc_table

from devsort.sorting.stages import as_json, scores
from devsort.stages import compare, detect, from_llc
from devsort.stages.config import StagesConfig

FALLING = {"edges": (1, 30, 300, 6000), "levels": (20.0, 20.0, 900.0, 300.0)}
EARLY = {"edges": (1, 20, 100, 6000), "levels": (20.0, 20.0, 400.0, 100.0)}
LONG = {"edges": (1, 20, 100, 700, 6000), "levels": (20.0, 20.0, 400.0, 1500.0, 500.0)}


def measured(name, seed=0, **curve):
    table = llc_table(seed=seed, **curve)
    stages = as_json(
        detect(from_llc(table), StagesConfig(bootstrap=60)), scores(head_scores()), EVENTS
    )
    return compare.summary(name, table, head_scores(), stages), stages


@pytest.fixture(scope="module")
def two():
    tables, stages = zip(measured("a", **FALLING), measured("b", 1, **EARLY), strict=True)
    return compare.side_by_side(tables, stages)


def test_figures_of_a_run(two):
    a = two["runs"][0]
    assert a["peak_llc"] == pytest.approx(900, rel=0.15) and a["final_llc"] == pytest.approx(
        300, rel=0.15
    )
    assert a["peak_step_ci95"][0] <= 300 <= a["peak_step_ci95"][1] * 1.3
    assert a["fall"] == pytest.approx(a["peak_llc"] - a["final_llc"]) and a["split_onset"] == 700
    assert a["loss"] == pytest.approx(0.04) and a["split_score"] == pytest.approx(1.0, abs=0.01)


def test_differences_have_intervals_that_hold_the_planted_ones(two):
    (d,) = two["differences"]
    assert d["run"] == "b" and d["reference"] == "a"
    low, high = d["final_llc"]["ci95"]
    assert low - 20 < -200 < high + 20
    ends = [s["to_log10"] for s in d["stages"]]
    assert [s["llc"] for s in d["stages"]] == ["flat", "rising", "falling"] and ends[2] is None
    assert ends[1]["difference"] == pytest.approx(-0.477, abs=0.1)  # log10(100 / 300)


def test_stages_of_three_runs_are_aligned_in_order():
    tables, stages = zip(
        measured("a", **FALLING), measured("b", **LONG), measured("c", **FALLING), strict=True
    )
    value = compare.side_by_side(tables, stages)
    rows = [[s and s["llc"] for s in row["runs"]] for row in value["stages"]]
    assert all(len({x for x in row if x}) == 1 for row in rows)  # one direction a row
    for i in range(3):
        assert [r["runs"][i] for r in value["stages"] if r["runs"][i]] == stages[i]["stages"]
    assert all(row[0] == row[2] for row in rows)


def test_markdown_and_json_hold_the_same_runs(two):
    json.dumps(two, allow_nan=False)
    text = compare.markdown(two)
    assert "| a | " in text and "b − a" in text and "peak LLC (nats)" in text and "p = " in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("| a ")}
    assert widths == {9}


def test_stages_of_different_direction_are_not_alike():
    a = {"name": "x", "llc": "rising", "from": 1, "to": 100}
    assert compare.likeness(a, {**a, "llc": "falling"}) == 0
    assert compare.likeness(a, a) == pytest.approx(3)
    assert compare.likeness(
        {**a, "name": "unnamed"}, {**a, "name": "unnamed", "from": 10}
    ) == pytest.approx(1.5)


def test_a_shared_stage_that_only_one_run_earns_a_name_for_shows_both():
    a = {"name": "head specialization", "llc": "falling", "from": 10, "to": 100}
    rows = compare.aligned([[a], [{**a, "name": "unnamed"}], [a]])
    assert [r["name"] for r in rows] == ["head specialization / unnamed"]
