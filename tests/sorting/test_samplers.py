"""Lanes side by side: the same random numbers, results equal to rounding, memory within the budget.

Tolerance: chains of ten steps on losses near 2; other stacks sum in another order, 1e-6 of the loss
at each step.
"""

from dataclasses import replace

import numpy as np
import pytest

from devsort.execution import unheard
from devsort.llc import settle
from devsort.llc.trajectory import stacks
from devsort.rng import name_key
from devsort.sampling import Trace, run_chains
from devsort.sorting.config import ModelConfig, TaskConfig
from devsort.sorting.geometry import relative
from devsort.sorting.kernels import HeadKernel, lane_bytes
from devsort.sorting.model import init_params, model_shape
from devsort.sorting.objective import Checkpoint, SortObjective
from devsort.sorting.samplers import STACKED, STACKS, SortSampler, lanes_at_once

NAMES = ("full", "h1", "h0.ov")
CHAINS = 5


def sampler_of(run, batch_size: int = 8) -> SortSampler:
    """A sampler of five chains; the larger the minibatches, the fewer of them are stacked."""
    changed = {"num_chains": CHAINS, "n_beta": 20.0, "batch_size": batch_size}
    settings = run.config.llc.sampler.model_copy(update=changed)
    llc = run.config.llc.model_copy(update={"sampler": settings})
    return SortSampler(replace(run, config=run.config.model_copy(update={"llc": llc})))


def checkpoints(sampler: SortSampler, count: int = 3) -> dict[int, Checkpoint]:
    """Networks that were never trained, as checkpoints of steps 10, 20, …"""
    params = (init_params(sampler.shape, 0.8, seed=i) for i in range(count))
    return {10 * (i + 1): sampler.checkpoint(p) for i, p in enumerate(params)}


def all_at_once(sampler: SortSampler, step: int, checkpoint: Checkpoint, name: str) -> Trace:
    """All chains of one checkpoint in one stack."""
    batches = sampler.batches(range(CHAINS))
    objective = SortObjective(sampler.kernels, [checkpoint], name, batches)
    streams = [(step, name_key(name), chain) for chain in range(CHAINS)]
    if sampler.config.geometry == "relative":
        objective = relative(objective, [checkpoint], sampler.shape)
    return run_chains(objective, sampler.config, streams)


def assert_same(mine: Trace, theirs: Trace) -> None:
    np.testing.assert_allclose(mine.loss, theirs.loss, atol=1e-5)
    np.testing.assert_allclose(mine.distance, theirs.distance, rtol=1e-4)
    part = "small-gaps"
    np.testing.assert_allclose(mine.parts[part], theirs.parts[part], atol=1e-5)


@pytest.fixture(autouse=True)
def _drawn_once(monkeypatch):
    """Chains as they are, whether they have settled or not."""
    monkeypatch.setattr(settle, "ROUNDS", 0)


@pytest.mark.parametrize("name", NAMES)
def test_checkpoints_side_by_side_are_the_checkpoints_alone(tiny_run, name):
    sampler = sampler_of(tiny_run)
    every = checkpoints(sampler)
    found = sampler.sample(every, name, unheard)
    assert found.keys() == every.keys()
    for step, checkpoint in every.items():
        assert_same(found[step], all_at_once(sampler, step, checkpoint, name))


@pytest.mark.parametrize("lanes", [1, 2, 4])
@pytest.mark.parametrize("name", NAMES)
def test_chains_in_pieces_are_the_chains_together(tiny_run, name, lanes):
    sampler, done = sampler_of(tiny_run, STACKED // lanes), []
    assert sampler.lanes == lanes and sampler.stack == 1
    for step, checkpoint in checkpoints(sampler).items():
        found = sampler.sample({step: checkpoint}, name, done.append)
        assert_same(found[step], all_at_once(sampler, step, checkpoint, name))
    assert sum(done) == 3 * CHAINS * sampler.config.num_steps and max(done) == lanes


def test_what_a_head_does_not_move_is_computed_once_for_all_its_chains(tiny_run, monkeypatch):
    frozen, original = [], HeadKernel.freeze
    monkeypatch.setattr(
        HeadKernel, "freeze", lambda *args: frozen.append(args[-1]) or original(*args)
    )
    sampler = sampler_of(tiny_run, STACKED // 2)
    sampler.sample(checkpoints(sampler, 1), "h1", unheard)
    assert len(sampler.pieces) == 3 and frozen == [1]


def test_a_stack_keeps_within_the_memory_and_within_the_caches():
    shape = model_shape(TaskConfig(), ModelConfig())
    lane = lane_bytes(shape, 32)
    assert lanes_at_once(shape, 32, "cuda", 1024) == 2**30 // lane > STACKED // 32
    assert lanes_at_once(shape, 32, "cuda", 1) == 1
    assert lanes_at_once(shape, 32, "cpu", 1024) == STACKED // 32 == 16
    assert lanes_at_once(shape, 32, "cpu", 2 * lane // 2**20 + 1) == 2
    assert lanes_at_once(shape, 1024, "cpu", 1024) == 1


@pytest.mark.parametrize("fewest", [1, STACKS])
def test_stacks_are_all_checkpoints_once(fewest):
    for count in range(1, 60):
        for most in (1, 2, 4, 9, 100):
            found = stacks(count, most, fewest)
            largest = max(map(len, found))
            assert [i for stack in found for i in stack] == list(range(count))
            assert largest <= most and (len(found) >= fewest or largest == 1)
    assert stacks(30, 100, 1) == [range(30)]
