"""Calibration: the step follows the curvature, the proposal follows the flags."""

import dataclasses
import json
import math

import pytest
import yaml

from devsort.llc import calibrate, tuning
from devsort.llc.calibrate import (
    Trial,
    best_point,
    grid,
    grid_of,
    propose,
    shape_correlations,
    table,
)  # fmt: skip
from devsort.llc.tuning import Tuned
from devsort.sampling import SamplerConfig
from devsort.sorting.artifacts import CALIBRATION
from devsort.sorting.calibrate import calibrate as calibrate_run
from devsort.sorting.run import open_run


def trial(n_beta: float, step: int = 10, **changes) -> Trial:
    plain = {
        "localization": n_beta, "lr": 1e-5, "llc": 1.0, "se": 0.1, "rhat": 1.0, "climb": 0.1,
        "gap": 0.0, "flags": (),
    }  # fmt: skip
    return Trial(n_beta=n_beta, step=step, **(plain | changes))


@pytest.mark.parametrize("geometry", ["absolute", "relative"])
def test_step_is_a_quarter_of_the_largest_stable_one(geometry):
    base, places = SamplerConfig(geometry=geometry, batch_size=8, seed=3), grid_of(geometry)
    points = grid(base, {localization: 20.0 for _, localization in places})
    assert [(point.n_beta, point.localization) for point in points] == places
    for point in points:
        n_beta, localization = point.n_beta, point.localization
        assert point.lr == pytest.approx(1 / (n_beta * 20 + localization), rel=0.05)  # two digits
        relaxed = -(-4 // (point.lr * localization))
        assert point.num_burnin_steps == min(calibrate.MAX_BURNIN, relaxed)
        assert (point.geometry, point.batch_size, point.seed) == (geometry, 8, 3)


def test_fewest_flags_win_and_then_the_smallest_climb():
    points = [
        SamplerConfig(geometry="absolute", n_beta=n, localization=n) for n in (100.0, 200.0, 300.0)
    ]
    trials = [
        trial(100.0, flags=("negative",), climb=0.01),
        trial(200.0, climb=0.5),
        trial(300.0, climb=0.2),
    ]
    assert best_point(trials, points) == points[2]
    found = propose(trials, points)
    assert found["settings"]["n_beta"] == 300.0
    assert found["reasons"]["n_beta"] == (
        "0 flags over 1 checkpoints, the fewest of 3 settings; the loss climbs at most 20% of the "
        "way to a uniform guess, flagged at 75%"
    )


def test_a_fall_of_the_loss_counts_as_much_as_a_climb():
    """Where the network is no minimum, the sharpest posterior falls farthest."""
    points = [SamplerConfig(n_beta=n, localization=4.0) for n in (300.0, 1000.0)]
    trials = [
        trial(p.n_beta, step, localization=4.0, climb=climb, flags=("negative",) * (step == 1))
        for p, climb in zip(points, (-0.3, -2.0), strict=True)
        for step in (1, 100)
    ]
    assert best_point(trials, points) == points[0]
    assert propose(trials, points)["reasons"]["n_beta"].endswith(
        "; negative at every setting at step 1: search at later steps"
    )


def test_without_chance_loss_the_climb_is_unknown():
    points = [SamplerConfig(n_beta=n, localization=4.0) for n in (300.0, 1000.0)]
    trials = [trial(n, localization=4.0, climb=math.nan) for n in (300.0, 1000.0)]
    assert best_point(trials, points) == points[0]
    proposal = propose(trials, points)
    assert proposal["reasons"]["n_beta"] == (
        "0 flags over 1 checkpoints, the fewest of 2 settings; without chance_loss it is unknown "
        "how close the loss comes to a uniform guess"
    )
    rows = [dataclasses.asdict(t) for t in trials]
    text = table({"trials": rows, "shape": [], "chains": [], "proposal": proposal})
    assert "nan" not in text and "    –  " in text.splitlines()[1]


def test_the_proposal_is_yaml_with_a_reason_above_each_setting():
    point = SamplerConfig(n_beta=300.0, localization=4.0, lr=1.5e-3)
    further = [Tuned("batch_size", 128, "a reason"), Tuned("momentum", 0.5, "long " * 30)]
    found = propose([trial(300.0, localization=4.0)], [point], further)
    lines = found["config"].splitlines()
    assert lines[-5:-3] == ["    # a reason", "    batch_size: 128"]
    assert max(map(len, lines)) <= 100
    assert yaml.safe_load(found["config"]) == {
        "llc": {"sampler": {"geometry": "relative", **found["settings"]}}
    }
    assert found["settings"] == {
        "n_beta": 300.0, "localization": 4.0, "lr": 1.5e-3, "batch_size": 128, "momentum": 0.5
    }  # fmt: skip


def test_shape_is_compared_by_rank():
    values = {300.0: (1, 2, 3), 1000.0: (10, 20, 30), 3000.0: (3, 2, 1), 10000.0: (1, 3, 2)}
    trials = [
        trial(n, step, localization=ratio * n, llc=float(v) if ratio == 1 else 0.0)
        for n, llcs in values.items()
        for step, v in enumerate(llcs)
        for ratio in (0.3, 1, 3)  # the middle one counts
    ]
    found = {tuple(row["n_beta"]): row["rank_correlation"] for row in shape_correlations(trials)}
    assert found[300.0, 1000.0] == 1 and found[300.0, 3000.0] == -1 and found[300.0, 10000.0] == 0.5


def test_a_calibration_is_written_and_told(smoke, tmp_path, monkeypatch):
    smaller = {"CHECKPOINTS": 2, "N_BETAS": (100.0, 1000.0), "DRAWS": 20}
    for name, value in {**smaller, "MAX_BURNIN": 10}.items():
        monkeypatch.setattr(calibrate, name, value)
    monkeypatch.setattr(tuning, "STEPS", 40)
    run = open_run(smoke.copy(tmp_path, "checkpoints", "training.jsonl"))
    value, traces = calibrate_run(run)
    assert len(value["trials"]) == len(traces) == 12
    assert run.read(CALIBRATION) == json.loads(json.dumps(value))
    assert {trace.config.n_beta for trace in traces.values()} == {100.0, 1000.0}
    assert {row["momentum"] for row in value["chains"]} == set(tuning.MOMENTA)
    assert value["proposal"]["config"] in table(value)
