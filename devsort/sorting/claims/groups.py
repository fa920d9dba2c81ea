"""Groups of a study's runs, the labels of their networks, and which of them are specialised."""

import pandas as pd

from devsort.sorting.claims.verdicts import Claim, majority

SPLIT, SUPPRESSION, OVERLAP = "vocabulary-splitting", "copy-suppression", "overlapping"


def of(table: pd.DataFrame, group: str) -> pd.DataFrame:
    """The rows of one group."""
    return table[table.group == group]


def specialised(key: str, claim: str, group: pd.DataFrame) -> Claim:
    """The majority rule on specialised networks."""
    hits = [bool({SPLIT, SUPPRESSION} & set(labels.split(";"))) for labels in group.labels]
    measured = "share of seeds labelled splitting or suppression"
    return majority(key, claim, measured, hits, modes(group))


def modes(group: pd.DataFrame) -> str:
    """How many runs have each label."""
    every = [label for labels in group.labels for label in labels.split(";")]
    return ", ".join(f"{label or 'no label'} {every.count(label)}" for label in sorted(set(every)))
