"""Patterning on a tiny sorter: observables, weighted lists, retraining, and the command."""

import json

import numpy as np
import pytest
import torch
from commands import devsort
from folders import told

from devsort.rng import stream
from devsort.sorting.circuits import ov
from devsort.sorting.config import TaskConfig
from devsort.sorting.model import init_params, model_shape
from devsort.sorting.patterning.lists import WeightedLists, members_of
from devsort.sorting.patterning.observables import observe
from devsort.sorting.patterning.response import response_at
from devsort.sorting.patterning.retrain import retrain
from devsort.sorting.patterning.step import Pattern, run_pattern
from devsort.sorting.run import open_run
from devsort.sorting.susceptibility.probe import Probe
from devsort.sorting.task import draw_lists

TASK = TaskConfig(list_length=3, numbers=7)
EDGES = np.array([1.0, 2.0, 3.0])
SET = (
    "llc.sampler.num_draws=16",
    "susceptibility.every=1",
    "susceptibility.lists=32",
    "susceptibility.gap_classes=2",
)


def test_lists_are_named_by_what_they_hold():
    found = members_of(np.array([[0, 4, 2], [6, 5, 4]]), EDGES, 7)
    assert found[0].tolist() == [1, 0, 1, 0, 1, 0, 0, 0, 1]  # gap 2 lies in the wider class
    assert found[1].tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 0]


def test_observables_are_those_of_the_ov_diagonal(tiny_run):
    shape = model_shape(tiny_run.config.task, tiny_run.config.model)
    params = init_params(shape, 1.0, 3)
    first, second = ov(params, shape).diagonal(dim1=1, dim2=2).double().numpy()
    apart = first - second
    truth = [
        (apart[:3].sum() - apart[3:].sum()) / 14,
        apart.var(),
        -np.minimum(first, second).mean(),
    ]
    assert np.allclose(observe(params, shape), truth, atol=1e-5)


def test_lists_come_as_often_as_they_weigh():
    h = np.zeros(9)
    h[2] = 1.0
    lists = WeightedLists(TASK, h, EDGES, 0.4, 3.0)
    drawn = lists.batch(0, 1, 6000).tokens[:, :3].numpy()
    plain = draw_lists(stream(0, "plain"), 20_000, TASK)
    weight = lists.weights(plain)
    expected = weight[(plain == 2).any(1)].sum() / weight.sum()
    assert (drawn == 2).any(1).mean() == pytest.approx(expected, abs=0.02)
    assert expected > (plain == 2).any(1).mean() + 0.1
    assert weight.min() >= 1 / 3 and weight.max() <= 3
    assert weight.std() == pytest.approx(0.4, abs=0.03)


def test_lists_without_a_shift_are_those_of_the_task():
    lists = WeightedLists(TASK, np.zeros(9), EDGES, 0.4, 3.0)
    drawn = lists.batch(0, 1, 6000).tokens[:, :3].numpy()
    counts = np.bincount(drawn.flatten(), minlength=7) / 18_000
    assert np.allclose(counts, 1 / 7, atol=0.01)


def test_a_batch_is_a_function_of_seed_and_step():
    lists = WeightedLists(TASK, np.ones(9), EDGES, 0.4, 3.0)
    assert torch.equal(lists.batch(1, 2, 8).tokens, lists.batch(1, 2, 8).tokens)
    assert not torch.equal(lists.batch(1, 2, 8).tokens, lists.batch(1, 3, 8).tokens)
    assert not torch.equal(lists.batch(1, 2, 8).tokens, lists.batch(2, 2, 8).tokens)


def test_retraining_lowers_the_loss_of_what_is_shown(saved_run):
    """More of number 2 alone: the observables are those of the trained weights, and move."""
    shape = model_shape(saved_run.config.task, saved_run.config.model)
    params = init_params(shape, 0.8, 0)
    before = {name: value.clone() for name, value in params.items()}
    lists = WeightedLists(saved_run.config.task, np.zeros(9), EDGES, 0.4, 3.0)
    trained = [retrain(saved_run, params, lists, 0, 5) for _ in range(2)]
    once, again = (observe(weights, shape) for weights in trained)
    assert torch.equal(once, again) and not torch.allclose(once, observe(params, shape))
    assert all(torch.equal(params[name], before[name]) for name in params)


