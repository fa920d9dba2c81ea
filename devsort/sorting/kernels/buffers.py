"""Memory that is allocated once, so that large tensors stay where the caches know them."""

import torch
from torch import Tensor

from devsort.layout import Layout


class Buffers:
    """Memory that grows where it must and is overwritten by every call."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._held: dict[str, Tensor] = {}
        self._views: dict[tuple, Tensor] = {}

    def __call__(self, name: str, *size: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """A tensor of this size in the memory of this name.

        The same object as long as the memory stays.
        """
        view = self._views.get((name, size))
        if view is None:
            view = self._views[name, size] = self._view(name, size, dtype)
        return view

    @property
    def nbytes(self) -> int:
        """Bytes that are held."""
        return sum(held.nbytes for held in self._held.values())

    def _view(self, name: str, size: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        numel = torch.Size(size).numel()
        held = self._held.get(name)
        if held is None or held.numel() < numel:
            held = self._held[name] = torch.empty(numel, dtype=dtype, device=self.device)
            self._views = {key: view for key, view in self._views.items() if key[0] != name}
        return held[:numel].view(size)


class Views:
    """Views of the parameters in a flat tensor.

    Made once for a tensor that comes again at every step.

    Args:
        layout: Where the parameters lie.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._seen: list[tuple[Tensor, dict[str, Tensor]]] = []

    def __call__(self, flat: Tensor) -> dict[str, Tensor]:
        """The views of `flat` (G, P)."""
        for seen, views in self._seen:
            if seen is flat:
                return views
        views = self.layout.views(flat)
        self._seen = [(flat, views), *self._seen[:1]]
        return views
