"""Runs side by side: aligned stages, figures with intervals, differences with intervals."""

import json

import pytest
from stages.datasets import EVENTS, head_scores, llc_table

from devsort.sorting.stages import scores
from devsort.stages import compare, detect, from_llc
from devsort.stages.config import StagesConfig
from devsort.stages.report import as_json
from devsort.stages.summary import FIGURES, summary

FALLING = {"edges": (1, 30, 300, 6000), "levels": (20.0, 20.0, 900.0, 300.0)}
EARLY = {"edges": (1, 20, 100, 6000), "levels": (20.0, 20.0, 400.0, 100.0)}
LONG = {"edges": (1, 20, 100, 700, 6000), "levels": (20.0, 20.0, 400.0, 1500.0, 500.0)}
SORTER = {"loss": 0.04, "split_score": 1.0, "split_onset": 700, "split_onset_ci95": [600, 800]}


def measured(name, seed=0, **curve):
    """The table of a run and its stages."""
    table = llc_table(seed=seed, **curve)
    found = detect(from_llc(table), StagesConfig(bootstrap=60))
    stages = as_json(found, scores(head_scores()), EVENTS)
    return {"run": name, **summary(table), **SORTER}, stages


@pytest.fixture(scope="module")
def two():
    tables, stages = zip(measured("a", **FALLING), measured("b", 1, **EARLY), strict=True)
    return compare.side_by_side(tables, stages)


def test_figures_of_a_run_are_those_of_its_table(two):
    assert two["runs"] == [measured("a", **FALLING)[0], measured("b", 1, **EARLY)[0]]


def test_differences_add_the_half_widths_of_the_stored_intervals_in_squares(two):
    a, b, (d,) = *two["runs"], two["differences"]
    for key in FIGURES:
        widths = [high - low for low, high in (run[f"{key}_ci95"] for run in (a, b))]
        low, high = d[key]["ci95"]
        assert d[key]["difference"] == pytest.approx(b[key] - a[key])
        assert high - low == pytest.approx((widths[0] ** 2 + widths[1] ** 2) ** 0.5)


def test_differences_have_intervals_that_hold_the_planted_ones(two):
    (d,) = two["differences"]
    assert d["run"] == "b" and d["reference"] == "a"
    low, high = d["final_llc"]["ci95"]
    assert low - 20 < -200 < high + 20
    ends = [s["to_log10"] for s in d["stages"]]
    assert [s["llc"] for s in d["stages"]] == ["flat", "rising", "falling"] and ends[2] is None
    assert ends[1]["difference"] == pytest.approx(-0.477, abs=0.1)  # log10(100 / 300)


def test_stages_of_three_runs_are_aligned_in_order():
    runs = measured("a", **FALLING), measured("b", **LONG), measured("c", **FALLING)
    tables, stages = zip(*runs, strict=True)
    value = compare.side_by_side(tables, stages)
    rows = [[s and s["llc"] for s in row["runs"]] for row in value["stages"]]
    assert all(len({x for x in row if x}) == 1 for row in rows)  # one direction a row
    for i in range(3):
        assert [r["runs"][i] for r in value["stages"] if r["runs"][i]] == stages[i]["stages"]
    assert all(row[0] == row[2] for row in rows)


def test_markdown_and_json_hold_the_same_runs(two):
    json.dumps(two, allow_nan=False)
    text = compare.markdown(two)
    assert "| a | " in text and "b − a" in text and "peak LLC" in text and "p = " in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("| a ")}
    assert widths == {10}
    low, high = two["runs"][0]["peak_llc_ci95"]
    assert f" ({low:.4g} to {high:.4g}) |" in text and "700 (600 to 800)" in text


def test_flags_stand_beside_the_numbers_that_carry_them(two):
    a, b = two["runs"]
    flagged = {**b, "peak_llc_flags": ["negative", "improper"], "fall_flags": ["negative"]}
    stages = [{**s, "flagged": 2} for s in two["stages"][0]["runs"]]
    tables = [{**a, "final_llc_flags": ["improper"]}, flagged]
    values = {**two, "runs": tables, "stages": [{**two["stages"][0], "runs": stages}]}
    lines = compare.markdown(values).splitlines()
    row = next(line for line in lines if line.startswith("| b |"))
    assert row.count("[negative, improper]") == 1 and row.count("[negative]") == 1
    assert next(line for line in lines if line.startswith("| a |")).count("[improper]") == 1
    assert sum(line.count("[2 flagged]") for line in lines) == 2
    difference = compare.difference(tables, [], 1)
    assert difference["final_llc"]["flags"] == ["improper"]
    assert difference["peak_step"]["flags"] == ["negative", "improper"]
    text = compare.markdown({**values, "differences": [difference]})
    assert "peak LLC" in text and text.count("[negative, improper] |") == 3
    unmarked = compare.markdown({**two, "runs": [a, b]})
    assert "[negative" not in unmarked


def test_what_no_sorter_has_is_left_open(two):
    bare = {key: value for key, value in two["runs"][0].items() if key not in SORTER}
    line = compare.markdown({**two, "runs": [bare]}).splitlines()[4]
    assert line.startswith("| a | ") and line.endswith("| – | – | – |")


def test_stages_of_different_direction_are_not_alike():
    a = {"name": "x", "llc": "rising", "from": 1, "to": 100}
    assert compare.similarity(a, {**a, "llc": "falling"}) == 0
    assert compare.similarity(a, a) == pytest.approx(3)
    unnamed = {**a, "name": "unnamed"}
    assert compare.similarity(unnamed, {**unnamed, "from": 10}) == pytest.approx(1.5)


def test_a_shared_stage_that_only_one_run_earns_a_name_for_shows_both():
    a = {"name": "head specialization", "llc": "falling", "from": 10, "to": 100}
    rows = compare.aligned([[a], [{**a, "name": "unnamed"}], [a]])
    assert [r["name"] for r in rows] == ["head specialization / unnamed"]
