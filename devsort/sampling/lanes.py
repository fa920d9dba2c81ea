"""Losses and gradients of several lanes at once: mapped by vmap, or computed one by one.

Only free entries enter the autograd graph. A parameter without free entries is a constant; if only
some of its entries are free, they are written into a constant tensor.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves, tree_map

from devsort.errors import UserError
from devsort.layout import Layout
from devsort.sampling.losses import Loss, means, value_at
from devsort.sampling.modules import Params

UNCONNECTED = "the loss does not depend on the parameters that are free"
USE_ITS_MODEL = "compute it from the parameters, or the model, that are passed to it"


@contextmanager
def plain_attention() -> Iterator[None]:
    """Replaces torch's fused attention by matrix products, which vmap and autograd support."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@dataclass(frozen=True)
class Piece:
    """The free entries of a parameter. The pieces follow one another in the free vector.

    Attributes:
        size: Number of free entries, k.
        inside: (k,) their positions in the parameter. With None, the whole parameter is free.
        shape: Shape of the parameter.
    """

    size: int
    inside: Tensor | None
    shape: tuple[int, ...]

    def to(self, device: torch.device) -> "Piece":
        """Returns the same piece with its positions on a device."""
        return self if self.inside is None else replace(self, inside=self.inside.to(device))


def pieces_of(layout: Layout, free: Tensor) -> dict[str, Piece]:
    """Returns a piece for every parameter that has free entries.

    Args:
        layout: Layout of all parameters.
        free: (F,) positions of the free entries, in ascending order.
    """
    pieces = {}
    for name, place in layout.slices.items():
        low, high = torch.searchsorted(free, torch.tensor([place.start, place.stop])).tolist()
        if low < high:
            whole = high - low == place.stop - place.start
            inside = None if whole else free[low:high] - place.start
            pieces[name] = Piece(high - low, inside, layout.shapes[name])
    return pieces


class Lanes:
    """The losses of G lanes as a function of their free parameters (G, F).

    Args:
        loss: The user's loss.
        pieces: The free entries of each parameter.
        states: All tensors of each checkpoint, name → tensor. Each checkpoint has G / len(states)
            consecutive lanes.
        rows: B, the number of examples in the batch of a lane; None if there is no data.
        mapped: Whether to map over lanes by vmap. Otherwise they are computed one by one.
    """

    def __init__(
        self,
        loss: Loss,
        pieces: Mapping[str, Piece],
        states: Sequence[Params],
        rows: int | None,
        mapped: bool,
    ) -> None:
        self.loss, self.pieces, self.rows, self.mapped = loss, pieces, rows, mapped
        whole = {name for name, piece in pieces.items() if piece.inside is None}
        self.fixed = [{n: t for n, t in state.items() if n not in whole} for state in states]
        self._stacked: dict[int, Params] = {}

    def losses(self, w: Tensor, batch: Any) -> Tensor:
        """Returns the losses (G,), (G, B) or (G, B, …) for a batch of tensors (G, B, …)."""
        if self.mapped:
            with plain_attention():
                return self._map()(w, self._constants(len(w)), batch)
        lanes = range(len(w))
        return torch.stack([self._one(w[g], self._of(g, len(w)), _lane(batch, g)) for g in lanes])

    def each(self, of: Callable[[Params], Tensor], w: Tensor) -> Tensor:
        """Applies a function of the tensors of a lane to each lane: (G, …)."""

        def one(free: Tensor, fixed: Params) -> Tensor:
            return of(self._tensors(free, fixed))

        if self.mapped:
            shared = None if len(self.fixed) == 1 else 0
            return torch.func.vmap(one, in_dims=(0, shared))(w, self._constants(len(w)))
        return torch.stack([one(w[g], self._of(g, len(w))) for g in range(len(w))])

    def value_and_grad(self, w: Tensor, batch: Any) -> tuple[Tensor, Tensor]:
        """Returns the losses, and the gradient (G, F) of the mean loss of each lane."""
        with torch.enable_grad():
            if self.mapped:
                return _differentiated(lambda free: self.losses(free, batch), w)
            results = [
                _differentiated(self._single(g, len(w), batch), w[g : g + 1]) for g in range(len(w))
            ]
        return torch.cat([loss for loss, _ in results]), torch.cat([grad for _, grad in results])

    def bytes_of_one(self, center: Tensor, batch: Any) -> int:
        """Returns the memory of a lane in bytes.

        It consists of the tensors saved for the backward pass, its vectors and its examples.
        """
        sizes: dict[int, int] = {}

        def count(t: Tensor) -> Tensor:
            sizes[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        own = _lane(batch, 0)
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(count, lambda t: t):
            _differentiated(lambda free: self._one(free[0], self.fixed[0], own)[None], center[:1])
        vectors = 8 * center.shape[1] * center.element_size()
        leaves = [t for t in tree_leaves(own) if t is not None]
        examples = sum(t.numel() * t.element_size() for t in leaves)
        return 2 * sum(sizes.values()) + vectors + examples

    def _single(self, g: int, count: int, batch: Any) -> Callable[[Tensor], Tensor]:
        fixed, own = self._of(g, count), _lane(batch, g)
        return lambda free: self._one(free[0], fixed, own)[None]

    def _one(self, w: Tensor, fixed: Params, batch: Any) -> Tensor:
        """Returns the losses of one lane at its free parameters (F,)."""
        return value_at(self.loss, self._tensors(w, fixed), batch, self.rows)

    def _tensors(self, w: Tensor, fixed: Params) -> Params:
        tensors = dict(fixed)
        sizes = [piece.size for piece in self.pieces.values()]
        # the gradient of a split is one copy; that of slices is a sum of one vector per slice
        for (name, piece), value in zip(self.pieces.items(), w.split(sizes), strict=True):
            if piece.inside is not None:
                value = fixed[name].flatten().index_put((piece.inside,), value)
            tensors[name] = value.view(piece.shape)
        return tensors

    def _map(self) -> Callable:
        shared = None if len(self.fixed) == 1 else 0
        batch = None if self.rows is None else 0
        return torch.func.vmap(self._one, in_dims=(0, shared, batch))

    def _constants(self, count: int) -> Params:
        """Returns the frozen tensors: those of the only checkpoint, or (G, …) for all lanes."""
        if len(self.fixed) == 1:
            return self.fixed[0]
        if count not in self._stacked:
            each = count // len(self.fixed)
            self._stacked[count] = {
                name: torch.stack([f[name] for f in self.fixed]).repeat_interleave(each, 0)
                for name in self.fixed[0]
            }
        return self._stacked[count]

    def _of(self, lane: int, count: int) -> Params:
        return self.fixed[lane * len(self.fixed) // count]


def _lane(batch: Any, lane: int) -> Any:
    return None if batch is None else tree_map(lambda t: t[lane], batch)


def _differentiated(losses: Callable[[Tensor], Tensor], w: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the losses of lanes, and the gradient of the mean loss of each lane.

    Lanes are independent, so the gradient of the sum over lanes contains the gradient of each.
    """
    free = w.detach().requires_grad_()
    value = losses(free)
    if not value.requires_grad:
        raise UserError(UNCONNECTED, USE_ITS_MODEL)
    (grad,) = torch.autograd.grad(means(value).sum(), free, allow_unused=True)
    if grad is None:
        raise UserError(UNCONNECTED, USE_ITS_MODEL)
    return value.detach(), grad
