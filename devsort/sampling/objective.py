"""Objectives: the losses and gradients of a set of lanes, as a function of their free parameters.

`LossObjective` accepts any differentiable loss; `sorting` has faster objectives for the sorting
model. All implement `Objective`, so the sampler does not depend on any model.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from devsort.errors import UserError
from devsort.layout import Layout
from devsort.rng import stream
from devsort.sampling.checks import Traits, gradient_errors, traits_of
from devsort.sampling.data import as_data, data_size, rows_of
from devsort.sampling.lanes import Lanes, Piece, pieces_of
from devsort.sampling.losses import Loss, means, value_at
from devsort.sampling.masks import Mask, free_entries
from devsort.sampling.modules import ModuleLoss, Params, sampled_type

Parts = dict[str, Tensor]
# bytes per lane above which lanes no longer fit a CPU's caches, so that a loop is just as fast
MAPPED = 8 * 2**20


class Objective(Protocol):
    """The losses of G lanes as a function of their free parameters, which are packed into rows.

    An objective may have `static = True`. Then every call performs the same operations on the same
    memory, and on a GPU it is captured as a graph, with the step as a tensor (1,) int64 on the
    device; see `graphs`.

    Attributes:
        center: (G, F) starting points w*.
    """

    center: Tensor

    def __call__(self, w: Tensor, step: int | Tensor, /) -> tuple[Tensor, Tensor, Tensor, Parts]:
        """Evaluates the lanes at parameters w (G, F), on the minibatches of a step (from 0).

        Returns:
            The loss (G,) on each lane's minibatch; the loss (G,) of the starting point on the same
            minibatch; the gradient (G, F) of the first; and for each part of the data, the
            difference (G,) of the two losses on that part of the minibatch.
        """
        ...


class LossObjective:
    """An objective for any loss of named tensors, at one or more checkpoints.

    Gradients are computed by autograd. Lanes are ordered by checkpoint, then by chain. If the loss
    of an example depends on that example alone, the loss of the checkpoint is computed once for
    each example that is drawn, and then looked up.

    Args:
        loss: `loss(params, batch)` returns the loss of each example or token, or their mean;
            `loss(params)` if `data` is None.
        params: w*, name → tensor, of one checkpoint or of each. Integer tensors are passed to the
            loss unchanged.
        data: See `data.as_data`. Minibatches consist of its rows.
        index: (C, T, B) int64, the rows of `data` for each chain and step, see `minibatches`; None
            if `data` is None.
        mask: Free entries, name → bool tensor with the shape of the parameter, or None for all of
            its entries. Parameters that it does not name are frozen. With None, everything that has
            `requires_grad` is free.
        parts: Name → (n,) or (n, T) bool, the parts of the data whose loss is recorded.
        chains: Number of chains per checkpoint, if there is no data.
        losses: The `losses` of another objective for the same checkpoints and minibatches, to be
            reused.

    Attributes:
        lane_bytes: Memory of a lane while its gradient is computed.

    Raises:
        UserError: If the mask or a part does not fit, nothing is free, or the loss cannot be
            sampled (see `checks`).
    """

    def __init__(
        self,
        loss: Loss,
        params: Params | Sequence[Params],
        data: Any = None,
        index: Tensor | None = None,
        mask: Mask | None = None,
        parts: Mapping[str, Tensor] | None = None,
        chains: int = 1,
        losses: list[Tensor] | None = None,
    ) -> None:
        states = [sampled(s) for s in ([params] if isinstance(params, Mapping) else params)]
        names = weights_of(loss, states[0])
        self.params = [{name: state[name] for name in names} for state in states]
        self.layout = Layout.of(self.params[0])
        star = torch.stack([self.layout.flatten(p) for p in self.params])  # (K, P)
        self.free = free_entries(self.layout, _default(loss, mask)).to(star.device)
        self.data, self.index = None if data is None else as_data(data), index
        chains, rows = (chains, None) if index is None else (len(index), index.shape[2])
        self.center = star[:, self.free].repeat_interleave(chains, 0)  # (G, F)
        pieces = pieces_of(self.layout, self.free.cpu())
        self.traits = self._tried(loss, states[0], pieces, rows)
        mapped = not self.traits.refusal
        self.lanes = Lanes(loss, _on(pieces, star.device), states, rows, mapped)
        with gradient_errors():
            self.lane_bytes = self.lanes.bytes_of_one(self.center, self.at(0))
        if star.device.type == "cpu" and self.lane_bytes > MAPPED:
            self.lanes.mapped = False
        self.parts = {name: _part(name, p, self) for name, p in (parts or {}).items()}
        self.losses = losses
        if self.traits.own_rows and index is not None and losses is None:
            self.losses = self._table(loss, states, index)

    def __call__(self, w: Tensor, step: int | Tensor) -> tuple[Tensor, Tensor, Tensor, Parts]:
        """See `Objective`."""
        if self.index is None:
            loss, grad = self.lanes.value_and_grad(w, None)
            return loss, self._start(len(w)), grad, {}
        count = len(self.center) // len(self.index)
        rows = self.index[:, step].repeat(count, 1)  # (G, B)
        batch = rows_of(self.data, rows, w)
        losses, grad = self.lanes.value_and_grad(w, batch)
        known = self.losses
        start = self._at_star(batch) if known is None else _looked_up(known, rows, count)
        rises = {name: _mean_of(losses - start, part[rows]) for name, part in self.parts.items()}
        return means(losses), means(start), grad, rises

    def at(self, step: int) -> Any:
        """Returns the minibatches of the first checkpoint's lanes at a step: tensors (C, B, …)."""
        return None if self.index is None else rows_of(self.data, self.index[:, step], self.center)

    def _tried(
        self, loss: Loss, state: Params, pieces: Mapping[str, Piece], rows: int | None
    ) -> Traits:
        batch = None
        if self.index is not None:
            batch = rows_of(self.data, self.index[0, 0], self.center)
        return traits_of(loss, state, tuple(pieces), batch, rows)

    def _table(self, loss: Loss, states: Sequence[Params], index: Tensor) -> list[Tensor]:
        """Returns each checkpoint's losses (n, …): on the drawn examples, and 0 elsewhere."""
        chunks = index.unique().split(index.shape[2] * len(index))
        return [self._tabled(loss, state, chunks) for state in states]

    def _tabled(self, loss: Loss, state: Params, chunks: Sequence[Tensor]) -> Tensor:
        table = torch.zeros(0)
        with torch.no_grad():
            for rows in chunks:
                batch = rows_of(self.data, rows, self.center)
                losses = value_at(loss, state, batch, len(rows))
                losses = losses if self._by_entry else means(losses)
                if not len(table):
                    table = losses.new_zeros(data_size(self.data), *losses.shape[1:])
                table[rows.to(table.device)] = losses
        return table

    @property
    def _by_entry(self) -> bool:
        return any(part.dim() > 1 for part in self.parts.values())

    def _at_star(self, batch: Any) -> Tensor:
        with torch.no_grad():
            return self.lanes.losses(self.center, batch)

    def _start(self, count: int) -> Tensor:
        """Returns the loss of the starting point, which is constant if there is no data."""
        if not hasattr(self, "_constant"):
            self._constant = self._at_star(None)
        return self._constant.expand(count).clone()


