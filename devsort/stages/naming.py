"""Names of stages, by rules on what was measured, each with its evidence and a probability.

Names are those of arXiv 2501.18666, and one of ours. A name is given where all of its rules hold:

- initial learning: stages in a row in which the LLC rises and the loss falls, which together make
  at least half of the loss's whole range; the LLC may pause between them if the loss falls on, at
  more than a fifth of its rate;
- head overlapping, after initial learning: the loss is flat, or falls at most a fifth as fast as in
  initial learning, the LLC does not fall, and the mean overlap score reaches `heads.overlap`;
- second rise, after initial learning: the LLC rises, the loss is flat, heads do not overlap;
- head specialization, after initial learning: the LLC falls, the loss does not rise, and the split
  or the suppression score gains at least 0.1.

The loss counts as flat if it changes by less than `FLAT_SHARE` of its whole range, in nats: the
paper calls a stage flat in which the loss goes from 0.1 to 0.04 after a fall from 4. Stages end
where the LLC turns, a little before the loss has come down, hence the fifth. The LLC rises
or falls if the 95 % interval of its rate excludes zero; in a resample, if it changes by more than
`FLAT_SHARE` of its range. The probability of a name is the share of resamples in which it is given.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from devsort.stages.segments import Direction, Segment

FLAT_SHARE = 0.05  # of a range
LEARNING_SHARE = 0.5  # of the loss's range that initial learning makes
SLOW = 0.2  # of the loss's rate in initial learning, which counts as flat for heads that overlap
ROLE_GAIN = 0.1  # gain of a score that counts as taking over a role
UNNAMED = "unnamed"
LEARNING = "initial learning"
SPECIALIZED = ("vocabulary_splitting", "copy_suppression")
DIRECTIONS: dict[int, Direction] = {1: "rising", 0: "flat", -1: "falling"}
WAYS = {direction: way for way, direction in DIRECTIONS.items()}
POINTS = 50  # at which a score is averaged over a stage


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


@dataclass(frozen=True)
class Facts:
    """What the rules ask of one stage; None where it was not measured.

    Attributes:
        llc: 1, 0 or −1: the LLC rises, is flat, falls.
        loss: Change of the loss, as a share of its range.
        learning: The same over the stages in a row in which the LLC rises and the loss falls.
        climbing: Whether the LLC rises, or pauses while the loss falls on.
        learned: Whether initial learning came before.
        slowed: Rate of the loss, as a share of that in initial learning.
        overlap: Mean overlap score.
        overlapping: What it must reach.
        gain: Gain of the split or the suppression score, the larger one.
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
    """One piece of evidence: what is asked, which fact answers, and when it holds."""

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
        Rule("the LLC rises, or pauses while it does", "climbing", lambda f: f.climbing),
        Rule("the loss falls", "loss", lambda f: f.loss is not None and f.loss <= -FLAT_SHARE),
        Rule(
            "with its neighbours of the kind it makes half of the loss's range",
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
            "the split or the suppression score gains 0.1",
            "gain",
            lambda f: f.gain is not None and f.gain >= ROLE_GAIN,
        ),
    ),
}


@dataclass(frozen=True)
class Signals:
    """What is measured beside the LLC.

    Attributes:
        x: (n,) log10(step).
        loss: (n,) nats, or None.
        scores: Of the heads, or None.
    """

    x: np.ndarray
    loss: np.ndarray | None = None
    scores: Scores | None = None


def named(segments: Sequence[Segment], signals: Signals) -> list[dict[str, Any]]:
    """The name of each segment, with evidence and probabilities.

    Returns:
        Dicts with name; probability, the share of resamples that give this name; names, that of
        every name that a resample gives; evidence, the rules of the name, or of the name that comes
        nearest where none is given: of (the name), rule, value, holds.
    """
    edges = np.array([*(s.low for s in segments), segments[-1].high])
    found = facts(np.array([WAYS[s.direction] for s in segments]), edges, signals)
    drawn = _drawn(segments, signals)
    return [_described(f, Counter(names[i] for names in drawn)) for i, f in enumerate(found)]


