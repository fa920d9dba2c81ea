"""The numbers that a head copies, suppresses and is needed for, as masks and ranges.

Equations and reasons are in docs/head-modes.md.

Everything here is a pure function of tables (…, H, N); leading axes are bootstrap draws or
checkpoints.
"""

import numpy as np

from devsort.sorting.config import HeadsConfig

Tables = dict[str, np.ndarray]


def strongest(effect: np.ndarray) -> np.ndarray:
    """What the strongest copier adds to each number, at least 0: (…, H, N) → (…, 1, N)."""
    return np.maximum(effect.max(-2, keepdims=True), 0)


def copies(tables: Tables, config: HeadsConfig) -> np.ndarray:
    """Where a head copies: (…, H, N) bool.

    Its copy effect is at least the floor, and at least a share of the strongest head's.
    """
    effect = tables["copy_effect"]
    return effect >= np.maximum(config.copy_share * strongest(effect), config.copy_floor)


def lowers(tables: Tables, config: HeadsConfig) -> np.ndarray:
    """Where a head lowers the number it attends to while another head copies it: (…, H, N) bool.

    It must take away at least a share of what that head adds, and at least the floor.
    """
    effect = tables["copy_effect"]
    top = strongest(effect)
    enough = np.maximum(config.suppress_share * top, config.copy_floor)
    return (top >= config.copy_floor) & (effect <= -enough)


def earned(tables: Tables, config: HeadsConfig) -> np.ndarray:
    """Whether a head's suppression helps the network: (…, H) bool.

    Without it, the loss over all answers rises by `suppress_se` standard errors or more.
    """
    return tables["suppression_z"] >= config.suppress_se


def suppresses(tables: Tables, config: HeadsConfig) -> np.ndarray:
    """Where a head lowers a number that another head copies, if its suppression helps."""
    return lowers(tables, config) & earned(tables, config)[..., None]


def ratio(tables: Tables, config: HeadsConfig) -> np.ndarray:
    """A head's copy effect divided by the copier's: (…, H, N), NaN where no other head copies."""
    effect = tables["copy_effect"]
    top = strongest(effect)
    other = (top >= config.copy_floor) & (effect < top)
    return np.where(other, effect / np.maximum(top, config.copy_floor), np.nan)


def needed(tables: Tables, config: HeadsConfig) -> np.ndarray:
    """Where mean ablation of a head raises the loss by at least `need` nats."""
    return tables["loss_increase"] >= config.need


def shares(tables: Tables, config: HeadsConfig) -> np.ndarray:
    """Each head's share of the need for a number: (…, H, N).

    s_h = (n_h + ν/H) / (Σ n + ν), with n_h the loss increase in nats, cut off at 0, and
    ν = `need` / 10. Shares sum to 1 over heads; they are equal where no head is needed.
    """
    need = np.maximum(tables["loss_increase"], 0)
    prior = config.need / 10
    return (need + prior / need.shape[-2]) / (need.sum(-2, keepdims=True) + prior)


def owner(tables: Tables, config: HeadsConfig) -> np.ndarray:
    """The head that each number needs most: (…, N), −1 where none is needed."""
    increase = tables["loss_increase"]
    return np.where(needed(tables, config).any(-2), increase.argmax(-2), -1)


def ranges(mask: np.ndarray) -> list[list[int]]:
    """Runs of true in a mask (N,), as inclusive [lo, hi]."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(int)))
    return [[int(lo), int(hi) - 1] for lo, hi in edges.reshape(-1, 2)]


def regions(owners: np.ndarray) -> int:
    """Number of runs of one owner in (N,); numbers without an owner neither count nor interrupt."""
    heads = owners[owners >= 0]
    return int(len(heads) > 0) + int(np.count_nonzero(np.diff(heads)))
