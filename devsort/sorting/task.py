"""The task: lists of distinct numbers, and the same numbers in ascending order.

A sequence is `[a_1 … a_L, SEP, b_1 … b_L]`; the model answers `b_1` at SEP, `b_2` at `b_1`, and so
on. Positions are counted from 0: SEP stands at position L, and the answers are predicted at
positions L … 2L−1.

Lists are drawn uniformly, or with a chosen mean gap δ̄ (`task.mean_gap`). The gaps of a list add up
to its span s = b_L − b_1, so δ̄ = E[s] / (L − 1). Of all distributions over lists with that δ̄, the
one of largest entropy is the uniform one tilted by the span,

    P(list) ∝ exp(θ s),    P(s) ∝ (N − s) · C(s − 1, L − 2) · exp(θ s),    s = L−1 … N−1,

with the θ that gives δ̄: negative for small gaps, 0 for uniform lists, positive for large gaps.
Given its span, a list is uniform: its lowest number is any of the N − s that fit, and its L − 2
inner numbers are any of the s − 1 between the ends.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import gammaln, softmax
from torch import Tensor

from devsort.rng import stream
from devsort.sorting.config import TaskConfig

TILT = 60.0  # |θ| at which all lists have the smallest or the largest span, to within 1e-20
# training steps whose lists are drawn together: one generator and one sort serve them all
BLOCK = 64


@dataclass(frozen=True)
class Batch:
    """Sequences and their answers.

    Attributes:
        tokens: (B, 2L+1) int64: list, SEP, sorted list.
        targets: (B, L) int64, the answers; they differ from the sorted list only by label noise.
    """

    tokens: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: Tensor | slice | None) -> "Batch":
        return Batch(self.tokens[index], self.targets[index])

    def to(self, device: torch.device | str) -> "Batch":
        """The batch on a device."""
        return Batch(self.tokens.to(device), self.targets.to(device))


def draw_lists(rng: np.random.Generator, count: int, task: TaskConfig) -> np.ndarray:
    """Draws lists without repetition: uniformly, or with the mean gap of the task.

    Returns:
        (count, L) int64 in 0…N−1, each row without repetition; all orders of a list's numbers are
        equally likely.
    """
    if task.mean_gap is None:
        return _distinct(rng, task.numbers, task.list_length, count)
    L, spans = task.list_length, np.arange(task.numbers)
    span = rng.choice(spans, count, p=span_probabilities(task.numbers, L, task.mean_gap))  # (B,)
    lowest = rng.integers(0, task.numbers - span)[:, None]  # (B, 1)
    inner = 1 + _distinct(rng, span - 1, L - 2, count)  # (B, L−2), in 1 … span − 1
    lists = lowest + np.column_stack([np.zeros(count, np.int64), inner, span])  # (B, L)
    return rng.permuted(lists, axis=1)


def _distinct(
    rng: np.random.Generator, below: int | np.ndarray, length: int, count: int
) -> np.ndarray:
    """`length` distinct numbers of 0 … below − 1 in each of `count` rows: (count, length).

    They are the first `length` swaps of a Fisher–Yates shuffle.
    """
    deck = np.tile(np.arange(np.max(below)), (count, 1))
    row = np.arange(count)
    for i in range(length):
        j = rng.integers(i, below, count)
        picked = deck[row, j]
        deck[row, j] = deck[:, i]
        deck[:, i] = picked
    return deck[:, :length]


@lru_cache(maxsize=16)
def span_probabilities(numbers: int, length: int, gap: float) -> np.ndarray:
    """P(span = s) for s = 0 … N−1 of lists with mean gap `gap`; see the equation above.

    Args:
        numbers: N.
        length: L.
        gap: δ̄, between 1 and (N − 1) / (L − 1), both excluded.
    """
    s = np.arange(length - 1, numbers)
    log_count = np.log(numbers - s) + gammaln(s) - gammaln(length - 1) - gammaln(s - length + 2)

    def excess(tilt: float) -> float:
        return float(softmax(log_count + tilt * s) @ s) / (length - 1) - gap

    tilt = brentq(excess, -TILT, TILT, xtol=1e-14)
    return np.concatenate([np.zeros(length - 1), softmax(log_count + tilt * s)])


def make_batch(lists: np.ndarray, task: TaskConfig) -> Batch:
    """Turns (B, L) lists into sequences with clean targets."""
    ordered = np.sort(lists, axis=1)
    sep = np.full((len(lists), 1), task.numbers)
    tokens = torch.from_numpy(
        np.concatenate([lists, sep, ordered], axis=1).astype(np.int64, copy=False)
    )
    return Batch(tokens, tokens[:, task.list_length + 1 :])


def eval_batch(task: TaskConfig, count: int | None = None) -> Batch:
    """The fixed evaluation set, or its first `count` lists; it has no label noise."""
    lists = draw_lists(stream(task.seed, "eval"), task.eval_lists, task)
    return make_batch(lists[:count], task)


def train_batch(task: TaskConfig, step: int, batch_size: int) -> Batch:
    """The batch of training step `step` (from 1), a function of the step alone.

    If `train_lists` is set, training takes epochs over that finite set, each in its own random
    order.
    """
    if task.train_lists is not None:
        return _epoch_batch(task, step, batch_size)
    block, row = divmod(step - 1, BLOCK)
    data = _fresh_block(task, block, batch_size)
    return data[slice(row * batch_size, (row + 1) * batch_size)]


def sampling_set(task: TaskConfig, size: int) -> Batch:
    """The data set whose loss is sampled.

    `size` lists as in training, including label noise, or the finite set.
    """
    if task.train_lists is not None:
        return _finite_set(task)
    rng = stream(task.seed, "sampling-set")
    return _add_label_noise(make_batch(draw_lists(rng, size, task), task), task, rng)


def gaps(lists: np.ndarray) -> np.ndarray:
    """δ_i = b_{i+1} − b_i of each list, with b the sorted list.

    Returns:
        (B, L−1) int64; its mean over everything is δ̄.
    """
    return np.diff(np.sort(lists, axis=1), axis=1)


def mean_gap(task: TaskConfig) -> float:
    """δ̄ that lists are drawn with; (N + 1) / (L + 1) under uniform sampling without repetition."""
    return (task.numbers + 1) / (task.list_length + 1) if task.mean_gap is None else task.mean_gap


@lru_cache(maxsize=2)
def _fresh_block(task: TaskConfig, block: int, batch_size: int) -> Batch:
    rng = stream(task.seed, "train", block)
    return _add_label_noise(make_batch(draw_lists(rng, BLOCK * batch_size, task), task), task, rng)


@lru_cache(maxsize=2)
def _finite_set(task: TaskConfig) -> Batch:
    rng = stream(task.seed, "train-set")
    return _add_label_noise(make_batch(draw_lists(rng, task.train_lists, task), task), task, rng)


@lru_cache(maxsize=2)
def _epoch_order(seed: int, size: int, epoch: int) -> Tensor:
    return torch.from_numpy(stream(seed, "epoch", epoch).permutation(size))


def _epoch_batch(task: TaskConfig, step: int, batch_size: int) -> Batch:
    data = _finite_set(task)
    positions = np.arange((step - 1) * batch_size, step * batch_size)
    epochs, rows = np.divmod(positions, len(data))
    index = [_epoch_order(task.seed, len(data), e)[rows[epochs == e]] for e in np.unique(epochs)]
    return data[torch.cat(index)]


def _add_label_noise(batch: Batch, task: TaskConfig, rng: np.random.Generator) -> Batch:
    if task.label_noise == 0:
        return batch
    noisy = torch.from_numpy(rng.random(batch.targets.shape) < task.label_noise)
    numbers = torch.from_numpy(rng.integers(0, task.numbers, batch.targets.shape))
    return Batch(batch.tokens, torch.where(noisy, numbers, batch.targets))
