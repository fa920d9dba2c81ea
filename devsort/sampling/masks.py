"""Masks.

Which entries of which parameters move while the rest is frozen (weight-refined LLC, arXiv
2410.02984).
"""

import torch
from torch import Tensor

from devsort.errors import UserError
from devsort.layout import Layout

# name → bool tensor of the parameter's shape, or None for all of it
Mask = dict[str, Tensor | None]


def free_entries(layout: Layout, mask: Mask | None) -> Tensor:
    """Positions in the flat vector that a mask leaves free, in ascending order."""
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
                "give a mask of the shape of its parameter",
            )
        chosen[layout.slices[name]] = True if part is None else part.flatten().bool().cpu()
    if not chosen.any():
        raise UserError("the mask leaves no parameter free", "free at least one entry")
    return chosen.nonzero()[:, 0]
