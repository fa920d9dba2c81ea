"""Names stages by rules on the measured quantities, with the evidence and a probability.

All names but second rise are those of arXiv 2501.18666. A stage has a name if all its rules hold:

- initial learning: consecutive stages in which the LLC rises and the loss falls, in total by at
  least half of its whole range. The LLC may be flat between them if the loss continues to fall
  there, at more than a fifth of its rate;
- head overlapping, after initial learning: the loss is flat, or falls at most a fifth as fast as in
  initial learning, the LLC does not fall, and the mean overlap score reaches `heads.overlap`;
- second rise, after initial learning: the LLC rises, the loss is flat, heads do not overlap;
- head specialization, after initial learning: the LLC falls, the loss does not rise, and the split
  or suppression score increases by at least 0.1.

The loss counts as flat if it changes by less than `FLAT_SHARE` of its whole range, in nats: the
paper calls a stage flat in which the loss goes from 0.1 to 0.04 after a fall from 4. Stages end
where the LLC turns, slightly before the loss has stopped falling, hence the fifth. The LLC rises or
falls if the 95 % interval of its rate excludes zero; in a resample, if it changes by more than
`FLAT_SHARE` of its range. The probability of a name is the fraction of resamples that give it.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from devsort.stages.segments import Direction, Segment

FLAT_SHARE = 0.05  # fraction of its range below which a change counts as flat
LEARNING_SHARE = 0.5  # fraction of its range by which the loss falls in initial learning
SLOW = 0.2  # fraction of the rate of the loss in initial learning up to which it counts as slow
ROLE_GAIN = 0.1  # increase of a score that counts as a head taking over a role
UNNAMED = "unnamed"
LEARNING = "initial learning"
SPECIALIZED = ("vocabulary_splitting", "copy_suppression")
DIRECTIONS: dict[int, Direction] = {1: "rising", 0: "flat", -1: "falling"}
WAYS = {direction: way for way, direction in DIRECTIONS.items()}
POINTS = 50  # number of points at which a score is averaged over a stage


@dataclass(frozen=True)
class Scores:
    """Head-mode scores over training.

    Attributes:
        x: (m,) log10(step).
        values: Name of each score → (m,) in [0, 1].
        overlapping: Overlap score at which heads count as overlapping.
    """

    x: np.ndarray
    values: dict[str, np.ndarray]
    overlapping: float


@dataclass(frozen=True)
class Facts:
    """The facts about one stage that the rules use; None if a fact was not measured.

    Attributes:
        llc: 1, 0 or −1 if the LLC rises, is flat or falls.
        loss: Change of the loss, as a fraction of its range.
        learning: The same, in total over adjacent stages in which the LLC rises and the loss falls.
        climbing: Whether the LLC rises, or is flat while the loss continues to fall.
        learned: Whether the stage comes after initial learning.
        slowed: Rate of the loss, as a fraction of the rate in initial learning.
        overlap: Mean overlap score.
        overlapping: The overlap score that it must reach.
        gain: Increase of the split or suppression score, whichever is larger.
    """

    llc: int
    loss: float | None
    learning: float | None
    climbing: bool = False
    learned: bool = False
    slowed: float | None = None
    overlap: float | None = None
    overlapping: float = np.inf
    gain: float | None = None


@dataclass(frozen=True)
class Rule:
    """One condition of a name: its text, the fact that it uses, and when it holds."""

    says: str
    fact: str
    holds: Callable[[Facts], bool]


def _flat(f: Facts) -> bool:
    return f.loss is not None and abs(f.loss) < FLAT_SHARE


def _slow(f: Facts) -> bool:
    return _flat(f) or (f.slowed is not None and 0 <= f.slowed <= SLOW)


def _overlap(f: Facts) -> bool:
    return f.overlap is not None and f.overlap >= f.overlapping


def _apart(f: Facts) -> bool:
    return f.overlap is not None and f.overlap < f.overlapping


AFTER = Rule("it comes after initial learning", "learned", lambda f: f.learned)
RULES = {
    LEARNING: (
        Rule("the LLC rises, or is flat between rises", "climbing", lambda f: f.climbing),
        Rule("the loss falls", "loss", lambda f: f.loss is not None and f.loss <= -FLAT_SHARE),
        Rule(
            "with adjacent learning stages, the loss falls by half of its range",
            "learning",
            lambda f: f.learning is not None and f.learning <= -LEARNING_SHARE,
        ),
    ),
    "head overlapping": (
        AFTER,
        Rule("the loss is flat, or a fifth as fast as in initial learning", "slowed", _slow),
        Rule("the LLC does not fall", "llc", lambda f: f.llc >= 0),
        Rule("heads overlap", "overlap", _overlap),
    ),
    "second rise": (
        AFTER,
        Rule("the LLC rises", "llc", lambda f: f.llc > 0),
        Rule("the loss is flat", "loss", _flat),
        Rule("heads do not overlap", "overlap", _apart),
    ),
    "head specialization": (
        AFTER,
        Rule("the LLC falls", "llc", lambda f: f.llc < 0),
        Rule(
            "the loss does not rise", "loss", lambda f: f.loss is not None and f.loss < FLAT_SHARE
        ),
        Rule(
            "the split or suppression score increases by 0.1",
            "gain",
            lambda f: f.gain is not None and f.gain >= ROLE_GAIN,
        ),
    ),
}


@dataclass(frozen=True)
class Signals:
    """Measured quantities other than the LLC.

    Attributes:
        x: (n,) log10(step).
        loss: (n,) loss in nats, or None.
        scores: Scores of the heads, or None.
    """

    x: np.ndarray
    loss: np.ndarray | None = None
    scores: Scores | None = None


def named(segments: Sequence[Segment], signals: Signals) -> list[dict[str, Any]]:
    """Names each segment, with evidence and probabilities.

    Returns:
        Dicts with name; probability, the fraction of resamples that give this name; names, the same
        for every name that a resample gives; evidence, the rules of the name, or of the closest
        name if the segment has none, each with of (the name), rule, value and holds.
    """
    edges = np.array([*(s.low for s in segments), segments[-1].high])
    stages = facts(np.array([WAYS[s.direction] for s in segments]), edges, signals)
    resamples = _resampled_names(segments, signals)
    return [_described(f, Counter(names[i] for names in resamples)) for i, f in enumerate(stages)]


def title(stage: Mapping[str, Any]) -> str:
    """Returns the title of a stage in text and charts: its name, or the direction of its LLC."""
    return stage["name"] if stage["name"] != UNNAMED else f"LLC {stage['llc']}"


def loss_directions(edges: np.ndarray, signals: Signals) -> list[Direction | None]:
    """Returns the direction of the loss between edges (m + 1,); None without a loss."""
    return [
        None if s is None else DIRECTIONS[int(np.sign(s)) * (abs(s) >= FLAT_SHARE)]
        for s in loss_shares(edges, signals)
    ]


def loss_shares(edges: np.ndarray, signals: Signals) -> list[float | None]:
    """Returns the change of the loss between edges (m + 1,), as a fraction of its range."""
    loss = signals.loss
    if loss is None or np.isfinite(loss).sum() < 2:
        return [None] * (len(edges) - 1)
    finite = np.isfinite(loss)
    span = float(np.ptp(loss[finite])) or 1.0
    return (np.diff(np.interp(edges, signals.x[finite], loss[finite])) / span).tolist()


def facts(llc: np.ndarray, edges: np.ndarray, signals: Signals) -> list[Facts]:
    """Returns the facts about each stage.

    Args:
        llc: (m,) 1, 0 or −1.
        edges: (m + 1,) edges of the stages, in decades.
        signals: Loss and scores.
    """
    shares = loss_shares(edges, signals)
    climbing = _climbing(llc, edges, shares)
    together = _in_a_row(climbing, shares)
    learning = [i for i, share in enumerate(together) if (share or 0.0) <= -LEARNING_SHARE]
    start = min(learning, default=len(llc))
    slowed = _slowed(edges, shares, learning)
    overlap, gain = _head_facts(edges, signals.scores)
    level = np.inf if signals.scores is None else signals.scores.overlapping
    return [
        Facts(int(w), shares[i], together[i], up, i > start, slowed[i], overlap[i], level, gain[i])
        for i, (w, up) in enumerate(zip(llc, climbing, strict=True))
    ]


def _climbing(llc: np.ndarray, edges: np.ndarray, shares: Sequence[float | None]) -> list[bool]:
    """Whether the LLC rises, or is flat between two rises while the loss continues to fall, faster
    than SLOW times its rate in the rises."""
    rising = [i for i, w in enumerate(llc) if w > 0 and (shares[i] or 0.0) <= -FLAT_SHARE]
    slowed = _slowed(edges, shares, rising)
    before, after = np.append(0, llc[:-1]), np.append(llc[1:], 0)
    pauses = (llc == 0) & (before > 0) & (after > 0)
    return [
        bool(w > 0 or (pause and rate is not None and rate > SLOW))
        for w, pause, rate in zip(llc, pauses, slowed, strict=True)
    ]


def _slowed(
    edges: np.ndarray, shares: Sequence[float | None], learning: Sequence[int]
) -> list[float | None]:
    """Returns the rate of the loss in each stage, relative to that in initial learning."""
    if not learning:
        return [None] * len(shares)
    width = np.diff(edges)
    rate = sum(shares[i] or 0.0 for i in learning) / sum(width[i] for i in learning)
    return [float(s / w / rate) for s, w in zip(shares, width, strict=True)]


def name_of(f: Facts) -> str:
    """Returns the first name for which all rules hold."""
    return next((n for n, rules in RULES.items() if all(r.holds(f) for r in rules)), UNNAMED)


def _described(f: Facts, counts: Counter) -> dict[str, Any]:
    name, total = name_of(f), max(counts.total(), 1)
    share = {n: sum(r.holds(f) for r in rules) / len(rules) for n, rules in RULES.items()}
    right_way = {n: all(r.holds(f) for r in rules if r.fact == "llc") for n, rules in RULES.items()}
    nearest = max(RULES, key=lambda n: (n == name, counts[n], share[n], right_way[n]))
    evidence = [
        {"of": nearest, "rule": r.says, "value": getattr(f, r.fact), "holds": bool(r.holds(f))}
        for r in RULES[nearest]
    ]
    shares = {n: count / total for n, count in counts.most_common()}
    probability = counts[name] / total
    return {"name": name, "probability": probability, "names": shares, "evidence": evidence}


def _resampled_names(segments: Sequence[Segment], signals: Signals) -> list[list[str]]:
    """Returns the names of the segments in each resample."""
    change = np.stack([s.change_draws for s in segments], 1)  # (B, m)
    starts = np.stack([s.edge_draws[:, 0] for s in segments], 1)
    edges = np.concatenate([starts, segments[-1].edge_draws[:, 1:]], 1)
    ends = [value for s in segments for value in (s.start[0], s.end[0])]
    flat = FLAT_SHARE * float(np.ptp(ends))
    ways = np.sign(change) * (np.abs(change) > flat)
    pairs = zip(ways, edges, strict=True)
    return [[name_of(f) for f in facts(way, edge, signals)] for way, edge in pairs]


def _in_a_row(climbing: Sequence[bool], shares: Sequence[float | None]) -> list[float | None]:
    """Returns the change of the loss over adjacent stages with climbing LLC and falling loss."""
    learns = [
        up and s is not None and s <= -FLAT_SHARE for up, s in zip(climbing, shares, strict=True)
    ]
    out = list(shares)
    for learning, run in groupby(range(len(learns)), key=learns.__getitem__):
        if learning:
            together = list(run)
            for i in together:
                out[i] = sum(shares[j] or 0.0 for j in together)
    return [share if learned else None for share, learned in zip(out, learns, strict=True)]


def _head_facts(
    edges: np.ndarray, scores: Scores | None
) -> tuple[Sequence[float | None], Sequence[float | None]]:
    """Returns each stage's mean overlap score, and its gain of split or suppression score."""
    if scores is None:
        return [None] * (len(edges) - 1), [None] * (len(edges) - 1)
    at = np.linspace(edges[:-1], edges[1:], POINTS)  # (POINTS, m)
    overlap = np.interp(at, scores.x, scores.values["overlap"]).mean(0)
    gains = [np.diff(np.interp(edges, scores.x, scores.values[n])) for n in SPECIALIZED]
    return overlap.tolist(), np.max(gains, 0).tolist()
