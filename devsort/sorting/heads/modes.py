"""Scores and labels of a network, from what each head does with each number.

Equations and reasons are in docs/head-modes.md.

Everything here is a pure function of tables (…, H, N); leading axes are bootstrap draws or
checkpoints.
"""

import numpy as np

from devsort.sorting.config import HeadsConfig
from devsort.sorting.heads.ranges import (
    Tables,
    copies,
    lowers,
    owner,
    ratio,
    shares,
    strongest,
    suppresses,
)

SCORES = ("vocabulary_splitting", "copy_suppression", "overlap")
STRENGTH = ("lowered_share", "lowered_ratio", "mean_suppression_gain", "suppression_z")
LABELS = ("unformed", "overlapping", "vocabulary-splitting", "copy-suppression")


def split_score(share: np.ndarray, config: HeadsConfig) -> np.ndarray:
    """Chance-corrected agreement of neighbouring numbers on their head: (…, H, N) → (…).

    (a − c) / max(1 − c, 2e(1 − e)), cut off at 0, with a = mean_t Σ_h s_h(t) s_h(t+1) and c = Σ_h
    (mean_t s_h)², which is a if the same shares come in random order. The floor 2e(1 − e) is 1 − c
    if a second head has the share e = `extent`. The score is 0 if one head does all, if shares are
    equal, or if owners alternate at random; it is near 1 for ranges.
    """
    agreement = (share[..., 1:] * share[..., :-1]).sum(-2).mean(-1)
    chance = (share.mean(-1) ** 2).sum(-1)
    room = np.maximum(1 - chance, 2 * config.extent * (1 - config.extent))
    return np.clip((agreement - chance) / np.maximum(room, 1e-9), 0, 1)


def overlap_score(tables: Tables, config: HeadsConfig) -> np.ndarray:
    """Mean over numbers of the second-strongest copier's effect relative to the strongest's.

    Shape (…), in [0, 1].
    """
    effect = np.maximum(tables["copy_effect"], 0)
    if effect.shape[-2] < 2:
        return np.zeros(effect.shape[:-2])
    first, second = np.moveaxis(np.partition(effect, -2, axis=-2)[..., -2:, :], -2, 0)[::-1]
    return (second / np.maximum(first, config.copy_floor)).mean(-1)


def suppression_score(tables: Tables, config: HeadsConfig) -> np.ndarray:
    """Mean over numbers of how far the most negative head undoes the copier, 0 where none copies.

    Shape (…); 1 means that it undoes half or more at every number.
    """
    effect = tables["copy_effect"]
    top = strongest(effect)[..., 0, :]
    undone = np.maximum(-effect.min(-2), 0) / np.maximum(top, config.copy_floor)
    return np.where(top >= config.copy_floor, np.minimum(undone / 0.5, 1), 0).mean(-1)


def strength(tables: Tables, config: HeadsConfig) -> dict[str, np.ndarray]:
    """How much each head lowers numbers, whether or not that helps: each of STRENGTH, (…, H).

    `lowered_share` is the share of all numbers that the head lowers, and `lowered_ratio` the mean
    of −c_h / c⁺ over these (0 if there are none). `mean_suppression_gain` is the rise of the loss
    in nats without the head's suppression, and `suppression_z` is that rise in standard errors.
    """
    low = lowers(tables, config)
    undone = np.where(low, -ratio(tables, config), 0).sum(-1) / np.maximum(low.sum(-1), 1)
    same = {name: tables[name] for name in ("mean_suppression_gain", "suppression_z")}
    return {"lowered_share": low.mean(-1), "lowered_ratio": undone, **same}


def scores(tables: Tables, config: HeadsConfig) -> np.ndarray:
    """All SCORES: (…, 3)."""
    split = split_score(shares(tables, config), config)
    return np.stack([split, suppression_score(tables, config), overlap_score(tables, config)], -1)


def labels(tables: Tables, config: HeadsConfig) -> np.ndarray:
    """Which of LABELS hold: (…, 4) bool."""
    split, _, overlap = np.moveaxis(scores(tables, config), -1, 0)
    formed = copies(tables, config).any(-2).mean(-1) >= 0.5
    owns = (
        owner(tables, config)[..., None, :] == np.arange(tables["copy_effect"].shape[-2])[:, None]
    )
    owners = (owns.mean(-1) >= config.extent).sum(-1)
    suppressed = (suppresses(tables, config).mean(-1) >= config.extent).any(-1)
    return np.stack(
        [
            ~formed,
            formed & (overlap >= config.overlap),
            formed & (split >= config.split) & (owners > 1),
            formed & suppressed,
        ],
        -1,
    )
