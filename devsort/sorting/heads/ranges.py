"""Where a head is at work: the numbers that it copies, suppresses and is needed for, as ranges.

Equations and reasons are in docs/head-modes.md.

Everything here is a pure function of tables (…, H, N): leading axes are bootstrap draws or
checkpoints.
"""

import numpy as np

from devsort.sorting.config import HeadsConfig

Tables = dict[str, np.ndarray]


def strongest(effect: np.ndarray) -> np.ndarray:
    """What the strongest copier adds to each number, at least 0: (…, H, N) → (…, 1, N)."""
    return np.maximum(effect.max(-2, keepdims=True), 0)


def copies(tables: Tables, config: HeadsConfig) -> np.ndarray:
    """Where a head copies.

    Its copy effect reaches the floor, and a share of the strongest head's. (…, H, N) bool.
    """
    effect = tables["copy_effect"]
    return effect >= np.maximum(config.copy_share * strongest(effect), config.copy_floor)


def lowers(tables: Tables, config: HeadsConfig) -> np.ndarray:
    """Where a head lowers the number it looks at, and another head copies it.

    It must undo a share of what that head adds, and reach the floor. (…, H, N) bool.
    """
    effect = tables["copy_effect"]
    top = strongest(effect)
    enough = np.maximum(config.suppress_share * top, config.copy_floor)
    return (top >= config.copy_floor) & (effect <= -enough)


def earned(tables: Tables, config: HeadsConfig) -> np.ndarray:
    """Whether a head's suppression serves the network: (…, H) bool.

    The loss over all answers rises without it, by `suppress_se` standard errors or more.
    """
    return tables["suppression_z"] >= config.suppress_se


def suppresses(tables: Tables, config: HeadsConfig) -> np.ndarray:
    """Where a head lowers a number that another head copies, and its suppression is earned."""
    return lowers(tables, config) & earned(tables, config)[..., None]


def ratio(tables: Tables, config: HeadsConfig) -> np.ndarray:
    """A head's copy effect over the copier's, NaN where no other head copies: (…, H, N)."""
    effect = tables["copy_effect"]
    top = strongest(effect)
    other = (top >= config.copy_floor) & (effect < top)
    return np.where(other, effect / np.maximum(top, config.copy_floor), np.nan)


def needed(tables: Tables, config: HeadsConfig) -> np.ndarray:
    """Where mean ablation of a head raises the loss by at least `need` nats."""
    return tables["loss_increase"] >= config.need


def shares(tables: Tables, config: HeadsConfig) -> np.ndarray:
    """Each head's share of the need for a number (…, H, N).

    Shares sum to 1 over heads; they are equal where no head is needed.

    s_h = (n_h + ν/H) / (Σ n + ν), n_h the loss increase in nats cut off at 0, ν = `need` / 10.
    """
    need = np.maximum(tables["loss_increase"], 0)
    prior = config.need / 10
    return (need + prior / need.shape[-2]) / (need.sum(-2, keepdims=True) + prior)


def owner(tables: Tables, config: HeadsConfig) -> np.ndarray:
    """The head that each number needs most, −1 where none is needed: (…, N)."""
    increase = tables["loss_increase"]
    return np.where(needed(tables, config).any(-2), increase.argmax(-2), -1)


def ranges(mask: np.ndarray) -> list[list[int]]:
    """Runs of true in a mask (N,), as inclusive [lo, hi]."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(int)))
    return [[int(lo), int(hi) - 1] for lo, hi in edges.reshape(-1, 2)]


def regions(owners: np.ndarray) -> int:
    """Number of runs of one owner (N,); numbers that no head owns neither count nor interrupt."""
    held = owners[owners >= 0]
    return int(len(held) > 0) + int(np.count_nonzero(np.diff(held)))