def sampled(params: Params) -> Params:
    """Converts floating-point tensors to the type that is sampled, float32 or float64.

    Raises:
        UserError: If `params` is not a dict of tensors, contains a complex one, or contains no
            floating-point one.
    """
    named = isinstance(params, Mapping) and all(map(_is_there, params.values()))
    if not named:
        raise UserError("params is not a dict of dense tensors with values", "give name → tensor")
    if strange := [n for n, t in params.items() if t.is_complex()]:
        fix = "convert it with `torch.view_as_real`"
        raise UserError(f"{strange[0]} is complex, and only real numbers can be sampled", fix)
    floating = [t for t in params.values() if t.is_floating_point()]
    if not floating:
        fix = "give the weights, name → tensor"
        raise UserError("params contains no floating-point tensor", fix)
    to = sampled_type(floating)
    return {
        n: t.detach().to(to) if t.is_floating_point() else t.detach() for n, t in params.items()
    }


def _is_there(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta


def weights_of(loss: Loss, state: Params) -> list[str]:
    """Returns the names of a checkpoint's parameters: tensors, but not integers or buffers."""
    buffers = loss.buffers if isinstance(loss, ModuleLoss) else {}
    return [n for n, t in state.items() if t.is_floating_point() and n not in buffers]


def _default(loss: Loss, mask: Mask | None) -> Mask | None:
    """Returns the default mask: everything is free, or what has `requires_grad` in a module."""
    if mask is not None or not isinstance(loss, ModuleLoss):
        return mask
    if not loss.free:
        fix = "call requires_grad_(True) on what is to be sampled, or name it in the mask"
        raise UserError("all parameters of the module have requires_grad=False", fix)
    return None if len(loss.free) == len(loss.params) else dict.fromkeys(loss.free)


def _on(pieces: Mapping[str, Piece], device: torch.device) -> dict[str, Piece]:
    return {name: piece.to(device) for name, piece in pieces.items()}


def _looked_up(losses: Sequence[Tensor], rows: Tensor, count: int) -> Tensor:
    """Looks up the losses (G, B, …) of each lane's checkpoint."""
    rows = rows.to(losses[0].device).unflatten(0, (count, -1))
    return torch.cat([t[r] for t, r in zip(losses, rows, strict=True)])


def _part(name: str, part: Tensor, objective: LossObjective) -> Tensor:
    if not objective.traits.by_example:
        fix = "return the loss of each example, such as with reduction='none'"
        raise UserError(f"part {name!r} of the data needs more than a mean loss", fix)
    if len(part) != data_size(objective.data):
        what = f"part {name!r} has {len(part)} rows, but the data has {data_size(objective.data)}"
        raise UserError(what, "give a mask over the rows of the data")
    return part.to(objective.center.device)


def _mean_of(rise: Tensor, chosen: Tensor) -> Tensor:
    """Returns the mean of (G, B, …) over the chosen examples or entries; NaN if there are none."""
    if chosen.dim() < rise.dim():
        rise = means(rise, chosen.dim())
    return (rise * chosen).flatten(1).sum(1) / chosen.flatten(1).sum(1)


def minibatches(seed: int, chains: range, steps: int, batch_size: int, size: int) -> Tensor:
    """Draws rows of a data set of `size` with replacement: (chains, steps, batch_size) int64.

    They depend on (seed, chain, step): they are the same for all checkpoints and restrictions, and
    independent between chains.
    """
    rows = [stream(seed, "minibatch", c).integers(0, size, (steps, batch_size)) for c in chains]
    return torch.stack([torch.from_numpy(r) for r in rows])
