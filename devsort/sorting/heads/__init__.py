"""What the heads do: measures, ranges, scores, labels and events.

Definitions are in docs/head-modes.md.

`measures` looks at each answer of each list, `tables` averages by number with bootstrap draws,
`modes` gives scores and labels, `events` finds their changes over training, and `step` writes all
of it to the run folder.
"""

from devsort.sorting.heads.analysis import Analysis, analyse, dataset, describe
from devsort.sorting.heads.events import events
from devsort.sorting.heads.measures import HEAD_MEASURES, Answers, measure
from devsort.sorting.heads.modes import LABELS, SCORES
from devsort.sorting.heads.step import analyse_weights, run_heads

__all__ = [
    "HEAD_MEASURES",
    "LABELS",
    "SCORES",
    "Analysis",
    "Answers",
    "analyse",
    "analyse_weights",
    "dataset",
    "describe",
    "events",
    "measure",
    "run_heads",
]
