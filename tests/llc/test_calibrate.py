"""Calibration.

The step follows the curvature, the proposal follows the flags, and the whole runs on a small grid.
"""

import json

import pytest

from devsort.charts import calibrate as charts
from devsort.llc import calibrate as module
from devsort.llc.calibrate import Trial, calibrate, grid_point, propose, shape_correlations
from devsort.sorting.run import open_run


def trial(n_beta: float, step: int = 10, **changes) -> Trial:
    plain = {"lr": 1e-5, "llc": 1.0, "se": 0.1, "rhat": 1.0, "climb": 0.1, "gap": 0.0, "flags": ()}
    return Trial(n_beta=n_beta, localization=n_beta, step=step, **(plain | changes))


def test_step_is_a_quarter_of_the_largest_stable_one(tiny_run):
    point = grid_point(tiny_run, n_beta=1000.0, ratio=0.5, curvature=20.0)
    assert point.localization == 500.0
    assert point.lr == pytest.approx(1 / (1000 * 20 + 500), rel=0.03)  # two digits
    assert point.num_burnin_steps == min(module.MAX_BURNIN, -(-4 // (point.lr * 500)))


def test_fewest_flags_win_and_then_the_smallest_climb(tiny_run):
    grid = [grid_point(tiny_run, n, 1.0, 10.0) for n in (100.0, 200.0, 300.0)]
    trials = [
        trial(100.0, flags=("negative",), climb=0.01),
        trial(200.0, climb=0.5),
        trial(300.0, climb=0.2),
    ]
    assert propose(trials, grid)["settings"]["n_beta"] == 300.0
    assert "    n_beta: 300" in propose(trials, grid)["config"].splitlines()


def test_shape_is_compared_by_rank():
    values = {300.0: (1, 2, 3), 1000.0: (10, 20, 30), 3000.0: (3, 2, 1), 10000.0: (1, 3, 2)}
    trials = [
        trial(n, step, llc=float(v)) for n, llcs in values.items() for step, v in enumerate(llcs)
    ]
    found = {tuple(row["n_beta"]): row["rank_correlation"] for row in shape_correlations(trials)}
    assert found[300.0, 1000.0] == 1 and found[300.0, 3000.0] == -1 and found[300.0, 10000.0] == 0.5


def test_calibrate_writes_json_and_charts(smoke, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHECKPOINTS", 2)
    monkeypatch.setattr(module, "N_BETAS", (100.0, 1000.0))
    monkeypatch.setattr(module, "RATIOS", (1.0,))
    monkeypatch.setattr(module, "DRAWS", 20)
    monkeypatch.setattr(module, "MAX_BURNIN", 10)
    run = open_run(smoke.copy(tmp_path, "checkpoints", "training.jsonl"))
    value, traces = calibrate(run)
    assert len(value["trials"]) == len(traces) == 4
    assert json.loads(run.calibration.read_text())["proposal"] == value["proposal"]
    assert [p.name for p in charts.draw(run, value, traces)] == [
        "calibration.png",
        "calibration.svg",
        "calibration-traces.png",
        "calibration-traces.svg",
    ]
    assert "Proposed, because" in module.table(value)
