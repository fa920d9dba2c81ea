"""What is evaluated at the draws of a sampler: losses on fixed rows of the data, and their means.

Nothing here changes a draw; see `sampling.chains.Watch`.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from devsort.errors import UserError
from devsort.sampling.config import SamplerConfig
from devsort.sampling.data import rows_of
from devsort.sampling.geometry import Rescaled
from devsort.sampling.objective import LossObjective, Objective
from devsort.susceptibility.moments import Moments

Losses = Callable[[Tensor], Tensor]  # weights (G, F) → losses (G, rows) or (G, rows, T)
Pair = tuple[np.ndarray, np.ndarray]  # observables (G, M) and losses (G, N)
Evaluate = Callable[[Tensor], Sequence[Pair]]  # of weights (G, F)


class Watcher:
    """Sums what it evaluates at every `every`-th draw, less its value at the start.

    Args:
        evaluate: One or more pairs of observables and losses whose covariances are wanted.
        objective: What is sampled, in relative geometry or not.
        config: Sampler settings, with the number of draws.
        every: One of this many draws is evaluated.

    Attributes:
        moments: The sums of each pair so far.
        start: The pairs at w*.
    """

    def __init__(
        self, evaluate: Evaluate, objective: Objective, config: SamplerConfig, every: int
    ) -> None:
        self.evaluate, self.every = evaluate, every
        self.scaled = objective if isinstance(objective, Rescaled) else None
        self.start = self._at(objective.center)
        lanes, draws = len(objective.center), -(-config.num_draws // every)
        sizes = [(phi.shape[1], loss.shape[1]) for phi, loss in self.start]
        self.moments = [Moments.empty(lanes, *size, draws) for size in sizes]

    def __call__(self, w: Tensor) -> None:
        """See `sampling.chains.Watch`."""
        for moments, now, start in zip(self.moments, self._at(w), self.start, strict=True):
            moments.add(now[0] - start[0], now[1] - start[1])

    def _at(self, w: Tensor) -> Sequence[Pair]:
        with torch.no_grad():
            return self.evaluate(w if self.scaled is None else self.scaled.weights(w))


class ProbeLosses:
    """The losses of lanes on fixed rows of the data, as many rows at once as in a minibatch.

    Args:
        objective: The lanes, on minibatches of the data.
        rows: Row numbers.

    Raises:
        UserError: The loss is a mean, or the loss of an example depends on the others.
    """

    def __init__(self, objective: LossObjective, rows: Tensor) -> None:
        index = objective.index
        if index is None or not objective.traits.by_example:
            fix = "return the loss of each example, such as with reduction='none'"
            raise UserError("a response to an example needs more than a mean loss", fix)
        if not objective.traits.own_rows:
            what = "the loss of an example depends on the others in its batch"
            raise UserError(what, "turn off what mixes examples, such as batch statistics")
        self.objective, self.count = objective, len(rows)
        size = index.shape[2]
        padded = rows.repeat(-(-size // len(rows)) + 1)[: -(-len(rows) // size) * size]
        self.chunks = padded.split(size)

    def __call__(self, w: Tensor) -> Tensor:
        """(G, rows) or (G, rows, T)."""
        return torch.cat([self._of(w, rows) for rows in self.chunks], 1)[:, : self.count]

    def _of(self, w: Tensor, rows: Tensor) -> Tensor:
        batch = rows_of(self.objective.data, rows.expand(len(w), -1), w)
        return self.objective.lanes.losses(w, batch)


class PartMeans:
    """Means of losses over parts of the entries.

    Args:
        parts: Name → (rows,) or (rows, T), bool or weights; the mean of an empty part is NaN.
        device: Where the losses are.
    """

    def __init__(self, parts: Mapping[str, Tensor], device: torch.device | str = "cpu") -> None:
        stacked = torch.stack(list(parts.values())).to(device, torch.float64)  # (N, rows, …)
        self.axes = stacked.dim() - 1
        flat = stacked.flatten(1)
        self.weights = (flat / flat.sum(1, keepdim=True)).T  # (entries, N)

    def __call__(self, losses: Tensor) -> Tensor:
        """(G, rows, …) → (G, N), float64."""
        while losses.dim() - 1 > self.axes:
            losses = losses.mean(-1)
        return losses.flatten(1).double() @ self.weights


def component_response(losses: Losses, parts: PartMeans | None) -> Evaluate:
    """φ = L and ℓ_x − L, with L the mean over the rows and x a part or a row."""

    def evaluate(w: Tensor) -> list[Pair]:
        each = losses(w).double()
        mean = each.flatten(1).mean(1, keepdim=True)
        return [(_numpy(mean), _numpy(_means(each, parts) - mean))]

    return evaluate


def kernel_response(
    losses: Losses, parts: PartMeans | None, others: Sequence[Losses] = ()
) -> Evaluate:
    """φ = the losses ℓ_x and then other observables (G,), with ℓ_x."""

    def evaluate(w: Tensor) -> list[Pair]:
        each = _means(losses(w).double(), parts)
        more = [other(w).double()[:, None] for other in others]
        return [(_numpy(torch.cat([each, *more], 1)), _numpy(each))]

    return evaluate


def _means(each: Tensor, parts: PartMeans | None) -> Tensor:
    if parts is not None:
        return parts(each)
    return each.flatten(2).mean(2) if each.dim() > 2 else each


def _numpy(values: Tensor) -> np.ndarray:
    return values.cpu().numpy()
