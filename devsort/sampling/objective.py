"""Objectives: what a set of lanes minimises, as a function of their free parameters.

`LossObjective` takes any differentiable loss; `sorting` has the fast ones for the sorting model.
All have the same face, `Objective`, so the sampler knows nothing of models.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from devsort.errors import UserError
from devsort.layout import Layout
from devsort.rng import stream
from devsort.sampling.masks import Mask, free_entries

Loss = Callable[..., Tensor]  # loss(params, batch) → scalar, or loss(params) where there is no data
Params = dict[str, Tensor]  # name → tensor
Parts = dict[str, Tensor]


class Objective(Protocol):
    """Loss of G lanes as a function of their free parameters, packed into rows.

    An objective may have `static = True`: then each call does the same operations on the same
    memory, and on a GPU it is captured as a graph, with the step as a tensor (1,) int64 on the
    device; see `graphs`.

    Attributes:
        center: (G, F) starting points w*.
    """

    center: Tensor

    def __call__(self, w: Tensor, step: int) -> tuple[Tensor, Tensor, Tensor, Parts]:
        """At parameters w (G, F) and step `step` of the chain (from 0).

        Returns:
            loss (G,) on each lane's minibatch, loss of the starting point on the same minibatch
            (G,), gradient of the first (G, F), and the paired loss difference on named parts of the
            minibatch (G,) each.
        """
        ...


class LossObjective:
    """Any loss of a dict of tensors; lanes are vmapped, gradients are torch's.

    Args:
        loss: `loss(params, batch)`, mean over the batch; `loss(params)` if `data` is None. Must be
            a pure function that `torch.func.vmap` can map.
        params: w*, name → tensor.
        data: Tensors (n, …), alone or nested in a tuple, list or dict; minibatches are its rows.
        index: (C, T, B) int64 rows of `data` for each chain and step, see `minibatches`; None if
            `data` is.
        mask: Free entries, name → bool tensor of the parameter's shape, or None for all of it;
            names that are left out are frozen. None: everything is free.

    Raises:
        UserError: The mask names a parameter that does not exist or has another shape, or nothing
            is free.
    """

    def __init__(
        self,
        loss: Loss,
        params: dict[str, Tensor],
        data: Any = None,
        index: Tensor | None = None,
        mask: Mask | None = None,
    ) -> None:
        self.layout = Layout.of(params)
        self.data, self.index = data, index
        self._star = self.layout.flatten(params).detach()  # (P,)
        self.free = free_entries(self.layout, mask).to(self._star.device)
        self.center = self._star[self.free].expand(1 if index is None else len(index), -1)

        def of_free(w: Tensor, batch: Any) -> Tensor:
            full = self._star.index_put((self.free,), w)
            return (
                loss(self.layout.views(full), batch)
                if data is not None
                else loss(self.layout.views(full))
            )

        self._value = torch.func.vmap(of_free)

    def __call__(self, w: Tensor, step: int) -> tuple[Tensor, Tensor, Tensor, Parts]:
        """See `Objective`."""
        batch = torch.zeros(len(w), device=w.device)
        if self.index is not None:
            rows = self.index[:, step]  # (C, B)
            batch = tree_map(lambda t: t[rows], self.data)
        # lanes do not mix, so the gradient of their sum is each lane's gradient
        with torch.enable_grad():
            free = w.detach().requires_grad_()
            loss = self._value(free, batch)
            (grad,) = torch.autograd.grad(loss.sum(), free)
        with torch.no_grad():
            return loss.detach(), self._value(self.center.expand(w.shape), batch), grad, {}


def minibatches(seed: int, chains: range, steps: int, batch_size: int, size: int) -> Tensor:
    """Rows of a data set of `size`, drawn with replacement: (chains, steps, batch_size) int64.

    Named by (seed, chain, step): common to all checkpoints and restrictions, independent between
    chains.
    """
    drawn = [stream(seed, "minibatch", c).integers(0, size, (steps, batch_size)) for c in chains]
    return torch.stack([torch.from_numpy(d) for d in drawn])


def module_loss(
    module: torch.nn.Module, loss: Callable[[Callable, Any], Tensor]
) -> tuple[Loss, dict[str, Tensor]]:
    """Makes a torch module samplable.

    Args:
        module: Any module; it is not changed.
        loss: `loss(model, batch)`, mean over the batch, calling `model(x)` as usual.

    Returns:
        `loss(params, batch)` and the module's parameters, as `sample` takes them.
    """

    def functional(params: dict[str, Tensor], batch: Any) -> Tensor:
        return loss(lambda *a, **k: torch.func.functional_call(module, params, a, k), batch)

    return functional, {name: p.detach() for name, p in module.named_parameters()}


def data_size(data: Any) -> int:
    """Number of rows that all tensors of `data` share."""
    sizes = {len(t) for t in tree_leaves(data)}
    if len(sizes) != 1:
        raise UserError(
            f"data has tensors of {sorted(sizes)} rows", "give tensors with the same first axis"
        )
    return sizes.pop()
