"""Events on label histories that are written by hand."""

import numpy as np
import pytest
import xarray as xr

from devsort.sorting.heads.events import events, onset
from devsort.sorting.heads.modes import LABELS

STEPS = [1, 10, 100, 1000, 2000, 4000]


def history(draws=4, rank=(9, 9, 9, 9, 9, 9), **labels):
    """A data set with labels over STEPS.

    A label is a list of 0/1, or of such lists for each bootstrap draw.
    """
    one = np.zeros((6, 4), bool)
    drawn = np.zeros((6, draws, 4), bool)
    for name, holds in labels.items():
        holds = np.atleast_2d(holds)
        i = LABELS.index(name.replace("_", "-"))
        one[:, i] = holds[0]
        drawn[:, :, i] = np.resize(holds, (draws, 6)).T
    return xr.Dataset(
        {
            "labels": (("checkpoint", "label"), one),
            "label_draws": (("checkpoint", "draw", "label"), drawn),
            "residual_rank": ("checkpoint", np.array(rank, float)),
        },
        {"checkpoint": STEPS, "label": list(LABELS)},
    )


@pytest.mark.parametrize(
    ("holds", "index"),
    [
        ([0, 0, 1, 1], 2),
        ([1, 1, 1, 1], 0),
        ([0, 0, 0, 0], None),
        ([1, 0, 0, 0], None),  # it did not last
        ([0, 1, 0, 1, 1, 1, 1], 3),  # one failure in six is too many
        ([0] + [1] * 5 + [0] + [1] * 5, 1),  # one in eleven is a flicker
        ([0, 0, 0, 1], 3),
    ],
)
def test_onset_is_the_first_checkpoint_that_lasts(holds, index):
    assert onset(np.array(holds, bool)) == index


def test_nothing_happens_without_labels():
    assert events(history()) == []


def test_split_after_overlap():
    found = events(history(overlapping=[0, 1, 1, 0, 0, 0], vocabulary_splitting=[0, 0, 0, 0, 1, 1]))
    assert found == [
        {"event": "overlap_end", "step": 1000, "ci95": [100, 1000], "share": 1.0},
        {"event": "split_onset", "step": 2000, "ci95": [1000, 2000], "share": 1.0},
    ]


def test_overlap_that_goes_on_has_no_end():
    assert events(history(overlapping=[0, 1, 1, 1, 1, 1])) == []


def test_the_interval_spans_what_the_resamples_say():
    draws = [[0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 0, 0]]
    (found,) = events(history(copy_suppression=draws))
    assert found["event"] == "suppression_onset"
    assert found["step"] == 1000
    assert found["ci95"] == [10, 2000]
    # the measured history and three of the four resamples
    assert found["share"] == pytest.approx(4 / 5)


def test_rank_drop_is_a_quarter_below_the_highest():
    (found,) = events(history(rank=(60, 80, 70, 61, 60, 30)))
    assert found == {"event": "rank_drop", "step": 2000, "ci95": [1000, 2000], "share": 1.0}
    assert events(history(rank=(60, 80, 70, 61, 61, 61))) == []


def test_an_event_at_the_first_checkpoint_starts_there():
    (found,) = events(history(vocabulary_splitting=[1, 1, 1, 1, 1, 1]))
    assert (found["step"], found["ci95"]) == (1, [1, 1])
