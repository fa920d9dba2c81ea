"""Names of stages: each needs all of its evidence."""

import numpy as np
import pytest

from devsort.stages import naming
from devsort.stages.segments import Segment

X = np.linspace(0, 4, 41)


def segment(low, high, direction):
    return Segment(low, high, 0.0, (0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), direction)


STAGES = [
    segment(0, 1, "flat"),
    segment(1, 2, "rising"),
    segment(2, 3, "rising"),
    segment(3, 4, "falling"),
]
LOSS = np.interp(X, [0, 1, 2, 4], [4.0, 4.0, 0.1, 0.04])
OVERLAPPING = 0.2
SCORES = {
    "overlap": np.interp(X, [1, 2, 3, 4], [0, 0.9, 0.8, 0.1]),
    "vocabulary_splitting": np.interp(X, [3, 4], [0, 0.9]),
    "copy_suppression": 0 * X,
}


def scored(**changes):
    return naming.Scores(X, {**SCORES, **changes}, OVERLAPPING)


ALL = scored()


def named(stages=STAGES, loss=LOSS, scores=ALL):
    return naming.names(stages, naming.loss_shares(stages, X, loss), scores)


def test_the_three_stages_of_the_paper():
    assert named() == ["unnamed", "initial learning", "head overlapping", "head specialization"]
    assert naming.loss_directions(STAGES, X, LOSS) == ["flat", "falling", "flat", "flat"]


def test_each_name_needs_all_of_its_evidence():
    assert named(scores=None) == ["unnamed", "initial learning", "unnamed", "unnamed"]
    assert named(loss=None) == ["unnamed"] * 4
    for level, name in ((0.21, "head overlapping"), (0.19, "unnamed")):
        assert named(scores=scored(overlap=0 * X + level))[2] == name
    assert named(scores=scored(vocabulary_splitting=0 * X))[3] == "unnamed"
    still = [*STAGES[:1], segment(1, 2, "flat"), *STAGES[2:]]
    assert named(stages=still)[1] == "unnamed"


@pytest.mark.parametrize(
    ("end", "direction"), [(4.3, "rising"), (4.1, "flat"), (3.9, "flat"), (3.7, "falling")]
)
def test_the_loss_is_flat_within_five_per_cent_of_its_range(end, direction):
    loss = np.array([4.0, end, 0.0])
    assert naming.loss_directions([segment(0, 1, "flat")], np.array([0.0, 1.0, 2.0]), loss) == [
        direction
    ]


def test_initial_learning_may_come_in_several_stages_that_make_the_fall_together():
    parts = [STAGES[0], segment(1, 1.5, "rising"), segment(1.5, 2, "rising"), *STAGES[2:]]
    third = np.interp(X, [0, 1, 1.5, 2, 4], [4.0, 4.0, 2.3, 0.1, 0.04])
    assert named(stages=parts, loss=third)[1:3] == ["initial learning"] * 2
    little = np.interp(X, [0, 1, 1.5, 2, 3, 4], [4.0, 4.0, 3.5, 2.5, 2.5, 0.0])
    assert named(stages=parts, loss=little)[1:3] == ["unnamed"] * 2
