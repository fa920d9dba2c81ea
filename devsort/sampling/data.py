"""Turns the data sets of users into tensors whose first axis runs over examples."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from devsort.errors import UserError

FIX = "give tensors with the examples along the first axis, alone or in a tuple, list or dict"


def as_data(data: Any) -> Any:
    """Returns data as tensors (n, …), alone or nested in tuples, lists and dicts.

    Args:
        data: Tensors or numpy arrays, alone or nested; the output of a tokenizer; a torch or
            Hugging Face data set; or a DataLoader, which is read once, in the order of its data
            set.

    Raises:
        UserError: If it contains anything else, tensors of different lengths, or nothing.
    """
    nested = _nested(data)
    leaves = tree_leaves(nested)
    strange = [leaf for leaf in leaves if not isinstance(leaf, Tensor)]
    if strange or not leaves:
        content = f"a {type(strange[0]).__name__}" if strange else "no tensor"
        raise UserError(f"data contains {content}", FIX)
    if data_size(nested) == 0:
        raise UserError("data has no rows", "give at least one example")
    return nested


def data_size(data: Any) -> int:
    """Returns the number of rows, which must be the same for all tensors of `data`."""
    leaves = tree_leaves(data)
    if any(t.dim() == 0 for t in leaves):
        raise UserError("data contains a tensor without axes", FIX)
    sizes = {len(t) for t in leaves}
    if len(sizes) != 1:
        raise UserError(
            f"data contains tensors with {sorted(sizes)} rows",
            "give tensors whose first axes have the same length",
        )
    return sizes.pop()


def rows_of(data: Any, rows: Tensor, like: Tensor) -> Any:
    """Returns the rows (…) of each tensor, as (…, rest).

    They are on the device of `like` and, if they are floating-point, have its type.
    """

    def select(t: Tensor) -> Tensor:
        selected = t[rows.to(t.device)]
        return selected.to(like.device, like.dtype if t.is_floating_point() else t.dtype)

    return tree_map(select, data)


def _nested(data: Any) -> Any:
    if isinstance(data, np.ndarray):
        return _tensor(data)
    if isinstance(data, Mapping):  # includes BatchEncoding
        return {key: _nested(value) for key, value in data.items()}
    if isinstance(data, tuple | list):
        values = [_nested(value) for value in data]
        return type(data)(*values) if hasattr(data, "_fields") else type(data)(values)
    if hasattr(data, "with_format"):  # a Hugging Face data set
        return _nested(data.with_format("torch")[:])
    if isinstance(data, DataLoader | Dataset):
        return _collated(data)
    return data


def _tensor(array: np.ndarray) -> Tensor:
    if array.dtype.kind not in "biuf":
        raise UserError(f"data contains an array of type {array.dtype}", FIX)
    return torch.from_numpy(np.ascontiguousarray(array))


def _collated(data: Any) -> Any:
    """Returns all examples of a data set or DataLoader, collated as in its batches."""
    collate: Callable = default_collate
    if isinstance(data, DataLoader):
        data, collate = data.dataset, data.collate_fn
    if isinstance(data, IterableDataset):
        raise UserError("data is an iterable data set, which has no rows to draw from", FIX)
    try:
        items = [data[i] for i in range(len(data))]
        return _nested(collate(items)) if items else torch.empty(0)
    except (TypeError, RuntimeError, KeyError, IndexError, NotImplementedError) as e:
        kind = type(data).__name__
        raise UserError(f"data of type {kind} cannot be collated ({e})", FIX) from None
