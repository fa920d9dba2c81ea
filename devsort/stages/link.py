"""Relates events to stages.

It finds the stage of each event and the nearest boundary, and tests whether events are closer to
boundaries than by chance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from devsort.rng import stream

PERMUTATIONS = 10_000


@dataclass(frozen=True)
class Timeline:
    """Events and boundaries of one run, in decades.

    Attributes:
        events: (m,) log10(step).
        boundaries: (k,) log10(step).
        low: Start of the window.
        high: End of the window.
    """

    events: np.ndarray
    boundaries: np.ndarray
    low: float
    high: float


def linked(
    events: Sequence[dict[str, Any]], boundaries: np.ndarray, names: Sequence[str]
) -> list[dict[str, Any]]:
    """Adds to each event its stage and its distance to the nearest boundary, in log10 steps.

    Args:
        events: Dicts with event, step, ci95.
        boundaries: (k,) log10(step), in order.
        names: (k + 1,) names of the stages.

    Returns:
        Dicts with event, step, ci95, stage (a name), stage_index (from 0), and
        boundary_distance_log10 (None if there is no boundary).
    """
    out = []
    for event in events:
        x = float(np.log10(event["step"]))
        stage = int(np.searchsorted(boundaries, x, side="right"))
        nearest = float(np.abs(boundaries - x).min()) if len(boundaries) else None
        out.append(
            {
                **event,
                "stage": names[stage],
                "stage_index": stage,
                "boundary_distance_log10": nearest,
            }
        )
    return out


def permutation_test(
    runs: Sequence[Timeline], seed: int = 0, permutations: int = PERMUTATIONS
) -> dict[str, float | int]:
    """Tests whether events are closer to boundaries than by chance, over several runs.

    The statistic is the mean distance of an event to the nearest boundary of its run. Under the
    null hypothesis, the events of a run keep their spacing and are shifted together by a uniform
    amount, cyclically within the window: p = (1 + #{shifted ≤ observed}) / (1 + permutations).

    Args:
        runs: The runs. Runs without an event or without a boundary are left out.
        seed: Seed of the shifts.
        permutations: Number of shifts.

    Returns:
        runs, events, mean_distance_log10, expected_log10 (mean under chance), p.
    """
    runs = [r for r in runs if len(r.events) and len(r.boundaries)]
    count = sum(len(r.events) for r in runs)
    if not count:
        return {"runs": 0, "events": 0}
    observed = sum(distances(r.events, r.boundaries).sum() for r in runs) / count
    rng = stream(seed, "event permutation")
    chance = np.zeros(permutations)
    for run in runs:
        width = run.high - run.low
        shifted = (
            run.low + (run.events - run.low + rng.uniform(0, width, (permutations, 1))) % width
        )
        chance += distances(shifted, run.boundaries).sum(-1) / count
    p = (1 + int((chance <= observed + 1e-12).sum())) / (1 + permutations)
    return {
        "runs": len(runs), "events": count, "mean_distance_log10": float(observed),
        "expected_log10": float(chance.mean()), "p": p,
    }  # fmt: skip


def distances(events: np.ndarray, boundaries: np.ndarray) -> np.ndarray:
    """Returns the distance of each event (…, m) to the nearest boundary (k,)."""
    return np.abs(events[..., None] - boundaries).min(-1)
