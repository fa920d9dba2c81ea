"""What is told of stages: the JSON object, its notes, and the text."""

import dataclasses
import json
from itertools import pairwise

import numpy as np
import pytest

from devsort.stages import Trajectory
from devsort.stages.config import StagesConfig
from devsort.stages.report import find_stages, table
from devsort.stages.synthetic import Noise, plant

CONFIG = StagesConfig(bootstrap=40)


@pytest.fixture(scope="module")
def step():
    """A jump, with chains and a loss."""
    t = plant("step", 3).trajectory
    return dataclasses.replace(t, loss=np.linspace(4, 0.1, len(t)))


@pytest.fixture(scope="module")
def found(step):
    return find_stages(step, CONFIG)


def test_a_boundary_tells_its_jump_and_how_sure_it_is(found, step):
    (boundary,) = found["boundaries"]
    before, after = found["stages"]
    assert boundary["jump"] == pytest.approx(after["llc_from"] - before["llc_to"])
    assert boundary["jump"] > 50 and boundary["strength"] == "strong"
    assert boundary["present"] == 1.0 and boundary["vanishes_at_penalty"] > CONFIG.penalty
    x = step.x < np.log10(boundary["step"])
    assert before["llc_median"] == np.median(step.llc[x])


def test_stages_have_names_with_probabilities_and_evidence(found):
    for stage in found["stages"]:
        assert 0 <= stage["probability"] <= 1
        assert sum(stage["names"].values()) == pytest.approx(1)
        assert stage["names"].get(stage["name"], 0.0) == stage["probability"]
        keys = {"of", "rule", "value", "holds"}
        assert stage["evidence"] and all(rule.keys() == keys for rule in stage["evidence"])
    assert json.loads(json.dumps(found)) == found


def test_the_line_holds_the_stages_and_the_jump(found):
    line = np.array(found["line"])
    assert (np.diff(line[:, 0]) >= 0).all()
    jumps = [(a, b) for a, b in pairwise(found["line"]) if a[0] == b[0]]
    ((before, after),) = jumps
    assert after[1] - before[1] == pytest.approx(found["boundaries"][0]["jump"], rel=1e-6)
    assert line[[0, -1], 1] == pytest.approx(
        [found["stages"][0]["llc_from"], found["stages"][-1]["llc_to"]], rel=1e-6
    )


def test_the_noise_says_what_was_inferred(found, step):
    noise = found["noise"]
    assert noise["chains"] and noise["reported"] == np.median(step.se)
    assert [s for s, _ in noise["scatter_at"]] + noise["outliers"] == pytest.approx(
        step.step.tolist()
    )
    assert np.median([s for _, s in noise["scatter_at"]]) == noise["scatter"]
    assert found["notes"] == []


def peak(se):
    x = np.linspace(0, 4, 60)
    y = 100 - 30 * np.abs(x - 2) + np.random.default_rng(0).standard_normal(60)
    return Trajectory(10**x, y, np.full(60, se))


def test_outliers_are_noted():
    curve = peak(1.0)
    off = curve.llc.copy()
    off[20] += 40
    (note,) = find_stages(Trajectory(curve.step, off, curve.se), CONFIG)["notes"]
    assert note == f"left out as outliers: step {curve.step[20]:g}"


@pytest.mark.parametrize(
    ("se", "note"),
    [
        (30.0, "the reported errors (30) are taken to be errors of the level, which all "
               "checkpoints have in common; the shape has an error of 0.92, the scatter between "
               "neighbours"),
        (0.1, "the points scatter by 0.92 about the line, which is more than the "
              "reported errors (0.1)"),
        (np.nan, "no errors are reported; the points scatter by 0.92 about the line"),
    ],
)  # fmt: skip
def test_errors_that_are_no_scatter_are_noted(se, note):
    value = find_stages(peak(se), CONFIG)
    assert value["notes"] == [note]
    common = np.sqrt(30**2 - value["noise"]["scatter"] ** 2) if se == 30 else 0.0
    assert value["noise"]["common"] == pytest.approx(common)
    low, high = value["stages"][0]["llc_from_ci95"]
    assert (high - low > 100) == (se == 30)


def test_the_text_tells_jump_and_sensitivity(found):
    text = table(found)
    jump = found["boundaries"][0]["jump"]
    assert f"the LLC jumps by {jump:+.4g}; strong: in 100% of resamples" in text


def test_large_steps_do_not_run_together():
    t = plant("peak", 2, noise=Noise(outliers=0)).trajectory
    value = find_stages(dataclasses.replace(t, step=1.234567e9 * t.step), CONFIG)
    first = table(value).splitlines()[1].removeprefix("LLC rising").split()
    assert [float(v) for v in first[:2]] == [value["stages"][0]["from"], value["stages"][0]["to"]]
