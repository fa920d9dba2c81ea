"""Stages of a user's trajectory, with signals and events of their own, and the chart."""

import numpy as np
import pytest
import xarray as xr
from folders import told

from devsort.llc.flags import FLAGS
from devsort.networks.stages import compare, find_stages, stage_chart

STEPS = np.unique(np.round(np.geomspace(1, 10_000, 31)).astype(int))
X = np.log10(STEPS)


def trajectory(level=lambda x: np.interp(x, [0, 2, 4], [0, 100, 60])) -> xr.Dataset:
    """An LLC that rises to step 100 and falls from there, in two restrictions."""
    noise = np.random.Generator(np.random.PCG64(0)).normal(0, 1, (len(X), 2))
    llc = level(X)[:, None] * np.array([1, 0.5]) + noise
    lead = ("checkpoint", "restriction")
    data = {
        "llc": (lead, llc),
        "se": (lead, np.ones_like(llc)),
        "ci95": ((*lead, "bound"), llc[..., None] + np.array([-2.0, 2.0])),
        "llc_chain": ((*lead, "chain"), llc[..., None] + np.array([-1.0, 0, 1.0])),
        "flags": ((*lead, "flag"), np.zeros((*llc.shape, len(FLAGS)), bool)),
        "checkpoint_loss": ("checkpoint", 2 * np.exp(-X)),
    }
    names = {"checkpoint": STEPS, "restriction": ["full", "attention"], "flag": list(FLAGS)}
    return xr.Dataset(data, names, {"notes": ["something to know"]})


def test_a_turn_is_found_and_an_event_told_beside_it():
    found = find_stages(trajectory(), events={"probe": 90, "grokked": (2000, (1500, 2500))})
    assert len(found["boundaries"]) == 1
    low, high = found["boundaries"][0]["ci95"]
    assert low <= 100 <= high and [s["llc"] for s in found["stages"]] == ["rising", "falling"]
    probe, grokked = found["events"]
    assert (probe["ci95"], grokked["ci95"]) == (None, [1500, 2500])
    assert grokked["stage_index"] == 1 and probe["boundary_distance_log10"] < 0.2
    assert found["notes"] == ["something to know"] and found["summary"]["peak_llc"] > 90


def test_a_signal_shares_its_boundary():
    """The LLC bends too little to be seen alone; the signal turns at step 1000."""
    flat = trajectory(lambda x: 50 + 0 * x)
    steps = np.geomspace(1, 10_000, 200)
    turning = np.interp(np.log10(steps), [0, 3, 4], [0.0, 0.0, 5.0])
    turning += 0.05 * np.random.default_rng(1).standard_normal(200)
    assert find_stages(flat)["boundaries"] == []
    found = find_stages(flat, signals={"accuracy": (steps, turning)})["boundaries"]
    strength = [b["vanishes_at_penalty"] for b in found]
    first = found[int(np.argmax(strength))]
    assert first["ci95"][0] <= 1000 <= first["ci95"][1]
    assert all(s < max(strength) / 5 for s in strength if s != max(strength))


def test_restrictions_and_the_loss_are_signals_by_name():
    assert len(find_stages(trajectory(), signals=["attention", "loss"])["boundaries"]) >= 1


def test_the_chart_shows_all_that_is_given(tmp_path):
    found = trajectory()
    stages = find_stages(found, events={"probe": 90})
    paths = stage_chart(found, stages, tmp_path / "a.png", signals={"accuracy": (STEPS, X)})
    assert [p.name for p in paths] == ["a.png", "a.svg"]
    svg = paths[1].read_text()
    for word in ("attention", "whole model", "accuracy", "probe", "loss (nats)", "LLC of parts"):
        assert word in svg


def test_two_trajectories_are_compared_with_intervals():
    a, b = trajectory(), trajectory(lambda x: np.interp(x, [0, 2, 4], [0, 150, 60]))
    found = compare({"a": (a, find_stages(a)), "b": (b, find_stages(b))})
    (difference,) = found["differences"]
    low, high = difference["peak_llc"]["ci95"]
    assert low <= 50 <= high and high - low < 10
    assert (difference["run"], difference["reference"]) == ("b", "a")


def test_trajectories_of_other_settings_are_not_compared():
    a, b = (trajectory().assign_attrs(sampler={"n_beta": n, "prior": 0}) for n in (100, 1000))
    stages = find_stages(a)
    what = "b and a were sampled with different n_beta; sample all with the same settings"
    assert told(compare, {"a": (a, stages), "b": (b, stages)}) == what
    what = "compare needs two or more trajectories; give name → (trajectory, stages)"
    assert told(compare, {"a": (a, stages)}) == what


REFUSED = {
    "too short": (
        {"signals": {"a": ([1, 100], [0, 1])}},
        "signal 'a' does not cover steps 1 to 10000; give it for the whole trajectory",
    ),
    "uneven": (
        {"signals": {"a": ([1, 100], [0, 1, 2])}},
        "signal 'a' has 2 steps and 3 values; give a value for each step",
    ),
    "event at zero": (
        {"events": {"a": 0}},
        "event 'a' is at step 0 with the interval None; "
        "give a step of at least 1, within its interval",
    ),
    "event outside of its interval": (
        {"events": {"a": (5, (6, 7))}},
        "event 'a' is at step 5 with the interval [6.0, 7.0]; "
        "give a step of at least 1, within its interval",
    ),
    "no such restriction": (
        {"signals": ["mlp"]},
        "the trajectory has no restriction mlp, only full, attention; sample it as well",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(case):
    given, message = REFUSED[case]
    assert told(lambda: find_stages(trajectory(), **given)) == message
