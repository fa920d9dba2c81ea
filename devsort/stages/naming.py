"""Types and names of stages, by rules on what was measured.

Type: the direction of the LLC (its rate's interval excludes zero) and of the loss over the stage.
The loss counts as flat if it changes by less than `FLAT_SHARE` of its whole range, in nats: the
paper calls a stage flat in which the loss goes from 0.1 to 0.04 after a fall from 4.

Names are those of arXiv 2501.18666, given only where all of the evidence is there, the last two
only after the first:

- initial learning: stages in a row in which the LLC rises and the loss falls, which together make
  at least half of the loss's whole fall;
- head overlapping: the loss is flat, the LLC does not fall, and the mean overlap score reaches
  `heads.overlap`;
- head specialization: the LLC falls, the loss does not rise, and the split or the suppression score
  gains at least 0.1.
"""

from dataclasses import dataclass
from itertools import groupby

import numpy as np

from devsort.stages.segments import Direction, Segment

FLAT_SHARE = 0.05  # of the loss's range
LEARNING_SHARE = 0.5  # of the loss's range that initial learning makes
ROLE_GAIN = 0.1  # gain of a score that counts as taking over a role
UNNAMED = "unnamed"
LEARNING = "initial learning"
SPECIALIZED = ("vocabulary_splitting", "copy_suppression")


@dataclass(frozen=True)
class Scores:
    """Head-mode scores over training.

    Attributes:
        x: (m,) log10(step).
        values: Name of each score → (m,) in [0, 1].
        overlapping: Overlap score from which heads are called overlapping.
    """

    x: np.ndarray
    values: dict[str, np.ndarray]
    overlapping: float


def loss_directions(
    segments: list[Segment], x: np.ndarray, loss: np.ndarray | None
) -> list[Direction | None]:
    """Direction of the loss over each segment; None without a loss.

    Args:
        segments: Stretches in decades.
        x: (n,) log10(step).
        loss: (n,) nats.
    """
    shares = loss_shares(segments, x, loss)
    return [
        None if s is None else "flat" if abs(s) < FLAT_SHARE else "rising" if s > 0 else "falling"
        for s in shares
    ]


def loss_shares(
    segments: list[Segment], x: np.ndarray, loss: np.ndarray | None
) -> list[float | None]:
    """Change of the loss over each segment as a share of its range."""
    if loss is None or np.isfinite(loss).sum() < 2:
        return [None] * len(segments)
    known = np.isfinite(loss)
    x, loss = x[known], loss[known]
    span = float(np.ptp(loss)) or 1.0
    return [float(np.interp(s.high, x, loss) - np.interp(s.low, x, loss)) / span for s in segments]


def names(segments: list[Segment], shares: list[float | None], scores: Scores | None) -> list[str]:
    """The paper's name of each segment, or `UNNAMED`."""
    learning = _learning(segments, shares)
    return [
        LEARNING
        if i in learning
        else _name(segment, share, scores, bool(learning) and i > min(learning))
        for i, (segment, share) in enumerate(zip(segments, shares, strict=True))
    ]


def _learning(segments: list[Segment], shares: list[float | None]) -> set[int]:
    """Positions of the segments that are initial learning."""
    falls = [
        s is not None and s <= -FLAT_SHARE and g.direction == "rising"
        for g, s in zip(segments, shares, strict=True)
    ]
    for falling, run in groupby(range(len(segments)), key=falls.__getitem__):
        found = list(run)
        if falling and sum(shares[i] for i in found) <= -LEARNING_SHARE:
            return set(found)
    return set()


def _name(segment: Segment, share: float | None, scores: Scores | None, learned: bool) -> str:
    if share is None or scores is None or not learned:
        return UNNAMED
    if (
        abs(share) < FLAT_SHARE
        and segment.direction != "falling"
        and _mean(scores, "overlap", segment) >= scores.overlapping
    ):
        return "head overlapping"
    gains = [_gain(scores, name, segment) for name in SPECIALIZED]
    if segment.direction == "falling" and share < FLAT_SHARE and max(gains) >= ROLE_GAIN:
        return "head specialization"
    return UNNAMED


def _mean(scores: Scores, name: str, segment: Segment) -> float:
    """Mean of a score over log step within a segment."""
    at = np.linspace(segment.low, segment.high, 50)
    return float(np.interp(at, scores.x, scores.values[name]).mean())


def _gain(scores: Scores, name: str, segment: Segment) -> float:
    low, high = np.interp([segment.low, segment.high], scores.x, scores.values[name])
    return float(high - low)
