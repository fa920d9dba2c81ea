"""Losses and gradients of lanes that stand side by side: mapped by vmap, or one after the other.

Only what is free enters the graph: a parameter that is frozen as a whole is a constant, of one that
is free in part the free entries are written into the constant.
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
USE_ITS_MODEL = "compute it from the parameters, or the model, that it is given"


@contextmanager
def plain_attention() -> Iterator[None]:
    """Has torch's fused attention be plain products, which vmap maps and torch differentiates."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@dataclass(frozen=True)
class Piece:
    """Which entries of a parameter are free; pieces lie in the free vector one after the other.

    Attributes:
        size: How many, k.
        inside: (k,) their positions in the parameter; None: it is free as a whole.
        shape: The parameter's.
    """

    size: int
    inside: Tensor | None
    shape: tuple[int, ...]

    def to(self, device: torch.device) -> "Piece":
        """The same with its positions on a device."""
        return self if self.inside is None else replace(self, inside=self.inside.to(device))


def pieces_of(layout: Layout, free: Tensor) -> dict[str, Piece]:
    """The pieces of every parameter that has free entries.

    Args:
        layout: Of all parameters.
        free: (F,) positions of the free entries, ascending.
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
    """The losses of G lanes at their free parameters (G, F).

    Args:
        loss: The user's.
        pieces: Where the free entries lie.
        states: For each checkpoint all of its tensors, name → tensor; G / len(states) lanes each,
            one after the other.
        rows: B, examples in a lane's batch; None where there is no data.
        mapped: By vmap; else one lane after the other.
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
        """(G,), (G, B) or (G, B, …) losses; `batch` holds tensors (G, B, …)."""
        if self.mapped:
            with plain_attention():
                return self._map()(w, self._constants(len(w)), batch)
        lanes = range(len(w))
        return torch.stack([self._one(w[g], self._of(g, len(w)), _lane(batch, g)) for g in lanes])

    def each(self, of: Callable[[Params], Tensor], w: Tensor) -> Tensor:
        """A function of a lane's tensors, for each lane: (G, …)."""

        def one(free: Tensor, fixed: Params) -> Tensor:
            return of(self._tensors(free, fixed))

        if self.mapped:
            shared = None if len(self.fixed) == 1 else 0
            return torch.func.vmap(one, in_dims=(0, shared))(w, self._constants(len(w)))
        return torch.stack([one(w[g], self._of(g, len(w))) for g in range(len(w))])

    def value_and_grad(self, w: Tensor, batch: Any) -> tuple[Tensor, Tensor]:
        """The losses, and the gradient (G, F) of each lane's mean."""
        with torch.enable_grad():
            if self.mapped:
                return _differentiated(lambda free: self.losses(free, batch), w)
            found = [
                _differentiated(self._single(g, len(w), batch), w[g : g + 1]) for g in range(len(w))
            ]
        return torch.cat([loss for loss, _ in found]), torch.cat([grad for _, grad in found])

    def bytes_of_one(self, center: Tensor, batch: Any) -> int:
        """Bytes that a lane takes: what its backward pass keeps, its vectors and its examples."""
        kept: dict[int, int] = {}

        def seen(t: Tensor) -> Tensor:
            kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        own = _lane(batch, 0)
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(seen, lambda t: t):
            _differentiated(lambda free: self._one(free[0], self.fixed[0], own)[None], center[:1])
        vectors = 8 * center.shape[1] * center.element_size()
        leaves = [t for t in tree_leaves(own) if t is not None]
        examples = sum(t.numel() * t.element_size() for t in leaves)
        return 2 * sum(kept.values()) + vectors + examples

    def _single(self, g: int, count: int, batch: Any) -> Callable[[Tensor], Tensor]:
        fixed, own = self._of(g, count), _lane(batch, g)
        return lambda free: self._one(free[0], fixed, own)[None]

    def _one(self, w: Tensor, fixed: Params, batch: Any) -> Tensor:
        """The losses of one lane at its free parameters (F,)."""
        return value_at(self.loss, self._tensors(w, fixed), batch, self.rows)

    def _tensors(self, w: Tensor, fixed: Params) -> Params:
        found = dict(fixed)
        sizes = [piece.size for piece in self.pieces.values()]
        # the gradient of a split is one copy, that of as many slices adds up as many vectors
        for (name, piece), value in zip(self.pieces.items(), w.split(sizes), strict=True):
            if piece.inside is not None:
                value = fixed[name].flatten().index_put((piece.inside,), value)
            found[name] = value.view(piece.shape)
        return found

    def _map(self) -> Callable:
        shared = None if len(self.fixed) == 1 else 0
        batch = None if self.rows is None else 0
        return torch.func.vmap(self._one, in_dims=(0, shared, batch))

    def _constants(self, count: int) -> Params:
        """What does not move: of one checkpoint, or (G, …) of all lanes."""
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
    """Losses of lanes, and the gradient of each lane's mean.

    Lanes do not mix, so the gradient of their sum is each lane's gradient.
    """
    free = w.detach().requires_grad_()
    value = losses(free)
    if not value.requires_grad:
        raise UserError(UNCONNECTED, USE_ITS_MODEL)
    (grad,) = torch.autograd.grad(means(value).sum(), free, allow_unused=True)
    if grad is None:
        raise UserError(UNCONNECTED, USE_ITS_MODEL)
    return value.detach(), grad
