"""The llc step: which checkpoints are sampled, and what is refused before any work is done."""

import shutil

import numpy as np
import pytest

from devsort.errors import UserError
from devsort.llc import load_llc, run_llc, workers
from devsort.sorting.llc import chosen_steps
from devsort.sorting.run import open_run


@pytest.mark.parametrize(("count", "expected"), [(1, 1), (2, 2), (5, 5), (32, 32), (400, 300)])
def test_so_many_steps_are_chosen_and_none_twice(count, expected):
    chosen = chosen_steps(range(1, 301), count)
    assert len(set(chosen)) == len(chosen) == expected and chosen == sorted(chosen)


def test_chosen_steps_are_even_in_log_step_with_both_ends():
    saved = [1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 300, 500, 1000]
    assert chosen_steps(saved, 4) == [1, 10, 100, 1000]
    chosen = chosen_steps(range(1, 6001), 20)
    assert (chosen[0], chosen[-1]) == (1, 6000)
    assert np.diff(np.log10(chosen[8:])) == pytest.approx(np.log10(6000) / 19, rel=0.15)
    assert chosen_steps([7], 3) == [7]


def test_no_checkpoint_before_the_first_step_is_sampled(smoke):
    steps = load_llc(open_run(smoke.path)).checkpoint.values
    assert steps.min() == 10 and steps.max() == 300 and len(steps) == 6


def test_a_run_that_ends_before_the_first_step_is_sampled_at_its_end(tiny_run):
    from devsort.sorting.train import train

    run = open_run(tiny_run.path, ("train.steps=5",))
    train(run)
    assert {row["step"] for row in run_llc(run)["trajectory"]} == {5}


@pytest.mark.parametrize(
    ("override", "told"),
    [
        (
            "llc.restrictions=[h2]",
            "llc.restrictions: 'h2', but the model has 2 heads; count heads from h0",
        ),
        (
            "llc.restrictions=[mlp]",
            "llc.restrictions: no parameter matches 'mlp'; "
            "use full, heads, h0, h0.qk, h0.ov, embed, pos, unembed, norms or a pattern of names",
        ),
    ],
)
def test_a_wrong_restriction_is_told_before_anything_is_made(smoke, tmp_path, override, told):
    run = open_run(smoke.copy(tmp_path, "checkpoints"), (override,))
    with pytest.raises(UserError) as e:
        run_llc(run)
    assert str(e.value) == told and not run.llc.exists()


def test_an_untrained_run_is_named(tiny_run):
    with pytest.raises(UserError) as e:
        run_llc(tiny_run)
    assert (
        str(e.value)
        == f"{tiny_run.path} has no checkpoints yet; run `devsort train {tiny_run.path}` first"
    )
    assert not tiny_run.llc.exists()


def test_a_gpu_that_is_not_there_is_told(smoke, tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    run = open_run(smoke.copy(tmp_path, "checkpoints"), ("device=cuda",))
    with pytest.raises(UserError, match="torch sees no GPU"):
        run_llc(run)


def test_a_group_that_misses_one_checkpoint_is_sampled_again_to_the_same_bits(
    smoke, tmp_path, monkeypatch
):
    monkeypatch.setattr(workers, "GROUPS", 2)  # of the six checkpoints, three side by side
    run = open_run(smoke.copy(tmp_path, "checkpoints", "training.jsonl"))
    run_llc(run)
    before = load_llc(run).load()
    shutil.rmtree(run.llc / "loss" / "c" / "4")
    sampled = []
    monkeypatch.setattr(workers.Worker, "__call__", spied(workers.Worker.__call__, sampled))
    run_llc(run)
    assert sampled == [before.checkpoint.values[3:].tolist()]
    assert load_llc(run).load().identical(before)


def spied(call, sampled):
    def one(self, checkpoints, advanced):
        sampled.append(list(checkpoints))
        return call(self, checkpoints, advanced)

    return one
