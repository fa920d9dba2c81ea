"""Masks: which entries of which parameters move while the others are frozen.

They define the weight-refined LLC (arXiv 2410.02984).
"""

import torch
from torch import Tensor

from devsort.errors import UserError
from devsort.layout import Layout

# name → bool tensor with the shape of the parameter, or None for all of its entries
Mask = dict[str, Tensor | None]


def free_entries(layout: Layout, mask: Mask | None) -> Tensor:
    """Returns the positions in the flat vector that a mask leaves free, in ascending order."""
    if mask is None:
        return torch.arange(layout.size)
    unknown = sorted(set(mask) - set(layout.shapes))
    if unknown:
        raise UserError(
            f"mask names {', '.join(unknown)}, which the model does not have",
            f"use {list(layout.shapes)}",
        )
    chosen = torch.zeros(layout.size, dtype=torch.bool)
    for name, part in mask.items():
        if part is not None and tuple(part.shape) != layout.shapes[name]:
            raise UserError(
                f"mask of {name} has shape {tuple(part.shape)}, expected {layout.shapes[name]}",
                "give a mask with the shape of the parameter",
            )
        chosen[layout.slices[name]] = True if part is None else part.flatten().bool().cpu()
    if not chosen.any():
        raise UserError("the mask leaves no parameter free", "free at least one entry")
    return chosen.nonzero()[:, 0]
