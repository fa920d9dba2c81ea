"""Objectives of the sorting model: the kernels around checkpoints, one minibatch a chain.

The loss of the checkpoint on each answer of the data set is computed once, so the paired difference L(w) − L(w*) on a
chain's own minibatch costs a look-up.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from devsort.kernels import HeadKernel, SortKernel
from devsort.model import Params, Shape
from devsort.sampling.objective import Groups, free_entries
from devsort.sampling.restrictions import restriction_mask, whole_head
from devsort.task import Batch

CHUNK = 512  # lists per forward pass of the reference loss


@dataclass(frozen=True)
class Minibatches:
    """The data set and which of its lists each chain sees at each step.

    Attributes:
        data: n lists.
        index: (C, T, B) int64.
        groups: name → (n, L) bool, parts of the data that are followed on their own (data-refined).
    """

    data: Batch
    index: Tensor
    groups: dict[str, Tensor]


class Reference:
    """The checkpoint's loss on every answer of the data set, in nats: (n, L)."""

    def __init__(self, kernel: SortKernel, params: Params, batches: Minibatches) -> None:
        self.flat = kernel.layout.flatten(params)[None]
        data = batches.data
        parts = [data[slice(i, i + CHUNK)] for i in range(0, len(data), CHUNK)]
        self.losses = torch.cat([kernel.losses(self.flat, kernel.pairs.rows(part[None]))[0] for part in parts])


class SortObjective:
    """All chains of one restriction at one checkpoint; a whole head takes the kernel that touches that head alone.

    Args:
        kernels: The kernels for all parameters and for one head, whose buffers are used.
        params: The checkpoint.
        name: The restriction, see `restrictions`.
        batches: The chains' minibatches.
        reference: The checkpoint's own losses.
    """

    def __init__(
        self,
        kernels: tuple[SortKernel, HeadKernel],
        params: Params,
        name: str,
        batches: Minibatches,
        reference: Reference,
    ) -> None:
        full, one = kernels
        self.batches, self.reference = batches, reference
        mask = restriction_mask(name, full.shape)
        self.free = free_entries(full.layout, mask).to(full.device) if mask else None
        self.chains = len(batches.index)
        star = reference.flat[0] if self.free is None else reference.flat[0][self.free]
        self.center = star.expand(self.chains, -1)
        head = whole_head(name)
        self.kernel = full if head is None else one
        self.frozen = None if head is None else one.freeze(params, batches.data.tokens, head)
        self.stack = None if self.free is None or head is not None else reference.flat.repeat(self.chains, 1)

    def __call__(self, w: Tensor, step: int) -> tuple[Tensor, Tensor, Tensor, Groups]:
        """See `objective.Objective`."""
        index = self.batches.index[:, step]  # (C, B)
        losses, grad = self._value_and_grad(w, index)  # (C, B, L), (C, F)
        rise = losses - self.reference.losses[index]
        loss = losses.mean((1, 2))
        groups = {name: _mean_of(rise, part[index]) for name, part in self.batches.groups.items()}
        return loss, loss - rise.mean((1, 2)), grad, groups

    def _value_and_grad(self, w: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        rows = self.kernel.pairs.rows(self.batches.data[index])
        if self.frozen is not None:
            return self.kernel.value_and_grad(w, rows, self.frozen, index)
        if self.stack is None:
            return self.kernel.value_and_grad(w, rows)
        self.stack[:, self.free] = w
        losses, grad = self.kernel.value_and_grad(self.stack, rows)
        return losses, grad[:, self.free]


def sort_kernels(shape: Shape, device: torch.device | str = "cpu") -> tuple[SortKernel, HeadKernel]:
    """Both kernels of a model; each worker needs its own, since they reuse buffers."""
    return SortKernel(shape, device), HeadKernel(shape, device)


def _mean_of(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of (C, B, L) over the chosen answers, NaN where there are none."""
    return (values * chosen).sum((1, 2)) / chosen.sum((1, 2))
