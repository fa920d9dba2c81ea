"""Planted networks sort, whatever basis they stand in, and say what they need."""

import pytest
import torch
from folders import told

from devsort.rng import stream
from devsort.sorting import planted
from devsort.sorting.config import ModelConfig, TaskConfig
from devsort.sorting.model import forward, infer_shape
from devsort.sorting.task import eval_batch

TASK = TaskConfig(eval_lists=256)
BATCH = eval_batch(TASK)
NOISE = 0.005


def accuracy(params, batch=BATCH):
    return (forward(params, batch.tokens).argmax(-1) == batch.targets).float().mean().item()


@pytest.mark.parametrize("noise", [0.0, NOISE])
@pytest.mark.parametrize("kind", planted.KINDS)
def test_a_planted_network_sorts(kind, noise):
    params, plan = planted.draw_network(kind, TASK, ModelConfig(), 1, 0, noise)
    assert infer_shape(params, 10, 51).heads == len(plan.strength)
    assert accuracy(params) >= (0.99 if plan.errors is None else 0.97)


def test_a_suppressor_takes_off_its_ratio():
    plan = planted.draw_suppressor(0.15, 51, stream(0, "test"))
    head = int(plan.suppresses.any(1).argmax())
    numbers = plan.suppresses[head]
    assert 0.2 < numbers.mean() < 0.5 and plan.copies[1 - head].all()
    ratio = plan.strength[head] / plan.strength[1 - head]
    assert ratio[numbers] == pytest.approx(-0.15) and (ratio[~numbers] == 0).all()


def test_the_residual_basis_does_not_matter():
    plan = planted.draw_plan("three", 51, stream(0, "test"))
    plain = forward(planted.network(plan, TASK, ModelConfig()), BATCH.tokens)
    turned = forward(planted.network(plan, TASK, ModelConfig(), stream(1, "test")), BATCH.tokens)
    torch.testing.assert_close(plain, turned, atol=0.05, rtol=1e-3)


def test_other_lengths_ranges_and_no_layer_norm():
    task = TaskConfig(list_length=6, numbers=30, eval_lists=256)
    model = ModelConfig(d_model=40, d_head=30, layer_norm=False)
    params, _ = planted.draw_network("split", task, model, 0, 0)
    assert accuracy(params, eval_batch(task)) >= 0.99


def test_draws_depend_on_seed_and_index_alone():
    first, _ = planted.draw_network("split", TASK, ModelConfig(), 3, 4, NOISE)
    planted.draw_network("overlap", TASK, ModelConfig(), 3, 4, NOISE)
    again, _ = planted.draw_network("split", TASK, ModelConfig(), 3, 4, NOISE)
    other, _ = planted.draw_network("split", TASK, ModelConfig(), 3, 5, NOISE)
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["embed.W_E"], other["embed.W_E"])


@pytest.mark.parametrize(
    ("kind", "labels"),
    [
        ("single", []),
        ("split", ["vocabulary-splitting"]),
        ("regions-by-attention", ["vocabulary-splitting"]),
        ("overlap", ["overlapping"]),
        ("suppression", ["copy-suppression"]),
        ("four", ["vocabulary-splitting", "copy-suppression"]),
        ("eight", ["vocabulary-splitting"]),
    ],
)
def test_labels_of_the_plans(kind, labels):
    for index in range(20):
        assert planted.draw_plan(kind, 51, stream(0, "test", index)).labels == labels


def test_a_narrow_model_is_refused():
    assert told(planted.draw_network, "split", TASK, ModelConfig(d_model=52), 0, 0) == (
        "a planted network of 51 numbers needs d_model >= 53 and d_head >= 46, got 52 and 48; "
        "widen the model"
    )
