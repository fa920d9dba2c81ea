"""Objectives of the sorting model: the kernels around checkpoints, one minibatch for each chain.

The loss of the checkpoint on each answer of the data set is computed once, so the paired difference
L(w) − L(w*) on a chain's own minibatch costs only a look-up.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from devsort.sampling.masks import free_entries
from devsort.sampling.objective import Parts
from devsort.sorting.kernels import Frozen, HeadKernel, SortKernel, stack
from devsort.sorting.model import Params, Shape
from devsort.sorting.restrictions import restriction_mask, whole_head
from devsort.sorting.task import Batch

CHUNK = 256  # lists per forward pass of the reference loss


@dataclass(frozen=True)
class Minibatches:
    """The data set and which of its lists each chain sees at each step.

    Attributes:
        data: n lists.
        index: (C, T, B) int64.
        parts: name → (n, L) bool, parts of the data with an LLC of their own (data-refined).
    """

    data: Batch
    index: Tensor
    parts: dict[str, Tensor]

    def at(self, step: int | Tensor) -> Tensor:
        """The rows (C, B) of each chain at a step, an int or a tensor (1,) on the device."""
        return (
            self.index[:, step]
            if isinstance(step, int)
            else self.index.index_select(1, step).squeeze(1)
        )


class Checkpoint:
    """A checkpoint with its own loss on every answer of the data set, in nats: (n, L)."""

    def __init__(self, kernel: SortKernel, params: Params, data: Batch) -> None:
        self.params = params
        self.flat = kernel.layout.flatten(params)[None]  # (1, P)
        parts = [data[slice(i, i + CHUNK)] for i in range(0, len(data), CHUNK)]
        self.losses = torch.cat([kernel.losses(self.flat, part[None])[0] for part in parts])


class SortObjective:
    """All chains of one restriction at some checkpoints.

    A restriction to a whole head uses the kernel that computes that head alone.

    Lanes are ordered by checkpoint, then by chain.

    Args:
        kernels: The kernels for all parameters and for one head, whose buffers are used.
        checkpoints: The checkpoints.
        name: The restriction, see `restrictions`.
        batches: The chains' minibatches, the same at every checkpoint.
        frozen: `frozen` of an objective for other chains of the same restriction at the same single
            checkpoint, to be used again.
    """

    static = True

    def __init__(
        self,
        kernels: tuple[SortKernel, HeadKernel],
        checkpoints: Sequence[Checkpoint],
        name: str,
        batches: Minibatches,
        frozen: Frozen | None = None,
    ) -> None:
        full, one = kernels
        self.batches, self.count, chains = batches, len(checkpoints), len(batches.index)
        self.losses = torch.cat([c.losses for c in checkpoints])  # (checkpoints · n, L)
        mask = restriction_mask(name, full.shape)
        self.free = free_entries(full.layout, mask).to(full.device) if mask else None
        self.stack = torch.cat([c.flat for c in checkpoints]).repeat_interleave(chains, 0)  # (G, P)
        self.center = self.stack if self.free is None else self.stack[:, self.free]
        head = whole_head(name)
        self.kernel = full if head is None else one
        self.frozen = frozen
        if head is not None and frozen is None:
            by_checkpoint = {
                c: one.freeze(full, c.params, batches.data, head)
                for c in dict.fromkeys(checkpoints)
            }
            self.frozen = stack([by_checkpoint[c] for c in checkpoints], chains)
        lane = torch.arange(self.count, device=full.device).repeat_interleave(chains)
        self.offset = lane[:, None] * len(batches.data)  # (G, 1)

    def __call__(self, w: Tensor, step: int | Tensor) -> tuple[Tensor, Tensor, Tensor, Parts]:
        """See `objective.Objective`."""
        index = self.batches.at(step).repeat(self.count, 1)  # (G, B)
        losses, grad = self._value_and_grad(w, index)  # (G, B, L), (G, F)
        rise = losses - torch.nn.functional.embedding(index + self.offset, self.losses)
        loss = losses.mean((1, 2))
        parts = {name: _mean_of(rise, part[index]) for name, part in self.batches.parts.items()}
        return loss, loss - rise.mean((1, 2)), grad, parts

    def losses_on(self, w: Tensor, rows: Tensor) -> Tensor:
        """Losses (G, B, L) of each answer in nats on the same rows (B,) of the data for all lanes.

        Give as many rows as a minibatch has, so that the kernels can use the same buffers.
        """
        index = rows.expand(len(w), -1)
        batch = self._batch(index)
        if self.frozen is not None:
            return self.kernel.losses(w, batch, self.frozen, index + self.offset)
        if self.free is None:
            return self.kernel.losses(w, batch)
        self.stack[:, self.free] = w
        return self.kernel.losses(self.stack, batch)

    def _batch(self, index: Tensor) -> Batch:
        data = self.batches.data  # embedding is the fastest way to select rows
        return Batch(
            *(torch.nn.functional.embedding(index, rows) for rows in (data.tokens, data.targets))
        )

    def _value_and_grad(self, w: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        batch = self._batch(index)
        if self.frozen is not None:
            return self.kernel.value_and_grad(w, batch, self.frozen, index + self.offset)
        if self.free is None:
            return self.kernel.value_and_grad(w, batch)
        self.stack[:, self.free] = w
        losses, grad = self.kernel.value_and_grad(self.stack, batch)
        return losses, grad[:, self.free]


def sort_kernels(shape: Shape, device: torch.device | str = "cpu") -> tuple[SortKernel, HeadKernel]:
    """Both kernels of a model; each worker needs its own, since they reuse buffers."""
    return SortKernel(shape, device), HeadKernel(shape, device)


def _mean_of(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of (C, B, L) over the chosen answers, NaN where there are none."""
    return (values * chosen).sum((1, 2)) / chosen.sum((1, 2))
