"""Claims about other networks and other data: no layer norm, more heads, gaps, label noise."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from devsort.sorting.claims.groups import modes, of, specialised
from devsort.sorting.claims.verdicts import (
    FEWEST,
    SIGNIFICANT,
    Claim,
    for_association,
    majority,
    rank_correlation,
)
from devsort.sorting.config import TaskConfig
from devsort.sorting.task import mean_gap


def variations(runs: pd.DataFrame) -> Iterator[Claim]:
    """(d) without layer norm, and without layer norm and decay."""
    without = {"no-norm": "layer norm", "neither": "layer norm and decay"}
    for i, (name, what) in enumerate(without.items(), 1):
        yield specialised(f"d{i}", f"Heads specialise without {what}", of(runs, name))


def heads(runs: pd.DataFrame) -> Iterator[Claim]:
    """(e) one, two, three, four heads."""
    group = of(runs, "heads")

    def with_heads(count: int) -> pd.DataFrame:
        return group[group["model.heads"] == count] if len(group) else group

    single, claim = with_heads(1), "A single head shows none of the modes"
    hits = single.labels == ""
    yield majority("e1", claim, "share of seeds without a label", hits, modes(single))
    yield specialised("e2", "2 heads specialise", of(runs, "decay"))
    for n in (3, 4):
        yield specialised(f"e{n}", f"{n} heads specialise", with_heads(n))


def gap(runs: pd.DataFrame, points: pd.DataFrame) -> Iterator[Claim]:
    """(f) the mean gap decides which mode emerges: by tilt, by length, by range, at equal loss."""
    ways = {
        "gap": "at fixed length and range",
        "length": "through the length of lists",
        "range": "through the range of numbers",
    }
    for number, (name, way) in enumerate(ways.items(), 1):
        group = pd.concat([of(runs, name), of(runs, "decay")])
        claim = f"The mean gap δ̄, {way}, decides which mode emerges"
        yield _of_gap(f"f{number}", claim, group, points, of(runs, name).empty)


def _of_gap(key: str, claim: str, group: pd.DataFrame, points: pd.DataFrame, empty: bool) -> Claim:
    measured = "rank correlation of δ̄ and split − suppression score, at equal loss"
    holds = f"holds: p < {SIGNIFICANT}, and no label is the most common at all gaps"
    rule = f"with {FEWEST} runs or more, {holds}; fails: it is the same at all gaps"
    if group.empty or empty:
        return Claim(key, claim, measured, rule, 0)
    delta = np.array([_delta(run) for run in group.to_dict("records")])
    level, score = like_loss(group, points)
    rho, ci, p = rank_correlation(delta, score)
    common = {d: _commonest(labels) for d, labels in group.labels.groupby(delta)}
    verdict = _of_gaps(common, p) if len(group) >= FEWEST else "undecided"
    needed = for_association(rho) if verdict == "undecided" and p >= SIGNIFICANT else None
    modes = ", ".join(f"δ̄ {d:.3g}: {' or '.join(sorted(labels))}" for d, labels in common.items())
    detail = f"p = {p:.2g}; at loss {level:.3g}; {modes}"
    return Claim(key, claim, measured, rule, len(group), rho, ci, verdict, detail, needed)


def like_loss(runs: pd.DataFrame, points: pd.DataFrame) -> tuple[float, np.ndarray]:
    """The lowest loss that all runs reach, and split − suppression score where each reaches it."""
    own = [points[points.cell == cell].sort_values("step") for cell in runs.cell]
    level = max(float(one.loss.min()) for one in own)
    first = [one[one.loss <= level].iloc[0] for one in own]
    return level, np.array([one.split_score - one.suppression_score for one in first])


def _delta(run: Mapping) -> float:
    """The mean gap of a run's lists."""
    settings = {
        name: run[f"task.{name}"]
        for name in ("list_length", "numbers", "mean_gap")
        if pd.notna(run.get(f"task.{name}"))
    }
    typed = {name: value if name == "mean_gap" else int(value) for name, value in settings.items()}
    return mean_gap(TaskConfig(**typed))


def noise(runs: pd.DataFrame) -> Iterator[Claim]:
    """(g) label noise."""
    group = pd.concat([of(runs, "noise"), of(runs, "more-noise")])
    if group.empty:
        yield specialised("g", "Heads specialise under label noise", group)
        return
    for i, (level, part) in enumerate(group.groupby("task.label_noise"), 1):
        yield specialised(f"g{i}", f"Heads specialise with {level:.0%} of the labels random", part)


def _commonest(labels: pd.Series) -> set[str]:
    """The most common labels; several if there are ties."""
    return set(labels.replace("", "none").mode())


def _of_gaps(common: Mapping[float, set[str]], p: float) -> str:
    """The verdict on gaps, given the most common labels at each."""
    shared = set.intersection(*common.values())
    if shared and all(len(labels) == 1 for labels in common.values()):
        return "fails"
    return "holds" if p < SIGNIFICANT and not shared else "undecided"
