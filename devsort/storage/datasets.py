"""xarray data sets in zarr folders by the contract of `artifact`, written whole."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from devsort.errors import UserError
from devsort.storage.artifact import Origin, check_exists
from devsort.storage.files import replacing_folder
from devsort.storage.tensors import checksum

if TYPE_CHECKING:
    import xarray as xr


def write_dataset(path: Path, dataset: "xr.Dataset", origin: Origin) -> None:
    """Writes a data set with its origin and a checksum; the folder is replaced as a whole."""
    marked = dataset.assign_attrs(**dataset.attrs, **origin.attributes)
    marked = marked.assign_attrs(checksum=_checksum(dataset))
    with replacing_folder(path) as folder:
        marked.to_zarr(folder, zarr_format=3, consolidated=False)


def read_dataset(path: Path, origin: Origin) -> tuple["xr.Dataset", str]:
    """Reads a data set of `write_dataset`, verified; the loaded data set and its checksum.

    Raises:
        UserError: It is missing or damaged.
        Stale: It was made from another config or from other inputs.
    """
    import xarray as xr

    check_exists(path, origin)
    try:
        found = xr.open_zarr(path, consolidated=False, chunks=None).load()
    except PermissionError:
        raise  # the command line has a line for it
    except Exception as e:  # a damaged store can raise anything
        what = f"{path} is cut short or damaged ({type(e).__name__})"
        raise UserError(what, origin.again) from None
    origin.check(found.attrs, path)
    if found.attrs.get("checksum") != _checksum(found):
        raise UserError(f"{path} does not match its checksum", origin.again)
    return found, found.attrs["checksum"]


def _checksum(dataset: "xr.Dataset") -> str:
    """Identity of all variables. It is needed because zarr reads a lost chunk as zeros."""
    values = {str(name): variable.values for name, variable in dataset.variables.items()}
    for name, value in values.items():
        if value.dtype.kind not in "fib":
            values[name] = np.frombuffer(repr(value.tolist()).encode(), np.uint8)
    return checksum({name: torch.from_numpy(np.array(v)) for name, v in values.items()})
