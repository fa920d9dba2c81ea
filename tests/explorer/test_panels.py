"""What the page holds is what the commands say, and the draws that were stored."""

import numpy as np
import pytest
import torch
import xarray as xr
from pages import unpacked

from devsort.explorer.panels import llc_curve, llc_traces, of_trajectory, response, traces_of
from devsort.llc.estimate import estimate
from devsort.llc.flags import FLAGS
from devsort.sampling import SamplerConfig, Trace, sample
from devsort.stages import Trajectory


@pytest.fixture(scope="module")
def llc(smoke) -> xr.Dataset:
    return xr.open_zarr(smoke.path / "llc.zarr", consolidated=False).load()


def test_a_curve_has_the_numbers_of_the_command(llc, smoke):
    rows = [r for r in smoke.values["llc"]["trajectory"] if r["restriction"] == "h1"]
    found = llc_curve(llc, "h1", "head 1", "#de8f05")
    assert found["step"] == [row["step"] for row in rows]
    assert found["flags"] == [row["flags"] for row in rows]
    for key in ("rhat", "ess"):
        assert found[key] == pytest.approx([row[key] for row in rows], rel=1e-5)
    assert found["value"] == pytest.approx([row["llc"] for row in rows], rel=1e-5)
    ends = [list(pair) for pair in zip(found["low"], found["high"], strict=True)]
    for pair, row in zip(ends, rows, strict=True):
        assert pair == pytest.approx(row["ci95"], rel=1e-5)


def test_traces_are_the_stored_draws(llc):
    found = llc_traces(llc)
    values = unpacked(found["values"])
    burnin = llc.burnin_loss.sizes["burnin"]
    assert found["burnin"] == burnin and values.shape[-1] == burnin + llc.loss.sizes["draw"]
    cell = {"checkpoint": 2, "restriction": 1, "chain": 0}
    drawn = (llc.loss - llc.init_loss).isel(cell).values
    np.testing.assert_allclose(values[2, 1, 0, burnin:], drawn, rtol=2**-11, atol=1e-7)


def a_trace(seed: int, burnin: int = 10) -> Trace:
    config = SamplerConfig(
        num_chains=3, num_draws=40, num_burnin_steps=burnin, n_beta=100, seed=seed
    )
    return sample(lambda p: p["w"].square().sum(), {"w": torch.ones(5)}, config=config)


def test_any_trajectory_has_its_signals_and_the_diagnostics_of_its_traces():
    step, traces = np.array([1.0, 10.0, 100.0]), [a_trace(seed) for seed in range(3)]
    trajectory = Trajectory(step, np.ones(3), np.full(3, 0.5), loss=np.array([3.0, 2.0, 1.0]))
    loss, llc, norm = of_trajectory(trajectory, traces, {"weight norm": (step, [1, 2, 3])})
    assert [p["title"] for p in (loss, llc, norm)] == ["loss", "LLC", "weight norm"]
    curve = llc["curves"][0]
    assert curve["low"] == pytest.approx([1 - 1.96 * 0.5] * 3)
    truth = [estimate(trace) for trace in traces]
    assert curve["rhat"] == pytest.approx([e.rhat for e in truth], rel=1e-5)
    assert curve["flags"] == [list(e.flags) for e in truth]
    assert {flag for flags in curve["flags"] for flag in flags} <= set(FLAGS)


def test_chains_with_more_burnin_than_others_show_the_last_of_it():
    traces = [a_trace(0), a_trace(0, burnin=16)]
    found = traces_of([1, 10], traces)
    values = unpacked(found["values"])
    assert values.shape == (2, 1, 3, 50)
    assert (found["burnin"], found["burnin_steps"]) == (10, [[10], [16]])
    assert found["steps_bw_draws"] == [[1], [1]]
    for one, trace in zip(values[:, 0], traces, strict=True):
        rise = np.concatenate([trace.burnin_rise, trace.rise], 1)[:, -50:]
        np.testing.assert_allclose(one, rise, rtol=2**-11, atol=1e-7)


def test_a_store_tells_how_long_burnin_was_and_how_far_apart_draws_are(llc):
    cells = llc.sizes["checkpoint"], llc.sizes["restriction"]
    for name, value in (("burnin_steps", 24), ("steps_bw_draws", 2)):
        longer = xr.DataArray(np.full(cells, value), dims=("checkpoint", "restriction"))
        assert llc_traces(llc.assign({name: longer}))[name] == [[value] * cells[1]] * cells[0]


def test_heat_that_was_taken_off_is_shown(llc):
    heat = 0.01 * llc["llc"]
    found = llc_curve(llc.assign(heat=heat), "full", "whole model")
    assert found["heat"] == pytest.approx(heat.sel(restriction="full").values, rel=1e-5)


def test_a_loss_that_is_not_positive_has_a_linear_axis():
    trajectory = Trajectory(np.array([1.0, 10.0]), np.ones(2), np.ones(2), loss=np.array([1.0, 0]))
    assert [panel["log"] for panel in of_trajectory(trajectory)] == [False, False]


def a_response(values: np.ndarray) -> xr.DataArray:
    checkpoints, components, parts = values.shape
    names = {
        "checkpoint": 10 ** np.arange(checkpoints),
        "component": [f"head {i}" for i in range(components)],
        "number": np.arange(parts),
    }
    return xr.DataArray(values, names, dims=tuple(names))


def test_a_response_comes_back_with_its_names():
    values = np.linspace(-1e-7, 1e6, 24).reshape(3, 2, 4)
    found = response("susceptibility", a_response(values), "nats")
    np.testing.assert_array_equal(unpacked(found["values"]), values.astype(np.float32))
    assert (found["step"], found["components"]) == ([1, 10, 100], ["head 0", "head 1"])
    assert found["parts"] == ["0", "1", "2", "3"]
    assert found["limit"] == pytest.approx(np.percentile(np.abs(values), 99))


def test_a_response_of_two_dimensions_is_refused():
    one = a_response(np.zeros((3, 2, 4)))[0]
    with pytest.raises(ValueError, match="expected step, component, part"):
        response("susceptibility", one)
