"""Stores parameters as one flat vector, so that a step updates all of them in a few operations."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor


class Layout:
    """The position of each parameter in a flat vector.

    Parameters are sorted by name, so the order of the dict does not matter.

    Args:
        shapes: Name and shape of each parameter.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.shapes = {name: tuple(shapes[name]) for name in sorted(shapes)}
        self.slices: dict[str, slice] = {}
        start = 0
        for name, size in self.shapes.items():
            self.slices[name] = slice(start, start + math.prod(size))
            start += math.prod(size)
        self.size = start

    @classmethod
    def of(cls, params: Mapping[str, Tensor]) -> "Layout":
        """Returns the layout of these parameters."""
        return cls({name: tuple(p.shape) for name, p in params.items()})

    def flatten(self, params: Mapping[str, Tensor]) -> Tensor:
        """Packs parameters (…, shape), all with the same leading axes, into one tensor (…, P)."""
        return torch.cat(
            [
                params[n].flatten(params[n].dim() - len(s)) if s else params[n][..., None]
                for n, s in self.shapes.items()
            ],
            dim=-1,
        )

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """Unpacks a tensor (…, P) into views (…, shape) that share its memory."""
        lead = flat.shape[:-1]
        return {n: flat[..., self.slices[n]].view((*lead, *s)) for n, s in self.shapes.items()}
