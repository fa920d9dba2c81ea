"""Describes the variables of a trajectory, and makes tables with one row per estimate."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr
import zarr

from devsort.errors import UserError
from devsort.llc.store import read_store
from devsort.llc.table import rows
from devsort.storage.artifact import Origin

if TYPE_CHECKING:
    import pandas as pd

VARIABLES = {  # name → (meaning, unit)
    "checkpoint": ("training step of the checkpoint", "steps"),
    "restriction": ("weights that move; full is the whole model", ""),
    "part": ("part of the data whose loss is recorded", ""),
    "chain": ("number of the chain", ""),
    "bound": ("low and high end of a 95 % interval", ""),
    "flag": ("possible problem of an estimate, see devsort.llc.flags", ""),
    "llc": ("local learning coefficient λ̂ = nβ (mean L(w) − L(w*))", "1"),
    "se": ("standard error of llc", "1"),
    "ci95": ("95 % interval of llc, low and high", "1"),
    "llc_chain": ("llc of each chain", "1"),
    "heat": ("correction for minibatch noise, subtracted from llc", "1"),
    "rhat": ("rank-normalised split R-hat", "1"),
    "ess": ("effective number of draws of llc", "draws"),
    "chains_failed": ("number of chains that became infinite or NaN", "chains"),
    "flags": ("whether a flag is raised", ""),
    "checkpoint_loss": ("loss L(w*) of the checkpoint on the minibatches", "nats"),
    "part_llc": ("llc on a part of the data, at the same draws", "1"),
    "part_se": ("standard error of part_llc, between chains", "1"),
    "dimension": ("number of free parameters d", "1"),
    "drift": ("(mean of the second half of the draws − mean of the first) / |llc|", "1"),
    "peak": ("largest smoothed rise in the first fifth, divided by the plateau", "1"),
    "climb": ("fraction of the way from L(w*) to the loss of a uniform guess", "1"),
    "slope": ("d log llc / d log nβ", "1"),
    "growth": ("relative growth of |w − w*|² over the draws", "1"),
    "gap": ("relative gap of the identity of equilibrium", "1"),
    "loss": ("loss L(w) of each draw on its minibatch", "nats"),
    "init_loss": ("loss L(w*) on the same minibatch", "nats"),
    "heating": ("excess of nβ (L(w) − L(w*)) by minibatch noise at some draws, first order", "1"),
    "burnin_steps": ("steps before the first draw", "steps"),
    "steps_bw_draws": ("steps from one draw to the next", "steps"),
    "momentum": ("fraction of the momentum that a chain keeps in a step", "1"),
    "batch_size": ("examples per step", "examples"),
    "burnin_loss": ("loss before the first draw", "nats"),
    "burnin_init_loss": ("loss L(w*) on the same minibatches", "nats"),
    "work": ("(w − w*)·G, where G is the whole gradient", "1"),
    "force": ("|G|²", "1"),
    "distance": ("|w − w*|²; in relative geometry in units of the blocks' scales", "1"),
    "part_rise": ("L(w) − L(w*) on a part of the minibatch", "nats"),
    "checksum": ("identity of the draws of a checkpoint", ""),
}


def described(
    dataset: xr.Dataset, variables: Mapping[str, tuple[str, str]] = VARIABLES
) -> xr.Dataset:
    """Returns the data set with `long_name` and `units` set for every variable.

    Args:
        dataset: A trajectory, or another data set.
        variables: Name → meaning and unit.
    """
    copy = dataset.copy()
    for name in copy.variables:
        meaning, unit = variables.get(str(name), (str(name), ""))
        copy[name].attrs.update({"long_name": meaning, "units": unit})
    return copy


def load_trajectory(path: str | Path) -> xr.Dataset:
    """Reads and verifies a stored trajectory.

    Args:
        path: llc.zarr of `llc_trajectory` or of a run, or the folder that contains it.

    Raises:
        UserError: If it is missing, damaged or unfinished.
    """
    path = Path(path)
    path = path / "llc.zarr" if (path / "llc.zarr").is_dir() else path
    make = "the command that made it"
    try:
        attributes = dict(zarr.open_group(path, mode="r").attrs)
        resolved, inputs = (str(attributes[key]) for key in ("resolved", "inputs"))
        origin = Origin(make, resolved, inputs, format=int(str(attributes["format"])), force=False)
    except Exception as e:  # zarr raises many kinds of errors if this is not a store
        what = f"{path} is not a devsort trajectory ({type(e).__name__})"
        raise UserError(what, "give an llc.zarr, or the folder that contains it") from None
    return described(read_store(path, origin)[0])


def trajectory_frame(trajectory: xr.Dataset) -> "pd.DataFrame":
    """Returns a table with one row per checkpoint and restriction.

    Returns:
        The columns step, restriction, llc, se, ci95_low, ci95_high, rhat, ess, loss, chains_failed,
        flags (names separated by commas), and llc_NAME and se_NAME for each part of the data. NaN
        where an estimate is withheld. Units as in `VARIABLES`.
    """
    import pandas as pd

    return pd.DataFrame([_flat(row) for row in rows(trajectory)])


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    low, high = row.pop("ci95") or (None, None)
    parts, flags = row.pop("parts"), row.pop("flags")
    numbers = {"step", "restriction", "chains_failed"}
    flat = {k: v if k in numbers or v is not None else float("nan") for k, v in row.items()}
    flat |= {"ci95_low": low, "ci95_high": high, "flags": ",".join(flags)}
    for name, part in parts.items():
        flat |= {f"llc_{name}": part["llc"], f"se_{name}": part["se"]}
    return flat
