"""Lanes side by side: the same random numbers, results equal to rounding, memory within the budget.

Tolerance: chains of ten steps on losses near 2; other stacks sum in another order, 1e-6 of the loss
at each step.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from devsort.sorting.workers import GROUPS, STACK, Worker, lanes_at_once

from devsort.sorting.config import ModelConfig, TaskConfig
from devsort.sorting.kernels import HeadKernel, lane_bytes
from devsort.sorting.llc import groups
from devsort.sorting.model import init_params, model_shape

NAMES = ("full", "h1", "h0.ov")


def worker(run, memory: int = 2048, **sampler) -> Worker:
    settings = run.config.llc.sampler.model_copy(
        update={"num_chains": 5, "n_beta": 20.0, **sampler}
    )
    llc = run.config.llc.model_copy(update={"sampler": settings})
    return Worker(
        replace(run, config=run.config.model_copy(update={"llc": llc, "memory": memory})), NAMES
    )


def checkpoints(run, count: int) -> dict[int, dict[str, torch.Tensor]]:
    shape = model_shape(run.config.task, run.config.model)
    return {10 * (i + 1): init_params(shape, 0.8, seed=i) for i in range(count)}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for step, traces in expected.items():
        for mine, theirs in zip(found[step], traces, strict=True):
            np.testing.assert_allclose(mine.loss, theirs.loss, atol=1e-5)
            np.testing.assert_allclose(mine.distance, theirs.distance, rtol=1e-4)
            np.testing.assert_allclose(
                mine.groups["small-gaps"], theirs.groups["small-gaps"], atol=1e-5
            )


@pytest.fixture
def alone(tiny_run):
    one = worker(tiny_run)
    return {
        step: one({step: params}, lambda _: None)[step]
        for step, params in checkpoints(tiny_run, 3).items()
    }


def test_checkpoints_side_by_side_are_the_checkpoints_alone(tiny_run, alone):
    assert_same(worker(tiny_run)(checkpoints(tiny_run, 3), lambda _: None), alone)


@pytest.mark.parametrize("lanes", [1, 2, 4])
def test_chains_in_pieces_are_the_chains_together(tiny_run, alone, lanes):
    cut = worker(tiny_run)
    cut.lanes, cut.pieces = lanes, [range(i, min(i + lanes, 5)) for i in range(0, 5, lanes)]
    done = []
    steps = checkpoints(tiny_run, 3)
    assert_same(
        {step: cut({step: params}, done.append)[step] for step, params in steps.items()}, alone
    )
    assert sum(done) == 3 * 3 * 5 * cut.config.num_steps and max(done) == lanes


def test_what_a_head_does_not_move_is_computed_once_for_all_its_chains(tiny_run, monkeypatch):
    frozen, original = [], HeadKernel.freeze
    monkeypatch.setattr(
        HeadKernel, "freeze", lambda *args: frozen.append(args[-1]) or original(*args)
    )
    cut = worker(tiny_run)
    cut.lanes, cut.pieces = 2, [range(2), range(2, 4), range(4, 5)]
    cut(checkpoints(tiny_run, 1), lambda _: None)
    assert frozen == [1]


def test_a_stack_keeps_within_the_memory_and_within_the_caches():
    shape = model_shape(TaskConfig(), ModelConfig())
    lane = lane_bytes(shape, 32)
    assert lanes_at_once(shape, 32, "cuda", 1024) == 2**30 // lane > STACK // 32
    assert lanes_at_once(shape, 32, "cuda", 1) == 1
    assert lanes_at_once(shape, 32, "cpu", 1024) == STACK // 32 == 16
    assert lanes_at_once(shape, 32, "cpu", 2 * lane // 2**20 + 1) == 2
    assert lanes_at_once(shape, 1024, "cpu", 1024) == 1


@pytest.mark.parametrize("fewest", [1, GROUPS])
def test_groups_are_all_checkpoints_once(fewest):
    for count in range(1, 60):
        for most in (1, 2, 4, 9, 100):
            found = groups(count, most, fewest)
            assert [i for group in found for i in group] == list(range(count))
            assert max(map(len, found)) <= most and (
                len(found) >= fewest or max(map(len, found)) == 1
            )
    assert groups(30, 100, 1) == [range(30)]
