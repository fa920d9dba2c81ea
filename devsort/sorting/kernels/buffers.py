"""Memory that is allocated once, so that large tensors stay in the caches."""

import torch
from torch import Tensor

from devsort.layout import Layout


class Buffers:
    """Named memory that grows if it must, and that every call overwrites."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._memory: dict[str, Tensor] = {}
        self._views: dict[tuple, Tensor] = {}

    def __call__(self, name: str, *size: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """A tensor of this size in the memory of this name.

        It is the same object at every call until the memory grows.
        """
        view = self._views.get((name, size))
        if view is None:
            view = self._views[name, size] = self._view(name, size, dtype)
        return view

    @property
    def nbytes(self) -> int:
        """Bytes that are allocated."""
        return sum(memory.nbytes for memory in self._memory.values())

    def _view(self, name: str, size: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        numel = torch.Size(size).numel()
        memory = self._memory.get(name)
        if memory is None or memory.numel() < numel:
            memory = self._memory[name] = torch.empty(numel, dtype=dtype, device=self.device)
            self._views = {key: view for key, view in self._views.items() if key[0] != name}
        return memory[:numel].view(size)


class Views:
    """Views of the parameters in a flat tensor, made once for a tensor that is used at every step.

    Args:
        layout: Where the parameters are in the tensor.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._last: list[tuple[Tensor, dict[str, Tensor]]] = []

    def __call__(self, flat: Tensor) -> dict[str, Tensor]:
        """The views of `flat` (G, P)."""
        for tensor, views in self._last:
            if tensor is flat:
                return views
        views = self.layout.views(flat)
        self._last = [(flat, views), *self._last[:1]]
        return views
