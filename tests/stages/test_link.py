"""How events lie to boundaries, and whether that is chance."""

import numpy as np
import pytest

from devsort.stages import link


def test_an_event_gets_its_stage_and_distance():
    found = link.linked(
        [{"event": "split_onset", "step": 1000, "ci95": [900, 1100]}],
        np.array([1.0, 2.5]),
        ["a", "b", "c"],
    )
    assert found == [
        {
            "event": "split_onset", "step": 1000, "ci95": [900, 1100],
            "stage": "c", "stage_index": 2, "boundary_distance_log10": pytest.approx(0.5),
        }
    ]  # fmt: skip


def test_without_a_boundary_there_is_no_distance():
    assert (
        link.linked([{"event": "e", "step": 10}], np.empty(0), ["a"])[0]["boundary_distance_log10"]
        is None
    )


def test_events_on_boundaries_are_no_chance_and_uniform_events_are():
    rng = np.random.default_rng(0)
    cuts = [np.sort(rng.uniform(0.3, 3.5, 3)) for _ in range(8)]
    close = [link.Timeline(c[:2] + 0.01, c, 0.0, 3.8) for c in cuts]
    assert link.permutation_test(close, permutations=2000)["p"] < 0.001
    p = []
    for _ in range(200):
        runs = [link.Timeline(rng.uniform(0, 3.8, 2), c, 0.0, 3.8) for c in cuts[:3]]
        p.append(link.permutation_test(runs, permutations=200)["p"])
    assert np.mean(np.array(p) < 0.05) < 0.1 and 0.4 < np.mean(p) < 0.6  # uniform under chance


def test_runs_without_events_say_nothing():
    assert link.permutation_test([link.Timeline(np.empty(0), np.array([1.0]), 0, 3)]) == {
        "runs": 0,
        "events": 0,
    }
