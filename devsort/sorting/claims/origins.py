"""New claims: whether suppression needs decay, and whether initialisation decides the mode."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from devsort.sorting.claims.groups import SUPPRESSION, modes, of
from devsort.sorting.claims.verdicts import Claim, majority, positive

# the cell whose data group `weights` shares, and whose initial weights group `data` shares
FIRST = "decay-seed0"


def decay_and_suppression(runs: pd.DataFrame) -> Iterator[Claim]:
    """(j) copy-suppression with decay, without it, and in the challenge's regime."""
    names = {"decay": "with decay", "no-decay": "without decay", "challenge": "in the challenge"}
    for number, (name, where) in enumerate(names.items(), 1):
        group = of(runs, name)
        hits = group.labels.map(lambda labels: SUPPRESSION in labels.split(";"))
        measured = "share of seeds labelled copy-suppression"
        yield majority(
            f"j{number}", f"Copy-suppression appears {where}", measured, hits, modes(group)
        )


def initialisation(runs: pd.DataFrame) -> Iterator[Claim]:
    """(k) networks with the same initial weights divide the numbers alike, whatever their data.

    The agreement of two networks is Cohen's kappa of the owners of their numbers. Networks with the
    same initial weights have the same heads; for others the better of the two orders of heads is
    taken. What this choice gives by chance is seen from networks that share neither.
    """
    claim = "Initialisation, not data, decides which head owns which number"
    measured = "agreement of owners: same weights and other data, minus the reverse"
    first = runs[runs.cell == FIRST]
    same, other = of(runs, "data"), of(runs, "weights")
    if first.empty or same.empty or other.empty or "owners" not in runs:
        yield positive("k", claim, measured, [])
        return
    truth = _owners(first.owners.iloc[0])
    by_data = [agreement(truth, _owners(one)) for one in same.owners]
    by_weights = [_in_better_order(truth, _owners(one)) for one in other.owners]
    group = of(runs, "decay")
    unrelated = group.owners[group.cell != FIRST]
    by_neither = [_in_better_order(truth, _owners(one)) for one in unrelated]
    detail = f"same weights {np.mean(by_data):.2f}, same data {np.mean(by_weights):.2f}"
    detail += f", neither {np.mean(by_neither):.2f}" if by_neither else ""
    yield positive("k", claim, measured, [a - np.mean(by_weights) for a in by_data], detail)


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    """Cohen's kappa of two divisions of the numbers among heads: 0 by chance, 1 if they are equal.

    An owner of −1 means that no head is needed. If both divisions give all numbers to the same
    head, the agreement is 0.
    """
    heads = np.union1d(a, b)
    chance = sum(np.mean(a == h) * np.mean(b == h) for h in heads)
    return float((np.mean(a == b) - chance) / (1 - chance)) if chance < 1 else 0.0


def _in_better_order(a: np.ndarray, b: np.ndarray) -> float:
    return max(agreement(a, b), agreement(a, _swapped(b)))


def _owners(text: str) -> np.ndarray:
    return np.array([int(head) for head in text.split(";")])


def _swapped(owners: np.ndarray) -> np.ndarray:
    """The owners if the two heads change places; −1, no owner, stays."""
    return np.where(owners < 0, owners, 1 - owners)
