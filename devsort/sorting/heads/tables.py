"""Measures by number, with bootstrap draws over lists.

Lists are divided into groups, and a bootstrap draw takes groups with replacement. All checkpoints
of a run share the lists and the draws, so a draw follows one set of lists through all of training.
"""

import numpy as np
import torch

from devsort.rng import stream
from devsort.sorting.heads.measures import HEAD_MEASURES, Answers

GROUPS = 256  # most groups; with 4,096 lists a group has 16
TINY = 1e-9  # nats; smaller standard errors are rounding errors of single precision


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
    """Mean of each measure by head and number, or that of each bootstrap draw if weights are given.

    A number that is never an answer has mean 0 everywhere.

    Returns:
        Each of HEAD_MEASURES as (H, N), or (draws, H, N). `mean_suppression_gain`, the mean over
        all answers, and `suppression_z`, that mean divided by its standard error, as (H,), or
        (draws, H).
    """
    weights = np.ones(len(counts)) if weights is None else weights
    total = np.tensordot(weights, sums, 1)  # (…, M, H, N)
    count = np.tensordot(weights, counts, 1)[..., None, None, :]
    mean = total / np.maximum(count, 1)
    by_number = {name: mean[..., i, :, :] for i, name in enumerate(HEAD_MEASURES)}
    gain, z = _over_answers(counts, sums[:, HEAD_MEASURES.index("suppression_gain")], weights)
    return {**by_number, "mean_suppression_gain": gain, "suppression_z": z}


def _over_answers(
    counts: np.ndarray, sums: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean over all answers, and that mean divided by its standard error: (…, H) each.

    Takes the sums (G, H, N) of one measure, with groups of lists as the unit of the error.
    SE² = Σ w_g (s_g − mean n_g)² / (Σ w_g n_g)².
    """
    total, count = sums.sum(-1), counts.sum(-1)  # (G, H), (G,)
    answers = (weights @ count)[..., None]
    mean = weights @ total / answers
    residual = total - mean[..., None, :] * count[:, None]  # (…, G, H)
    error = np.sqrt((weights[..., None] * residual**2).sum(-2)) / answers
    return mean, mean / np.maximum(error, TINY)
