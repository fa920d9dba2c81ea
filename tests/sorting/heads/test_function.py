"""What suppression is for, on a planted suppressor; calibration on answers whose truth is drawn."""

import math

import numpy as np
import pytest
import torch

from devsort.rng import stream, torch_stream
from devsort.sorting import circuits, planted
from devsort.sorting.config import ModelConfig, TaskConfig
from devsort.sorting.heads.function import CONDITIONS, condition, head_function, reliability
from devsort.sorting.heads.suppression import attention_similarity, qk_similarity
from devsort.sorting.model import infer_shape
from devsort.sorting.task import Batch, eval_batch

TASK = TaskConfig(eval_lists=256)
BATCH = eval_batch(TASK)


@pytest.fixture(scope="module")
def suppressor():
    params, plan = planted.draw_network("suppression", TASK, ModelConfig(), 0, 0)
    head = int(plan.suppresses.any(1).argmax())
    return params, infer_shape(params, 10, 51), head


def test_a_planted_suppressor_is_all_suppression(suppressor):
    params, shape, head = suppressor
    found = head_function(params, shape, BATCH, head)
    c = found.conditions
    assert tuple(c) == CONDITIONS
    assert c["ablated"].loss > c["whole"].loss + 0.005
    assert c["rest"].loss == pytest.approx(
        c["ablated"].loss, abs=0.1 * abs(c["ablated"].loss - c["whole"].loss)
    )
    assert found.kept > 0.8


def test_a_suppressor_helps_by_its_competitors_and_costs_by_the_answer(suppressor):
    params, shape, head = suppressor
    c = head_function(params, shape, BATCH, head).conditions
    assert c["without_own"].loss < c["whole"].loss < c["rest"].loss < c["without_competitors"].loss
    change = c["rest"].less(c["whole"])
    assert change["loss"] == c["rest"].loss - c["whole"].loss
    assert change["calibration_error"] > 0 > change["accuracy"]


def test_likeness_of_attention_by_hand():
    batch = Batch(torch.tensor([[2, 0, 1, 0, 2], [1, 2, 3, 1, 2]]), torch.zeros(2, 2).long())
    pattern = torch.zeros(2, 2, 2, 4)  # two heads, lists of two numbers
    pattern[:, 0, :, 0] = 1.0
    pattern[0, 1, 0, :2] = torch.tensor([0.3, 0.4])  # asked for 0: cosine 0.3 / 0.5
    pattern[1, 1, 0, :2] = torch.tensor([0.0, 1.0])  # asked for 1: cosine 0
    found = attention_similarity(pattern, batch, torch.tensor([True, True, False]))
    torch.testing.assert_close(found, torch.tensor([[1, 0.3], [0.3, 1]]))
    none = attention_similarity(pattern, batch, torch.zeros(3).bool())
    assert none.isnan().all()


def test_likeness_of_qk_is_that_of_larger_numbers(monkeypatch):
    """The second head's rows are the first's over larger numbers, and noise below."""
    g = torch_stream(0, "qk")
    one = torch.randn(52, 51, generator=g)
    other = torch.where(torch.arange(51) > torch.arange(52)[:, None] % 51, 2 * one + 3, -one)
    other[51] = 2 * one[51] + 3
    monkeypatch.setattr(circuits, "qk", lambda params, shape: torch.stack([one, other, -one]))
    shape = infer_shape(planted.draw_network("three", TASK, ModelConfig(), 0, 0)[0], 10, 51)
    expected = torch.tensor([[1.0, 1, -1], [1, 1, -1], [-1, -1, 1]])
    torch.testing.assert_close(qk_similarity({}, shape), expected, atol=1e-4, rtol=0)


def test_a_planted_copier_keeps_nothing_by_suppression(suppressor):
    params, shape, head = suppressor
    found = head_function(params, shape, BATCH, 1 - head)
    assert found.conditions["ablated"].loss - found.conditions["whole"].loss > 5
    assert abs(found.kept) < 0.05
    assert found.conditions["rest"].loss == pytest.approx(found.conditions["whole"].loss, abs=0.05)


def test_self_repair_is_zero_without_layer_norm():
    model = ModelConfig(layer_norm=False)
    params, plan = planted.draw_network("suppression", TASK, model, 0, 0)
    found = head_function(
        params, infer_shape(params, 10, 51), BATCH, int(plan.suppresses.any(1).argmax())
    )
    assert found.self_repair.tolist() == [0, 0]


def test_self_repair_comes_through_the_scale(suppressor):
    """Without the suppressor the stream is longer, so the copier's logits shrink.

    The head itself repairs nothing.
    """
    params, shape, head = suppressor
    found = head_function(params, shape, BATCH, head)
    assert found.self_repair[head] == 0
    assert found.self_repair[1 - head] < -0.1


def test_a_condition_by_hand():
    logits = torch.log(torch.tensor([[[0.7, 0.2, 0.1], [0.5, 0.25, 0.25]]]))
    found = condition(logits, torch.tensor([[0, 1]]))
    assert found.loss == pytest.approx(-(math.log(0.7) + math.log(0.25)) / 2, rel=1e-5)
    assert found.accuracy == 0.5
    assert found.confidence == pytest.approx(0.6, rel=1e-5)
    entropies = [-sum(p * math.log(p) for p in row) for row in ([0.7, 0.2, 0.1], [0.5, 0.25, 0.25])]
    assert found.entropy == pytest.approx(np.mean(entropies), rel=1e-5)
    assert found.reliability.error == pytest.approx((0.3 + 0.5) / 2, rel=1e-5)


def test_calibrated_answers_have_no_error_and_overconfident_ones_theirs():
    rng = stream(0, "calibration")
    confidence = rng.uniform(0.2, 1, 200_000)
    honest = reliability(confidence, rng.random(len(confidence)) < confidence)
    assert honest.error < 0.01
    boastful = reliability(confidence, rng.random(len(confidence)) < confidence - 0.2)
    assert boastful.error == pytest.approx(0.2, abs=0.01)


def test_bins_hold_their_right_end_and_empty_ones_are_nan():
    found = reliability(np.array([0.2, 1.0, 0.21]), np.array([True, False, True]), bins=5)
    assert found.count.tolist() == [1, 1, 0, 0, 1]
    assert np.isnan(found.accuracy[2])
    assert found.accuracy[[0, 1, 4]].tolist() == [1, 1, 0]
