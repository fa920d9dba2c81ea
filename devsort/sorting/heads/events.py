"""Head-mode events over training.

They are the onset of the split, the onset of suppression, the end of overlap, and a drop in rank.

An event is the first checkpoint at which a condition holds and after which it keeps holding at
nearly all checkpoints. Its interval combines the bootstrap over lists with the spacing of
checkpoints: the low end is the checkpoint before the event, because the change happened somewhere
between the two.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

EVENTS = ("split_onset", "suppression_onset", "overlap_end", "rank_drop")
# share of the later checkpoints at which the condition must hold: a few exceptions are allowed
STEADY = 0.9
# relative fall of the effective rank from its highest value so far that counts as a drop
DROP = 0.25


def events(dataset: "xr.Dataset") -> list[dict[str, Any]]:
    """Events of a run in the order of their steps; those that never happen are absent.

    Args:
        dataset: Data set of a run, see `analysis.dataset`.

    Returns:
        Each {"event", "step", "ci95": [lo, hi], "share"}: the event is `split_onset`,
        `suppression_onset`, `overlap_end` or `rank_drop`; share is the share of bootstrap draws in
        which it happens.
    """
    steps = dataset.checkpoint.values
    draws = dataset.label_draws.transpose("checkpoint", "draw", "label")
    rank = dataset.residual_rank.values
    overlap = _both(dataset, draws, "overlapping")
    conditions = {
        "split_onset": _both(dataset, draws, "vocabulary-splitting"),
        "suppression_onset": _both(dataset, draws, "copy-suppression"),
        "overlap_end": ~overlap & np.logical_or.accumulate(overlap),
        "rank_drop": (rank <= (1 - DROP) * np.maximum.accumulate(rank))[:, None],
    }
    happened = [e for name, holds in conditions.items() if (e := _event(name, holds, steps))]
    return sorted(happened, key=lambda e: e["step"])


def onset(holds: np.ndarray) -> int | None:
    """Index of the first checkpoint from which a condition (C,) holds and lasts.

    It lasts if it holds at a share STEADY of the checkpoints from there on.
    """
    # share of true from each index on
    later = np.cumsum(holds[::-1])[::-1] / np.arange(len(holds), 0, -1)
    steady = np.flatnonzero(holds & (later >= STEADY))
    return int(steady[0]) if len(steady) else None


def _both(dataset: "xr.Dataset", draws: "xr.DataArray", label: str) -> np.ndarray:
    """A label over training, as measured and in each bootstrap draw: (C, 1 + draws) bool."""
    measured = dataset.labels.sel(label=label).values.astype(bool)
    return np.column_stack([measured, draws.sel(label=label).values.astype(bool)])


def _event(name: str, holds: np.ndarray, steps: np.ndarray) -> dict[str, Any] | None:
    measured = onset(holds[:, 0])
    if measured is None:
        return None
    onsets = [onset(column) for column in holds.T]
    happened = np.array([i for i in onsets if i is not None])
    low = np.quantile(steps[np.maximum(happened - 1, 0)], 0.025, method="lower")
    high = np.quantile(steps[happened], 0.975, method="higher")
    return {
        "event": name,
        "step": int(steps[measured]),
        "ci95": [int(low), int(high)],
        "share": len(happened) / len(onsets),
    }
