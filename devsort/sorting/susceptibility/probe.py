"""The parts of the data that a head may respond to: numbers, positions, and classes of gaps."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from devsort.errors import UserError
from devsort.sorting.config import Config
from devsort.sorting.objective import SortObjective
from devsort.sorting.task import Batch, sampling_set
from devsort.susceptibility.observe import Losses, Pair, PartMeans

AXES = ("number", "gap_class", "position")


class Probe:
    """The first lists of the sampling set, and the parts to which their answers belong.

    Args:
        config: The config of a run.

    Attributes:
        data: The lists.
        edges: (K + 1,) limits of the classes of mean gaps; fewer if many lists have the same gap.
        parts: Axis → (parts, lists, L) bool, for each of AXES.

    Raises:
        UserError: The lists do not form two classes of gaps.
    """

    def __init__(self, config: Config) -> None:
        settings, task = config.susceptibility, config.task
        whole = sampling_set(task, config.llc.dataset_size)
        self.data = whole[slice(settings.lists)]
        gap = mean_gaps(self.data)
        shares = np.linspace(0, 1, settings.gap_classes + 1)
        self.edges = np.unique(np.quantile(gap, shares, method="lower"))
        if len(self.edges) < 3:
            what = f"the mean gaps of {len(gap)} lists do not fall into two classes"
            raise UserError(what, "raise susceptibility.lists or susceptibility.gap_classes")
        targets = self.data.targets
        classes = class_of(gap, self.edges)
        places = torch.arange(task.list_length).expand(targets.shape)
        self.parts = {
            "number": _one_hot(targets, task.numbers),
            "gap_class": _one_hot(classes[:, None].expand(targets.shape), len(self.edges) - 1),
            "position": _one_hot(places, task.list_length),
        }

    def evaluate(self, objective: SortObjective) -> "Evaluated":
        """What is evaluated at the draws of an objective on the same data set."""
        return Evaluated(self, objective)

    def losses(self, objective: SortObjective) -> Losses:
        """Weights (G, F) → losses (G, lists, L) of an objective on the same data set."""
        size, count = objective.batches.index.shape[2], len(self.data)
        rows = torch.arange(-(-count // size) * size, device=objective.center.device) % count
        chunks = rows.split(size)  # as many lists as in a minibatch, whose memory serves both

        def of(w: Tensor) -> Tensor:
            return torch.cat([objective.losses_on(w, rows) for rows in chunks], 1)[:, :count]

        return of


class Evaluated:
    """At weights (G, F): the mean loss L with ℓ_x − L of all parts x, and the losses of numbers.

    Args:
        probe: The parts.
        objective: The lanes.
    """

    def __init__(self, probe: Probe, objective: SortObjective) -> None:
        self.losses = probe.losses(objective)
        masks = torch.cat([probe.parts[axis] for axis in AXES])
        self.means = PartMeans(dict(enumerate(masks)), objective.center.device)
        self.numbers = len(probe.parts["number"])

    def __call__(self, w: Tensor) -> list[Pair]:
        """L (G, 1) with ℓ_x − L (G, parts), and ℓ_t (G, N) with itself."""
        losses = self.losses(w).double()  # (G, lists, L)
        mean, parts = losses.mean((1, 2))[:, None].cpu().numpy(), self.means(losses).cpu().numpy()
        numbers = parts[:, : self.numbers]
        return [(mean, parts - mean), (numbers, numbers)]


def mean_gaps(data: Batch) -> np.ndarray:
    """The mean gap of each list's neighbours (n,)."""
    length = data.targets.shape[1]
    ordered = data.tokens[:, length + 1 :]
    return ((ordered[:, -1] - ordered[:, 0]) / (length - 1)).numpy()


def class_of(gap: np.ndarray, edges: np.ndarray) -> Tensor:
    """The class of each mean gap (n,) int64; a gap on an edge belongs to the wider class."""
    return torch.from_numpy(np.searchsorted(edges[1:-1], gap, side="right"))


def split_axes(values: np.ndarray, probe: Probe) -> Mapping[str, np.ndarray]:
    """Cuts the last-but-some axis of all parts (parts, …) into those of each of AXES."""
    sizes = [len(probe.parts[axis]) for axis in AXES]
    return dict(zip(AXES, np.split(values, np.cumsum(sizes)[:-1]), strict=True))


def _one_hot(labels: Tensor, count: int) -> Tensor:
    """(count, …) bool."""
    return labels[None] == torch.arange(count).view(-1, *[1] * labels.dim())