def title(stage: Mapping[str, Any]) -> str:
    """What a stage is called in text and charts: its name, or the direction of its LLC."""
    return stage["name"] if stage["name"] != UNNAMED else f"LLC {stage['llc']}"


def loss_directions(edges: np.ndarray, signals: Signals) -> list[Direction | None]:
    """Direction of the loss between edges (m + 1,); None without a loss."""
    return [
        None if s is None else DIRECTIONS[int(np.sign(s)) * (abs(s) >= FLAT_SHARE)]
        for s in loss_shares(edges, signals)
    ]


def loss_shares(edges: np.ndarray, signals: Signals) -> list[float | None]:
    """Change of the loss between edges (m + 1,), as a share of its range."""
    loss = signals.loss
    if loss is None or np.isfinite(loss).sum() < 2:
        return [None] * (len(edges) - 1)
    known = np.isfinite(loss)
    span = float(np.ptp(loss[known])) or 1.0
    return (np.diff(np.interp(edges, signals.x[known], loss[known])) / span).tolist()


def facts(llc: np.ndarray, edges: np.ndarray, signals: Signals) -> list[Facts]:
    """The facts of each stage.

    Args:
        llc: (m,) 1, 0 or −1.
        edges: (m + 1,) of the stages, in decades.
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
    """Whether the LLC rises, or is flat between two stages in which it does while the loss falls
    on, faster than SLOW of its rate where the LLC rises."""
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
    """Rate of the loss in each stage, as a share of its rate in the stages of initial learning."""
    if not learning:
        return [None] * len(shares)
    width = np.diff(edges)
    rate = sum(shares[i] or 0.0 for i in learning) / sum(width[i] for i in learning)
    return [float(s / w / rate) for s, w in zip(shares, width, strict=True)]


def name_of(f: Facts) -> str:
    """The first name all of whose rules hold."""
    return next((n for n, rules in RULES.items() if all(r.holds(f) for r in rules)), UNNAMED)


def _described(f: Facts, drawn: Counter) -> dict[str, Any]:
    name, total = name_of(f), max(drawn.total(), 1)
    share = {n: sum(r.holds(f) for r in rules) / len(rules) for n, rules in RULES.items()}
    right_way = {n: all(r.holds(f) for r in rules if r.fact == "llc") for n, rules in RULES.items()}
    nearest = max(RULES, key=lambda n: (n == name, drawn[n], share[n], right_way[n]))
    evidence = [
        {"of": nearest, "rule": r.says, "value": getattr(f, r.fact), "holds": bool(r.holds(f))}
        for r in RULES[nearest]
    ]
    shares = {n: count / total for n, count in drawn.most_common()}
    return {"name": name, "probability": drawn[name] / total, "names": shares, "evidence": evidence}


def _drawn(segments: Sequence[Segment], signals: Signals) -> list[list[str]]:
    """Names of the segments in each resample."""
    change = np.stack([s.change_draws for s in segments], 1)  # (B, m)
    starts = np.stack([s.edge_draws[:, 0] for s in segments], 1)
    edges = np.concatenate([starts, segments[-1].edge_draws[:, 1:]], 1)
    ends = [value for s in segments for value in (s.start[0], s.end[0])]
    flat = FLAT_SHARE * float(np.ptp(ends))
    ways = np.sign(change) * (np.abs(change) > flat)
    pairs = zip(ways, edges, strict=True)
    return [[name_of(f) for f in facts(way, edge, signals)] for way, edge in pairs]


def _in_a_row(climbing: Sequence[bool], shares: Sequence[float | None]) -> list[float | None]:
    """Change of the loss over the neighbours in a row where the LLC climbs and the loss falls."""
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
    """Mean overlap score of each stage, and gain of the split or suppression score."""
    if scores is None:
        return [None] * (len(edges) - 1), [None] * (len(edges) - 1)
    at = np.linspace(edges[:-1], edges[1:], POINTS)  # (POINTS, m)
    overlap = np.interp(at, scores.x, scores.values["overlap"]).mean(0)
    gains = [np.diff(np.interp(edges, scores.x, scores.values[n])) for n in SPECIALIZED]
    return overlap.tolist(), np.max(gains, 0).tolist()
