"""The llc step: which checkpoints are sampled, and what is refused before any work is done."""

import shutil

import numpy as np
import pytest
import torch
from folders import told

from devsort.sorting.artifacts import LLC
from devsort.sorting.checkpoints import chosen_steps
from devsort.sorting.llc import run_llc
from devsort.sorting.run import open_run
from devsort.sorting.train import train


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
    steps = open_run(smoke.path).read(LLC).checkpoint.values
    assert steps.min() == 10 and steps.max() == 300 and len(steps) == 6


def test_a_run_that_ends_before_the_first_step_is_sampled_at_its_end(tiny_run):
    run = open_run(tiny_run.path, ("train.steps=5",))
    train(run)
    assert {row["step"] for row in run_llc(run)["trajectory"]} == {5}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("h2", "llc.restrictions: 'h2', but the model has 2 heads; heads are counted from h0"),
        (
            "mlp",
            "llc.restrictions: no parameter matches 'mlp'; "
            "use full, heads, h0, h0.qk, h0.ov, embed, pos, unembed, norms or a pattern of names",
        ),
    ],
)
def test_a_wrong_restriction_is_told_before_anything_is_made(saved_run, name, message):
    run = open_run(saved_run.path, (f"llc.restrictions=[{name}]",))
    assert told(run_llc, run) == message and not run.llc.exists()


def test_an_untrained_run_is_named(tiny_run):
    fix = f"run `devsort train {tiny_run.path}` first"
    assert told(run_llc, tiny_run) == f"{tiny_run.path} has no checkpoints yet; {fix}"
    assert not tiny_run.llc.exists()


def test_a_gpu_that_is_not_there_is_told(saved_run, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    run = open_run(saved_run.path, ("device=cuda",))
    assert "torch sees no GPU" in told(run_llc, run)


def test_a_stack_that_misses_one_checkpoint_is_sampled_again_to_the_same_bits(smoke, tmp_path):
    # sixteen checkpoints, of which two are sampled side by side
    many = ("llc.first_step=1", "llc.max_checkpoints=16", "llc.restrictions=[full]")
    run = open_run(smoke.copy(tmp_path, "checkpoints", "training.jsonl"), many)
    run_llc(run)
    before = run.read(LLC).load()
    chunks = [run.llc / "loss" / "c" / str(i) for i in range(16)]
    written = [next(chunk.rglob("0")).stat().st_mtime_ns for chunk in chunks]
    shutil.rmtree(chunks[4])
    again = open_run(run.path, many)
    run_llc(again)
    assert again.read(LLC).load().identical(before)
    now = [next(chunk.rglob("0")).stat().st_mtime_ns for chunk in chunks]
    assert [i for i in range(16) if now[i] != written[i]] == [4]  # its neighbour was whole
