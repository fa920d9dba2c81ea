"""Objectives: what a set of lanes minimises, as a function of their free parameters.

`LossObjective` takes any differentiable loss; `sorting` has the fast ones for the sorting model.
All have the same face, `Objective`, so the sampler knows nothing of models.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from devsort.errors import UserError
from devsort.layout import Layout
from devsort.rng import stream
from devsort.sampling.checks import Traits, gradient_told, traits_of
from devsort.sampling.data import as_data, data_size, rows_of
from devsort.sampling.lanes import Lanes, Piece, pieces_of
from devsort.sampling.losses import Loss, means, value_at
from devsort.sampling.masks import Mask, free_entries
from devsort.sampling.modules import ModuleLoss, Params, sampled_type

Parts = dict[str, Tensor]
# bytes of a lane from which on lanes side by side fall out of a CPU's caches: a loop is as fast
MAPPED = 8 * 2**20


class Objective(Protocol):
    """Loss of G lanes as a function of their free parameters, packed into rows.

    An objective may have `static = True`: then each call does the same operations on the same
    memory, and on a GPU it is captured as a graph, with the step as a tensor (1,) int64 on the
    device; see `graphs`.

    Attributes:
        center: (G, F) starting points w*.
    """

    center: Tensor

    def __call__(self, w: Tensor, step: int | Tensor, /) -> tuple[Tensor, Tensor, Tensor, Parts]:
        """At parameters w (G, F) and step `step` of the chain (from 0).

        Returns:
            loss (G,) on each lane's minibatch, loss of the starting point on the same minibatch
            (G,), gradient of the first (G, F), and the paired loss difference on named parts of the
            minibatch (G,) each.
        """
        ...


class LossObjective:
    """Any loss of named tensors, at one or more checkpoints; gradients are torch's.

    Lanes are ordered by checkpoint, then by chain. Where the loss of an example depends on that
    example alone, the checkpoint's own loss is computed once for each example that is drawn, and
    looked up from then on.

    Args:
        loss: `loss(params, batch)`: the loss of each example or token, or their mean;
            `loss(params)` if `data` is None.
        params: w*, name → tensor, of one checkpoint or of each. Tensors of integers are handed to
            the loss as they are.
        data: See `data.as_data`; minibatches are its rows.
        index: (C, T, B) int64 rows of `data` for each chain and step, see `minibatches`; None if
            `data` is.
        mask: Free entries, name → bool tensor of the parameter's shape, or None for all of it;
            names that are left out are frozen. None: everything that has `requires_grad`.
        parts: Name → (n,) or (n, T) bool: parts of the data whose loss is followed.
        chains: Chains of each checkpoint where there is no data.
        losses: Those of another objective of the same checkpoints and minibatches, used again.

    Attributes:
        lane_bytes: What a lane takes while its gradient is computed.

    Raises:
        UserError: The mask or a part does not fit, nothing is free, or the loss cannot be sampled,
            see `checks`.
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
        with gradient_told():
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
        """The minibatches of all lanes of the first checkpoint at a step: tensors (C, B, …)."""
        return None if self.index is None else rows_of(self.data, self.index[:, step], self.center)

    def _tried(
        self, loss: Loss, state: Params, pieces: Mapping[str, Piece], rows: int | None
    ) -> Traits:
        batch = None
        if self.index is not None:
            batch = rows_of(self.data, self.index[0, 0], self.center)
        return traits_of(loss, state, tuple(pieces), batch, rows)

    def _table(self, loss: Loss, states: Sequence[Params], index: Tensor) -> list[Tensor]:
        """Each checkpoint's losses (n, …) on the examples that are drawn; the others are zero."""
        chunks = index.unique().split(index.shape[2] * len(index))
        return [self._tabled(loss, state, chunks) for state in states]

    def _tabled(self, loss: Loss, state: Params, chunks: Sequence[Tensor]) -> Tensor:
        table = torch.zeros(0)
        with torch.no_grad():
            for rows in chunks:
                batch = rows_of(self.data, rows, self.center)
                found = value_at(loss, state, batch, len(rows))
                found = found if self._by_entry else means(found)
                if not len(table):
                    table = found.new_zeros(data_size(self.data), *found.shape[1:])
                table[rows.to(table.device)] = found
        return table

    @property
    def _by_entry(self) -> bool:
        return any(part.dim() > 1 for part in self.parts.values())

    def _at_star(self, batch: Any) -> Tensor:
        with torch.no_grad():
            return self.lanes.losses(self.center, batch)

    def _start(self, count: int) -> Tensor:
        """The starting point's loss, which does not change where there is no data."""
        if not hasattr(self, "_constant"):
            self._constant = self._at_star(None)
        return self._constant.expand(count).clone()


