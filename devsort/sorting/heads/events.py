"""Head-mode events over training.

The split sets in, suppression sets in, overlap ends, dimensions die.

An event is the first checkpoint at which a condition holds and goes on to hold at nearly all later
ones. Its interval joins the bootstrap over lists with the spacing of checkpoints: its low end is
the checkpoint before the event, since the change fell somewhere between the two.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

EVENTS = ("split_onset", "suppression_onset", "overlap_end", "rank_drop")
# share of the later checkpoints at which the condition must hold: one flicker is no end
STEADY = 0.9
# fall of the effective rank below its highest so far, as a share, that counts as a drop
DROP = 0.25


def events(dataset: "xr.Dataset") -> list[dict[str, Any]]:
    """Events of a run in the order of their steps; those that never happen are absent.

    Args:
        dataset: Of a run, see `analysis.dataset`.

    Returns:
        Each {"event", "step", "ci95": [lo, hi], "share"}: the event is `split_onset`,
        `suppression_onset`, `overlap_end` or `rank_drop`; share is that of the bootstrap draws in
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
    found = [_event(name, holds, steps) for name, holds in conditions.items()]
    return sorted((e for e in found if e), key=lambda e: e["step"])


def onset(holds: np.ndarray) -> int | None:
    """Index of the first checkpoint at which a condition (C,) holds and lasts.

    It lasts if it holds at STEADY of the rest.
    """
    # share of true from each index on
    later = np.cumsum(holds[::-1])[::-1] / np.arange(len(holds), 0, -1)
    steady = np.flatnonzero(holds & (later >= STEADY))
    return int(steady[0]) if len(steady) else None


def _both(dataset: "xr.Dataset", draws: "xr.DataArray", label: str) -> np.ndarray:
    """A label over training.

    (C, 1 + draws) bool, first as measured, then in each bootstrap draw.
    """
    measured = dataset.labels.sel(label=label).values.astype(bool)
    return np.column_stack([measured, draws.sel(label=label).values.astype(bool)])


def _event(name: str, holds: np.ndarray, steps: np.ndarray) -> dict[str, Any] | None:
    measured = onset(holds[:, 0])
    if measured is None:
        return None
    drawn = [onset(column) for column in holds.T]
    happened = np.array([i for i in drawn if i is not None])
    low = np.quantile(steps[np.maximum(happened - 1, 0)], 0.025, method="lower")
    high = np.quantile(steps[happened], 0.975, method="higher")
    return {
        "event": name,
        "step": int(steps[measured]),
        "ci95": [int(low), int(high)],
        "share": len(happened) / len(drawn),
    }
