"""Measures that are kept checkpoint by checkpoint.

Read back as they were, and only where they belong.
"""

import numpy as np
import pytest

from devsort.sorting import heads
from devsort.sorting.heads import parts
from devsort.sorting.heads.analysis import Analysis
from devsort.sorting.model import init_params, model_shape
from devsort.sorting.run import open_run, save_checkpoint

ORIGIN = {"devsort": "1", "config": "a", "inputs": "b", "resolved": "{}"}


def an_analysis(seed: float) -> Analysis:
    table = {"copy": np.full((2, 7), seed), "need": np.arange(14.0).reshape(2, 7)}
    labels = np.array([True, False, True, False])
    weights = {"norm": 0.1 + seed, "rank": np.array([1.5, 2.5])}
    return Analysis(
        0.1,
        0.9,
        table,
        table,
        np.arange(3.0),
        np.ones((5, 3)),
        labels,
        np.ones((5, 4), bool),
        weights,
    )


def same(a: Analysis, b: Analysis) -> bool:
    left, right = parts.as_tensors(a), parts.as_tensors(b)
    return left.keys() == right.keys() and all((left[k] == right[k]).all() for k in left)


def test_an_analysis_comes_back_from_its_tensors():
    a = an_analysis(1 / 3)
    back = parts.from_tensors(parts.as_tensors(a))
    assert (
        same(a, back) and float(back.weights["norm"]) == 0.1 + 1 / 3 and back.labels.dtype == bool
    )


def test_it_is_made_once_and_again_where_it_is_damaged_or_of_another_origin(tiny_run):
    made = []

    def analyse() -> Analysis:
        made.append(1)
        return an_analysis(len(made))

    for _ in range(2):
        assert same(parts.kept(tiny_run, 5, ORIGIN, analyse), an_analysis(1))
    assert parts.count(tiny_run) == len(made) == 1
    file = parts.file_of(tiny_run, 5)
    file.write_bytes(file.read_bytes()[:-1])
    assert same(parts.kept(tiny_run, 5, ORIGIN, analyse), an_analysis(2))
    assert same(parts.kept(tiny_run, 5, {**ORIGIN, "inputs": "other"}, analyse), an_analysis(3))


@pytest.mark.parametrize("changed", [False, True])
def test_a_run_goes_on_from_its_parts_unless_weights_have_changed(tiny_run, monkeypatch, changed):
    shape, steps = model_shape(tiny_run.config.task, tiny_run.config.model), (1, 5, 20)
    for step in steps:
        save_checkpoint(tiny_run, step, init_params(shape, 1.0, step))
    remove, analyse, done = heads.step.remove, heads.step.analyse, []
    monkeypatch.setattr("devsort.sorting.heads.step.remove", lambda path: None)
    first = heads.run_heads(tiny_run)
    monkeypatch.setattr("devsort.sorting.heads.step.remove", remove)
    remove(tiny_run.heads)
    if changed:
        save_checkpoint(tiny_run, 5, init_params(shape, 1.0, 99))
    monkeypatch.setattr(
        "devsort.sorting.heads.step.analyse", lambda *args: done.append(1) or analyse(*args)
    )
    again = heads.run_heads(open_run(tiny_run.path))
    assert len(done) == changed and (again == first) != changed
    assert not tiny_run.heads_parts.exists()
