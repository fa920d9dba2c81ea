"""Claims about other networks and other data: no layer norm, more heads, gaps, label noise."""

from collections.abc import Iterator, Mapping

import pandas as pd

from devsort.sorting.claims.groups import modes, of, specialised
from devsort.sorting.claims.verdicts import FEWEST, SIGNIFICANT, Claim, majority, rank_correlation
from devsort.sorting.config import TaskConfig
from devsort.sorting.task import mean_gap


def variations(runs: pd.DataFrame) -> Iterator[Claim]:
    """(d) without layer norm, and without both."""
    without = {"no-norm": "layer norm", "neither": "layer norm and decay"}
    for i, (name, told) in enumerate(without.items(), 1):
        yield specialised(f"d{i}", f"Heads specialise without {told}", of(runs, name))


def heads(runs: pd.DataFrame) -> Iterator[Claim]:
    """(e) one, two, three, four heads."""
    group = of(runs, "heads")

    def having(count: int) -> pd.DataFrame:
        return group[group["model.heads"] == count] if len(group) else group

    single, claim = having(1), "A single head shows none of the modes"
    none = single.labels == ""
    yield majority("e1", claim, "share of seeds without a label", none, modes(single))
    yield specialised("e2", "2 heads specialise", of(runs, "decay"))
    for n in (3, 4):
        yield specialised(f"e{n}", f"{n} heads specialise", having(n))


def gap(runs: pd.DataFrame) -> Iterator[Claim]:
    """(f) the mean gap decides which mode emerges."""
    claim = "The mean gap δ̄ decides which mode emerges"
    measured = "rank correlation of δ̄ and split − suppression score"
    holds = f"holds: p < {SIGNIFICANT}, no commonest label is shared"
    rule = f"with {FEWEST} runs or more, {holds}; fails: all are the same"
    group = pd.concat([of(runs, "gap"), of(runs, "decay")])
    if group.empty or of(runs, "gap").empty:
        yield Claim("f", claim, measured, rule, 0)
        return
    delta = group["task.mean_gap"].astype(float).fillna(mean_gap(TaskConfig()))
    score = group.split_score - group.suppression_score
    rho, ci, p = rank_correlation(delta.to_numpy(), score.to_numpy())
    common = {d: _commonest(labels) for d, labels in group.labels.groupby(delta)}
    verdict = _of_gaps(common, p) if len(group) >= FEWEST else "undecided"
    told = ", ".join(f"δ̄ {d:.3g}: {' or '.join(sorted(labels))}" for d, labels in common.items())
    yield Claim("f", claim, measured, rule, len(group), rho, ci, verdict, f"p = {p:.2g}; {told}")


def noise(runs: pd.DataFrame) -> Iterator[Claim]:
    """(g) label noise."""
    group = of(runs, "noise")
    if group.empty:
        yield specialised("g", "Heads specialise under label noise", group)
        return
    for i, (level, part) in enumerate(group.groupby("task.label_noise"), 1):
        yield specialised(f"g{i}", f"Heads specialise with {level:.0%} of the labels random", part)


def _commonest(labels: pd.Series) -> set[str]:
    """The labels that most runs carry; several, if there are ties."""
    return set(labels.replace("", "none").mode())


def _of_gaps(common: Mapping[float, set[str]], p: float) -> str:
    """The verdict on gaps, given the commonest labels at each."""
    shared = set.intersection(*common.values())
    if shared and all(len(labels) == 1 for labels in common.values()):
        return "fails"
    return "holds" if p < SIGNIFICANT and not shared else "undecided"