def test_the_response_is_of_observables_and_loss_to_content(saved_run):
    run = open_run(saved_run.path, SET)
    shape = model_shape(run.config.task, run.config.model)
    found = response_at(run, init_params(shape, 0.8, 0), Probe(run.config))
    assert found.value.shape == (4, 7 + 2)
    assert np.isfinite(found.value).all() and (found.se > 0).all()


def test_the_response_to_other_data_is_that_to_its_lists(saved_run):
    """Of the lists that hold number 2, and of twice as much weight on them as on the others."""
    run = open_run(saved_run.path, SET)
    shape = model_shape(run.config.task, run.config.model)
    params, probe = init_params(shape, 0.8, 0), Probe(run.config)
    holds = (probe.data.tokens[:, :3] == 2).any(1).numpy()
    found = response_at(run, params, probe, np.stack([holds, 1.0 + holds]))
    assert np.allclose(found.value[:, 0], response_at(run, params, probe).value[:, 2])
    share = holds.sum() / (holds.sum() + len(holds))  # of the lists that were added
    assert np.allclose(found.value[:, 1], share * found.value[:, 0])


def test_training_begins_at_the_initial_weights_or_at_a_saved_step(saved_run):
    run = open_run(saved_run.path, SET)
    begun = {
        begin: run_pattern(run, Pattern("low=up", 5, begin, steps=1, seeds=1))
        for begin in (None, 5, 0)
    }
    assert begun[None] == begun[5] and (begun[5]["begin"], begun[0]["begin"]) == (5, 0)
    assert begun[0]["numbers"] == begun[5]["numbers"] and begun[0]["rows"] != begun[5]["rows"]
    shape = model_shape(run.config.task, run.config.model)
    first = init_params(shape, run.config.model.init_scale, run.config.train.seed)
    lists = WeightedLists(run.config.task, np.zeros(9), Probe(run.config).edges, 0.5, 3.0)
    change = observe(retrain(run, first, lists, 0, 1), shape) - observe(first, shape)
    assert begun[0]["rows"][0]["without"] == pytest.approx(float(change[0]))


def test_the_command_has_a_row_for_each_seed(saved_run):
    options = [word for setting in SET for word in ("--set", setting)]
    few = ("--from", "5", "--steps", "3", "--seeds", "2", "--json")
    result = devsort("pattern", saved_run.path, "--target", "low=up", *few, *options)
    value = json.loads(result.out)
    assert result.code == 0 and (value["target"], value["start"]) == ("low=up", 5)
    assert (len(value["numbers"]), len(value["gap_classes"])) == (7, 2)
    assert [set(row) for row in value["rows"]] == 2 * [{"seed", "without", "with", "random"}]
    moved = sum(row["with"] > row["without"] for row in value["rows"])
    assert value["moved"]["with"] == moved


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (
            Pattern("high=up"),
            "--target 'high=up' is not known; "
            "use NAME=up or NAME=down, NAME one of low, split, suppression",
        ),
        (
            Pattern("low=left"),
            "--target 'low=left' is not known; "
            "use NAME=up or NAME=down, NAME one of low, split, suppression",
        ),
        (Pattern("low=up", 4), "--from 4 is no saved step; use a saved one, such as 5"),
        (Pattern("low=up", 5, 4), "--begin 4 is no saved step; use a saved one, such as 5"),
    ],
)
def test_what_cannot_be_had_is_told(saved_run, pattern, message):
    assert told(run_pattern, saved_run, pattern) == message


def test_one_head_cannot_be_steered(saved_run):
    run = open_run(saved_run.path, ("model.heads=1",))
    assert told(run_pattern, run, Pattern("low=up")) == (
        "patterning steers two heads, the model has one; use a run of two heads"
    )
