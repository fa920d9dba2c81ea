"""Results as pandas tables."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from devsort.errors import UserError
from devsort.llc.describe import trajectory_frame

if TYPE_CHECKING:
    import pandas as pd


def to_dataframe(value: xr.Dataset | Mapping[str, Any]) -> "pd.DataFrame":
    """Converts a result to a table.

    Args:
        value: A trajectory (`llc_trajectory`, `load_trajectory`, `run.read(LLC)`), the heads of a
            run (`run.read(HEADS)`), or the stages of `find_stages`, stages.json or
            `run.read(STAGES)`.

    Returns:
        For a trajectory, one row per checkpoint and restriction; see
        `llc.describe.trajectory_frame`. For heads, one row per checkpoint, with step, loss,
        accuracy, every other quantity that is a single number, each score and label under its name,
        and a quantity with one number per head as NAME_0, NAME_1, …. For stages, one row per stage,
        with every quantity that is a single value; an interval NAME_ci95 becomes the columns
        NAME_low and NAME_high.

    Raises:
        UserError: If the value is none of these.
    """
    if isinstance(value, Mapping) and "stages" in value and not isinstance(value, xr.Dataset):
        return _stages(value)
    if isinstance(value, xr.Dataset) and "llc" in value:
        return trajectory_frame(value)
    if isinstance(value, xr.Dataset) and "checkpoint" in value.dims:
        return _by_checkpoint(value)
    kind = type(value).__name__
    raise UserError(f"a {kind} cannot be made into a table", "give a trajectory, heads or stages")


def _stages(value: Mapping[str, Any]) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame([_spread(stage) for stage in value["stages"]])


def _spread(stage: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in stage.items():
        if key.endswith("_ci95"):
            name = key.removesuffix("_ci95")
            flat[f"{name}_low"], flat[f"{name}_high"] = value
        elif not isinstance(value, Mapping | list):
            flat[key] = value
    return flat


def _by_checkpoint(value: xr.Dataset) -> "pd.DataFrame":
    """Returns the variables over checkpoints, and over one axis of names or heads besides."""
    import pandas as pd

    columns: dict[str, np.ndarray] = {"step": value["checkpoint"].values}
    for name, variable in value.data_vars.items():
        if variable.dims == ("checkpoint",):
            columns[str(name)] = variable.values
        elif set(variable.dims) in ({"checkpoint", "score"}, {"checkpoint", "label"}):
            (axis,) = set(variable.dims) - {"checkpoint"}
            for key in value[axis].values:
                columns[str(key)] = variable.sel({axis: key}).values
        elif set(variable.dims) == {"checkpoint", "head"}:
            for head in range(value.sizes["head"]):
                columns[f"{name}_{head}"] = variable.isel(head=head).values
    return pd.DataFrame(columns)
