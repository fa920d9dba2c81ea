"""Lists by content: the parts that a shift is made of, and lists drawn by their weight."""

import numpy as np

from devsort.rng import stream
from devsort.sorting.config import TaskConfig
from devsort.sorting.task import Batch, draw_lists, make_batch
from devsort.susceptibility.patterning import Tilt

SCALE = 4096  # lists that determine how steep the weights are
SPARE = 1.5  # candidates that are drawn, relative to what acceptance needs on average


def members_of(lists: np.ndarray, edges: np.ndarray, numbers: int) -> np.ndarray:
    """Which list (n, L) holds which number, and lies in which class of gaps: (n, N + K) bool."""
    holds = np.zeros((len(lists), numbers), bool)
    holds[np.arange(len(lists))[:, None], lists] = True
    gap = (lists.max(1) - lists.min(1)) / (lists.shape[1] - 1)
    classes = np.searchsorted(edges[1:-1], gap, side="right")
    return np.column_stack([holds, classes[:, None] == np.arange(len(edges) - 1)])


class WeightedLists:
    """Batches of lists whose probability is that of the task times a weight.

    A list that is drawn from the task is accepted with probability w / bound.

    Args:
        task: The lists.
        h: (N + K,) shift of the parts of `members_of`; zero: the task as it is.
        edges: Limits of the classes of gaps.
        size: See `susceptibility.patterning.Tilt`.
        bound: See `Tilt`.
    """

    def __init__(
        self, task: TaskConfig, h: np.ndarray, edges: np.ndarray, size: float, bound: float
    ) -> None:
        self.task, self.edges, self.bound = task, edges, bound
        lists = draw_lists(stream(task.seed, "pattern-scale"), SCALE, task)
        self.tilt = Tilt.along(h, members_of(lists, edges, task.numbers), size, bound)

    def weights(self, lists: np.ndarray) -> np.ndarray:
        """(n,) weights between 1/bound and bound."""
        return self.tilt(members_of(lists, self.edges, self.task.numbers))

    def batch(self, seed: int, step: int, size: int) -> Batch:
        """The batch of a step: a function of seed and step."""
        rng = stream(seed, "pattern", step)
        taken = np.zeros((0, self.task.list_length), np.int64)
        while len(taken) < size:
            lists = draw_lists(rng, int(size * self.bound * SPARE), self.task)
            chance = rng.random(len(lists)) * self.bound
            taken = np.concatenate([taken, lists[chance < self.weights(lists)]])
        return make_batch(taken[:size], self.task)
