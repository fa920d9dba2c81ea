"""Parts of the data: which answers belong to which, and what is refused."""

import numpy as np
import pytest

from devsort.errors import UserError
from devsort.sorting.config import TaskConfig
from devsort.sorting.parts import data_parts, without_gaps
from devsort.sorting.task import eval_batch, gaps

TASK = TaskConfig(list_length=4, numbers=12, eval_lists=300)
DATA = eval_batch(TASK)


def test_gaps_divide_the_lists_at_the_median_of_their_mean_gap():
    parts = data_parts(("gaps",), DATA, TASK)
    mean_gap = gaps(DATA.tokens[:, :4].numpy()).mean(1)
    small = parts["small-gaps"].numpy()
    assert (small.any(1) == small.all(1)).all()  # whole lists
    assert mean_gap[small[:, 0]].max() < mean_gap[~small[:, 0]].min()
    assert (parts["large-gaps"].numpy() == ~small).all()


TASKS = {
    "two gaps": {"list_length": 8, "numbers": 9},
    "mostly the smallest": {"list_length": 4, "numbers": 40, "mean_gap": 1.05},
    "mostly the largest": {"list_length": 4, "numbers": 40, "mean_gap": 12.9},
}


@pytest.mark.parametrize("name", TASKS)
def test_gaps_with_many_ties_make_two_parts_as_well(name):
    task = TaskConfig(**TASKS[name], eval_lists=300)
    data = eval_batch(task)
    parts = data_parts(("gaps",), data, task)
    mean_gap = gaps(data.tokens[:, : task.list_length].numpy()).mean(1)
    small = parts["small-gaps"].numpy()[:, 0]
    assert small.any() and not small.all()
    assert mean_gap[small].max() < mean_gap[~small].min()
    assert without_gaps(("gaps",), parts) == []


ALL_NUMBERS = {
    "permutations": {"list_length": 8, "numbers": 8},
    "two numbers": {"list_length": 2, "numbers": 2},
    "one list": {"list_length": 4, "numbers": 12, "eval_lists": 1},
}


@pytest.mark.parametrize("name", ALL_NUMBERS)
def test_lists_of_one_gap_have_no_parts_by_gap_and_that_is_told(name):
    task = TaskConfig(**{"eval_lists": 50} | ALL_NUMBERS[name])
    parts = data_parts(("gaps", "targets:2"), eval_batch(task), task)
    assert len(parts) == 2 and not {"small-gaps", "large-gaps"} & parts.keys()
    (note,) = without_gaps(("gaps", "targets:2"), parts)
    assert note == (
        "llc.parts: gaps was left out, because all lists of the data have the same mean gap"
    )
    assert without_gaps(("targets:2",), parts) == []


def test_target_ranges_cover_every_answer_once():
    parts = data_parts(("targets:5",), DATA, TASK)
    assert list(parts) == [
        "targets-0-1",
        "targets-2-4",
        "targets-5-6",
        "targets-7-9",
        "targets-10-11",
    ]
    assert (np.sum([p.numpy() for p in parts.values()], 0) == 1).all()
    chosen = DATA.targets[parts["targets-2-4"]]
    assert chosen.min() == 2 and chosen.max() == 4


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gap", "llc.parts: 'gap' is not known; use gaps, or targets:K for K ranges of numbers"),
        ("targets:13", "llc.parts: targets:13 is not possible; ask for 1 to 12 ranges"),
    ],
)
def test_unknown_parts_are_refused(name, message):
    with pytest.raises(UserError) as e:
        data_parts((name,), DATA, TASK)
    assert str(e.value) == message
