"""Trajectories for a reader: what each variable means, and tables of one row an estimate."""

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
    "restriction": ("weights that move: full for the whole model", ""),
    "part": ("part of the data whose loss is followed", ""),
    "chain": ("number of the chain", ""),
    "bound": ("low and high end of a 95 % interval", ""),
    "flag": ("what can be wrong with an estimate, see devsort.llc.flags", ""),
    "llc": ("local learning coefficient λ̂ = nβ (mean L(w) − L(w*))", "1"),
    "se": ("standard error of llc", "1"),
    "ci95": ("95 % interval of llc, low and high", "1"),
    "llc_chain": ("llc of each chain", "1"),
    "heat": ("what was taken off llc as the heat of minibatches", "1"),
    "rhat": ("rank-normalised split R-hat", "1"),
    "ess": ("effective number of draws behind llc", "draws"),
    "chains_failed": ("chains that are no longer finite", "chains"),
    "flags": ("whether a flag is raised", ""),
    "checkpoint_loss": ("loss L(w*) of the checkpoint on the minibatches", "nats"),
    "part_llc": ("llc on a part of the data, at the same draws", "1"),
    "part_se": ("standard error of part_llc, between chains", "1"),
    "dimension": ("number of free parameters d", "1"),
    "drift": ("second half of the draws less the first, over |llc|", "1"),
    "peak": ("largest smoothed rise in the first fifth over the plateau", "1"),
    "climb": ("share of the way from L(w*) to a uniform guess", "1"),
    "slope": ("d log llc / d log nβ", "1"),
    "growth": ("relative growth of |w − w*|² over the draws", "1"),
    "gap": ("relative gap of the identity of equilibrium", "1"),
    "loss": ("loss L(w) of each draw on its minibatch", "nats"),
    "init_loss": ("loss L(w*) on the same minibatch", "nats"),
    "heating": ("by how much nβ (L(w) − L(w*)) is too high at some draws, to first order", "1"),
    "burnin_steps": ("steps before the first draw", "steps"),
    "momentum": ("share of the momentum that a chain kept over a step", "1"),
    "batch_size": ("examples that a step saw", "examples"),
    "burnin_loss": ("loss before the first draw", "nats"),
    "burnin_init_loss": ("loss L(w*) on the same minibatches", "nats"),
    "work": ("(w − w*)·G with G the whole gradient", "1"),
    "force": ("|G|²", "1"),
    "distance": ("|w − w*|²; in relative geometry in units of the blocks' scales", "1"),
    "part_rise": ("L(w) − L(w*) on a part of the minibatch", "nats"),
    "checksum": ("identity of the draws of a checkpoint", ""),
}


def described(
    dataset: xr.Dataset, variables: Mapping[str, tuple[str, str]] = VARIABLES
) -> xr.Dataset:
    """The data set with `long_name` and `units` at every variable.

    Args:
        dataset: A trajectory, or another data set.
        variables: Name → meaning and unit.
    """
    found = dataset.copy()
    for name in found.variables:
        meaning, unit = variables.get(str(name), (str(name), ""))
        found[name].attrs.update({"long_name": meaning, "units": unit})
    return found


def load_trajectory(path: str | Path) -> xr.Dataset:
    """Reads a stored trajectory, verified.

    Args:
        path: llc.zarr of `llc_trajectory` or of a run, or the folder that holds it.

    Raises:
        UserError: It is missing, damaged or unfinished.
    """
    path = Path(path)
    path = path / "llc.zarr" if (path / "llc.zarr").is_dir() else path
    make = "the command that made it"
    try:
        attributes = dict(zarr.open_group(path, mode="r").attrs)
        resolved, inputs = (str(attributes[key]) for key in ("resolved", "inputs"))
        origin = Origin(make, resolved, inputs, format=int(str(attributes["format"])), force=False)
    except Exception as e:  # zarr raises many kinds on what is no store
        what = f"{path} is no trajectory of devsort ({type(e).__name__})"
        raise UserError(what, "give an llc.zarr, or the folder that holds it") from None
    return described(read_store(path, origin)[0])


def trajectory_frame(trajectory: xr.Dataset) -> "pd.DataFrame":
    """One row a checkpoint and restriction.

    Returns:
        step, restriction, llc, se, ci95_low, ci95_high, rhat, ess, loss, chains_failed, flags
        (names with commas), and llc_NAME and se_NAME of each part of the data; NaN where an
        estimate is withheld. Units as in `VARIABLES`.
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
