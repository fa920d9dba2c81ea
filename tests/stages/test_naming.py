"""Names of stages: each needs all of its evidence."""

import numpy as np
import pytest

from devsort.stages import naming
from devsort.stages.segments import Segment

X = np.linspace(0, 4, 41)


def segment(low, high, direction, change=None, edges=None):
    """A segment; its change and its edges in resamples, where a test needs them."""
    draws = {} if change is None else {"change_draws": np.asarray(change, float)}
    if change is not None:
        ends = np.tile([low, high], (len(change), 1)) if edges is None else np.asarray(edges)
        draws["edge_draws"] = ends.astype(float)
    level = (100.0, 100.0, 100.0)
    return Segment(low, high, 0.0, (0.0, 0.0), (0.0, 0.0, 0.0), level, direction, **draws)


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


def told(stages=STAGES, loss=LOSS, scores=ALL):
    return naming.named(stages, naming.Signals(X, loss, scores))


def names(**changes):
    return [one["name"] for one in told(**changes)]


def test_the_three_stages_of_the_paper():
    assert names() == ["unnamed", "initial learning", "head overlapping", "head specialization"]
    signals, edges = naming.Signals(X, LOSS), np.arange(5.0)
    assert naming.loss_directions(edges, signals) == ["flat", "falling", "flat", "flat"]


def test_each_name_needs_all_of_its_evidence():
    assert names(scores=None) == ["unnamed", "initial learning", "unnamed", "unnamed"]
    assert names(loss=None) == ["unnamed"] * 4
    for level, name in ((0.21, "head overlapping"), (0.19, "second rise")):
        assert names(scores=scored(overlap=0 * X + level))[2] == name
    assert names(scores=scored(vocabulary_splitting=0 * X))[3] == "unnamed"
    still = [*STAGES[:1], segment(1, 2, "flat"), *STAGES[2:]]
    assert names(stages=still)[1] == "unnamed"


def test_a_rise_with_a_flat_loss_is_a_second_rise_where_heads_do_not_overlap():
    parts = [segment(0, 1, "rising"), segment(1, 2, "falling"), segment(2, 4, "rising")]
    loss = np.interp(X, [0, 1, 4], [4.0, 0.1, 0.04])
    found = ["initial learning", "unnamed", "second rise"]
    assert names(stages=parts, loss=loss, scores=scored(overlap=0 * X)) == found
    assert names(stages=parts, loss=loss, scores=None)[2] == "unnamed"
    overlapping = scored(overlap=0 * X + 0.5)
    assert names(stages=parts, loss=loss, scores=overlapping)[2] == "head overlapping"
    falling = np.interp(X, [0, 1, 2, 4], [4.0, 0.5, 0.4, 0.0])
    assert names(stages=parts, loss=falling, scores=scored(overlap=0 * X))[2] == "unnamed"


@pytest.mark.parametrize(("end", "name"), [(3.0, "head overlapping"), (2.2, "unnamed")])
def test_heads_may_overlap_while_the_loss_falls_a_fifth_as_fast_as_in_learning(end, name):
    """From 1 to 0.4 nats: more than 5 % of the range, over a longer or a shorter stage."""
    parts = [segment(0, 1, "rising"), segment(1, end, "flat"), segment(end, 4, "flat")]
    loss = np.interp(X, [0, 1, end, 4], [5.0, 1.0, 0.0, 0.0])
    overlapping = scored(overlap=0 * X + 0.5)
    assert naming.loss_directions(np.array([1, end]), naming.Signals(X, loss)) == ["falling"]
    assert names(stages=parts, loss=loss, scores=overlapping)[:2] == ["initial learning", name]


@pytest.mark.parametrize(
    ("end", "direction"), [(4.3, "rising"), (4.1, "flat"), (3.9, "flat"), (3.7, "falling")]
)
def test_the_loss_is_flat_within_five_per_cent_of_its_range(end, direction):
    signals = naming.Signals(np.array([0.0, 1.0, 2.0]), np.array([4.0, end, 0.0]))
    assert naming.loss_directions(np.array([0.0, 1.0]), signals) == [direction]


def test_initial_learning_may_come_in_several_stages_that_make_the_fall_together():
    parts = [STAGES[0], segment(1, 1.5, "rising"), segment(1.5, 2, "rising"), *STAGES[2:]]
    third = np.interp(X, [0, 1, 1.5, 2, 4], [4.0, 4.0, 2.3, 0.1, 0.04])
    assert names(stages=parts, loss=third)[1:3] == ["initial learning"] * 2
    little = np.interp(X, [0, 1, 1.5, 2, 3, 4], [4.0, 4.0, 3.5, 2.5, 2.5, 0.0])
    assert names(stages=parts, loss=little)[1:3] == ["unnamed"] * 2


def test_evidence_is_told_for_and_against():
    flat = [*STAGES[:2], segment(2, 3, "flat"), STAGES[3]]
    found = told(stages=flat, scores=scored(overlap=0 * X + 0.19))[2]
    assert found["name"] == "unnamed"
    overlap = [rule for rule in found["evidence"] if rule["rule"] == "heads overlap"]
    assert {rule["of"] for rule in found["evidence"]} == {"head overlapping"}
    assert overlap[0]["value"] == pytest.approx(0.19) and not overlap[0]["holds"]
    assert [rule["holds"] for rule in found["evidence"]] == [True, True, True, False]
    given = told()[2]
    assert all(rule["holds"] for rule in given["evidence"])


def test_a_probability_is_the_share_of_resamples_that_give_the_name():
    rises = [60, 60, 60, 60]
    parts = [
        segment(0, 1, "flat", [0, 0, 0, 0]),
        segment(1, 2, "rising", rises),
        segment(2, 3, "flat", [0, 1, -1, -40]),  # the last one falls by more than 5 % of 100
        segment(3, 4, "falling", [-50, -50, -50, 2]),
    ]
    found = told(stages=parts)
    assert [one["probability"] for one in found] == [1.0, 1.0, 0.75, 0.75]
    assert found[3]["names"] == {"head specialization": 0.75, "head overlapping": 0.25}


def test_edges_move_in_resamples_and_the_loss_with_them():
    early, late = [[1, 1.2], [1, 2]], [[1.2, 4], [2, 4]]
    parts = [
        segment(0, 1, "flat", [0, 0]),
        segment(1, 2, "rising", [60, 60], early),
        segment(2, 4, "falling", [-60, -60], late),
    ]
    # up to 1.2 the loss has made a fifth of its range
    assert told(stages=parts)[1]["probability"] == 0.5
