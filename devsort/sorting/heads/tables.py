"""Measures by number, with bootstrap draws over lists.

Lists fall into groups; a bootstrap draw takes groups with replacement. All checkpoints of a run
share the lists and the draws, so a draw follows one set of lists through all of training.
"""

import numpy as np
import torch

from devsort.rng import stream
from devsort.sorting.heads.measures import HEAD_MEASURES, Answers

GROUPS = 256  # at most; with 4,096 lists a group holds 16


def group_sums(answers: Answers, numbers: int) -> tuple[np.ndarray, np.ndarray]:
    """Sums of each measure over the lists of a group, by answer.

    Returns:
        Counts (G, N) and sums (G, measure, H, N); the measures are HEAD_MEASURES.
    """
    lists, _ = answers.targets.shape
    groups = min(GROUPS, lists)
    cell = (torch.arange(lists) % groups)[:, None].to(
        answers.targets.device
    ) * numbers + answers.targets
    cell = cell.flatten()  # (B·L,), group · N + t
    # (B, M, H, L)
    values = torch.stack([answers.by_head[name] for name in HEAD_MEASURES], 1).double()
    values = values.movedim(-1, 1).flatten(0, 1)  # (B·L, M, H)
    sums = values.new_zeros(groups * numbers, *values.shape[1:]).index_add_(0, cell, values)
    counts = torch.bincount(cell, minlength=groups * numbers).view(groups, numbers)
    return counts.cpu().numpy(), sums.view(groups, numbers, *values.shape[1:]).movedim(
        1, -1
    ).cpu().numpy()


def draw_weights(groups: int, draws: int, seed: int) -> np.ndarray:
    """How often each bootstrap draw takes each group: (draws, G)."""
    return stream(seed, "heads-bootstrap").multinomial(groups, np.full(groups, 1 / groups), draws)


def tables(
    counts: np.ndarray, sums: np.ndarray, weights: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Mean of each measure by head and number; of each bootstrap draw if weights are given.

    A number that no list asks for has mean 0 everywhere.

    Returns:
        Each of HEAD_MEASURES as (H, N), or (draws, H, N).
    """
    weights = np.ones(len(counts)) if weights is None else weights
    total = np.tensordot(weights, sums, 1)  # (…, M, H, N)
    count = np.tensordot(weights, counts, 1)[..., None, None, :]
    mean = total / np.maximum(count, 1)
    return {name: mean[..., i, :, :] for i, name in enumerate(HEAD_MEASURES)}
