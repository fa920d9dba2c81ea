"""Claims about other networks and other data: no layer norm, more heads, gaps, label noise."""

from collections.abc import Iterator

import pandas as pd

from devsort.sorting.claims.groups import modes, of, specialised
from devsort.sorting.claims.verdicts import (
    FEWEST,
    SIGNIFICANT,
    Claim,
    majority,
    rank_correlation,
)
from devsort.sorting.config import TaskConfig
from devsort.sorting.task import mean_gap


def variations(runs: pd.DataFrame) -> Iterator[Claim]:
    """(d) without layer norm, and without both."""
    for i, (name, told) in enumerate(
        {"no-norm": "layer norm", "neither": "layer norm and decay"}.items(), 1
    ):
        yield specialised(f"d{i}", f"Heads specialise without {told}", of(runs, name))


def heads(runs: pd.DataFrame) -> Iterator[Claim]:
    """(e) one, two, three, four heads."""
    group = of(runs, "heads")
    single = group[group["model.heads"] == 1] if len(group) else group
    none = single.labels == ""
    yield majority(
        "e1",
        "A single head shows none of the modes",
        "share of seeds without a label",
        none,
        modes(single),
    )
    yield specialised("e2", "2 heads specialise", of(runs, "decay"))
    for n in (3, 4):
        yield specialised(
            f"e{n}",
            f"{n} heads specialise",
            group[group["model.heads"] == n] if len(group) else group,
        )


def gap(runs: pd.DataFrame) -> Iterator[Claim]:
    """(f) the mean gap decides which mode emerges."""
    claim, measured = (
        "The mean gap δ̄ decides which mode emerges",
        "rank correlation of δ̄ and split − suppression score",
    )
    rule = f"with {FEWEST} runs or more, holds: p < {SIGNIFICANT}, no commonest label is shared; fails: all are the same"
    group = pd.concat([of(runs, "gap"), of(runs, "decay")])
    if group.empty or of(runs, "gap").empty:
        yield Claim("f", claim, measured, rule, 0)
        return
    delta = group["task.mean_gap"].astype(float).fillna(mean_gap(TaskConfig()))
    rho, ci, p = rank_correlation(
        delta.to_numpy(), (group.split_score - group.suppression_score).to_numpy()
    )
    common = {
        d: set(labels.replace("", "none").mode()) for d, labels in group.labels.groupby(delta)
    }
    shared = set.intersection(*common.values())
    same = bool(shared) and all(len(labels) == 1 for labels in common.values())
    verdict = "fails" if same else "holds" if p < SIGNIFICANT and not shared else "undecided"
    verdict = verdict if len(group) >= FEWEST else "undecided"
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