def sampled(params: Params) -> Params:
    """Tensors in the type that is sampled: floating ones in float32, or all in float64.

    Raises:
        UserError: These are no named tensors, there is a complex one, or no floating one.
    """
    named = isinstance(params, Mapping) and all(map(_is_there, params.values()))
    if not named:
        raise UserError("params is no dict of dense tensors with values", "give name → tensor")
    if strange := [n for n, t in params.items() if t.is_complex()]:
        fix = "give `torch.view_as_real` of it"
        raise UserError(f"{strange[0]} is complex, and SGLD here samples real numbers", fix)
    floating = [t for t in params.values() if t.is_floating_point()]
    if not floating:
        raise UserError("params holds no floating tensor", "give name → tensor of weights")
    to = sampled_type(floating)
    return {
        n: t.detach().to(to) if t.is_floating_point() else t.detach() for n, t in params.items()
    }


def _is_there(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta


def weights_of(loss: Loss, state: Params) -> list[str]:
    """Names of the tensors of a checkpoint that are parameters: neither integers nor buffers."""
    buffers = loss.buffers if isinstance(loss, ModuleLoss) else {}
    return [n for n, t in state.items() if t.is_floating_point() and n not in buffers]


def _default(loss: Loss, mask: Mask | None) -> Mask | None:
    """What is free where nobody says: all, and of a module what has `requires_grad`."""
    if mask is not None or not isinstance(loss, ModuleLoss):
        return mask
    if not loss.free:
        fix = "free what is to be sampled with requires_grad_(True), or name it in the mask"
        raise UserError("all parameters of the module have requires_grad=False", fix)
    return None if len(loss.free) == len(loss.params) else dict.fromkeys(loss.free)


def _on(pieces: Mapping[str, Piece], device: torch.device) -> dict[str, Piece]:
    return {name: piece.to(device) for name, piece in pieces.items()}


def _looked_up(losses: Sequence[Tensor], rows: Tensor, count: int) -> Tensor:
    """(G, B, …) losses of each lane's checkpoint."""
    rows = rows.to(losses[0].device).unflatten(0, (count, -1))
    return torch.cat([t[r] for t, r in zip(losses, rows, strict=True)])


def _part(name: str, part: Tensor, objective: LossObjective) -> Tensor:
    if not objective.traits.by_example:
        fix = "return the loss of each example, such as with reduction='none'"
        raise UserError(f"part {name!r} of the data needs more than a mean loss", fix)
    if len(part) != data_size(objective.data):
        what = f"part {name!r} has {len(part)} rows, the data {data_size(objective.data)}"
        raise UserError(what, "give a mask of the data's rows")
    return part.to(objective.center.device)


def _mean_of(rise: Tensor, chosen: Tensor) -> Tensor:
    """Mean of (G, B, …) over the chosen examples or entries, NaN where there are none."""
    if chosen.dim() < rise.dim():
        rise = means(rise, chosen.dim())
    return (rise * chosen).flatten(1).sum(1) / chosen.flatten(1).sum(1)


def minibatches(seed: int, chains: range, steps: int, batch_size: int, size: int) -> Tensor:
    """Rows of a data set of `size`, drawn with replacement: (chains, steps, batch_size) int64.

    Named by (seed, chain, step): common to all checkpoints and restrictions, independent between
    chains.
    """
    drawn = [stream(seed, "minibatch", c).integers(0, size, (steps, batch_size)) for c in chains]
    return torch.stack([torch.from_numpy(d) for d in drawn])
