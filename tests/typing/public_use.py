"""The public names as a user calls them, with the types that they have; mypy reads this."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, assert_type

import pandas as pd
import torch
import xarray as xr

import devsort


def sampled(module: torch.nn.Module, data: torch.Tensor) -> devsort.Estimate:
    """One checkpoint."""
    loss, params = devsort.module_loss(module, lambda model, batch: model(batch).square())
    assert_type(params, dict[str, torch.Tensor])
    config = devsort.SamplerConfig(n_beta=100, num_draws=10)
    assert_type(config.lr, float)
    blocks = {"0.weight": devsort.Block(axis=0)}
    trace = devsort.sample(loss, params, data, config, blocks=blocks)
    assert_type(trace, devsort.Trace)
    found = devsort.estimate(trace, chance_loss=1.0)
    assert_type(found.llc, float)
    assert_type(found.flags, tuple[str, ...])
    rows = devsort.check_units(loss, params, {"double": {"0.*": 2.0}}, data, config)
    assert_type(rows, list[dict[str, Any]])
    return found


def followed(loss: Callable[..., torch.Tensor], data: torch.Tensor) -> None:
    """A folder of checkpoints."""
    options = devsort.Options(chance_loss=1.0, processes=1)
    found = devsort.calibrate(loss, "checkpoints/", data, options=options)
    assert_type(found, devsort.Calibration)
    trajectory = devsort.llc_trajectory(loss, "checkpoints/", data, found.config, options=options)
    assert_type(trajectory, xr.Dataset)
    assert_type(devsort.load_trajectory("llc.zarr"), xr.Dataset)
    assert_type(devsort.to_dataframe(trajectory), pd.DataFrame)
    stages = devsort.find_stages(trajectory, events={"grokked": 700})
    assert_type(stages, dict[str, Any])
    assert_type(devsort.stage_chart(trajectory, stages, "stages.png"), list[Path])
    assert_type(devsort.compare({"a": (trajectory, stages)}), dict[str, Any])


def read(draws: str) -> None:
    """What others wrote."""
    assert_type(devsort.from_devinterp(draws), devsort.Imported)
    curve = devsort.read_csv("trajectory.csv", ["step=tokens"])
    assert_type(curve, devsort.Trajectory)
    assert_type(devsort.explore(curve, out="explorer.html"), Path)
    try:
        devsort.read_csv("nothing.csv")
    except devsort.UserError as error:
        assert_type(error.fix, str)
