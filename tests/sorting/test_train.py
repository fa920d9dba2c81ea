"""The trainer against torch's autograd and Adam, and its schedules.

Runs are killed, damaged, or diverge.
"""

import json
import os
import signal

import pytest
import torch
from commands import Process, children, devsort, last_line, wait_until
from folders import told

from devsort.execution import DIED, cores, crew, one_core, resolve_device
from devsort.sorting.checkpoints import checkpoint_steps, load_resume_step, logged_steps, read_log
from devsort.sorting.config import ScheduleConfig, TrainConfig
from devsort.sorting.model import losses
from devsort.sorting.run import open_run
from devsort.sorting.task import eval_batch, train_batch
from devsort.sorting.train import Gradients, Trainer, learning_rate, train

LAST = "step-000000300.safetensors"


def files(run) -> dict[str, bytes]:
    """What training leaves, by name."""
    paths = [*(run / "checkpoints").iterdir(), run / "training.jsonl"]
    return {path.name: path.read_bytes() for path in paths}


def configured(tiny_run, *overrides: str):
    return open_run(tiny_run.path, overrides)


# ---- one step

SETTINGS = ("train.weight_decay=0.3", "train.lr=0.02", "train.betas=[0.8, 0.95]", "train.eps=0.001")


def reference_steps(run, count: int, optimiser) -> dict[str, torch.Tensor]:
    """Weights after `count` steps of a torch optimiser on the gradients of autograd."""
    start = {name: value.clone().requires_grad_() for name, value in Trainer(run).params().items()}
    c = run.config.train
    steps = optimiser(
        list(start.values()), lr=c.lr, betas=c.betas, eps=c.eps, weight_decay=c.weight_decay
    )
    for step in range(1, count + 1):
        batch = train_batch(run.config.task, step, c.batch_size)
        steps.zero_grad()
        losses(start, batch.tokens, batch.targets).mean().backward()
        steps.step()
    return {name: value.detach() for name, value in start.items()}


def trained(run, count: int) -> dict[str, torch.Tensor]:
    trainer = Trainer(run)
    for _ in range(count):
        trainer.advance()
    return trainer.params()


def largest_difference(a: dict, b: dict) -> float:
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def test_steps_are_those_of_adam_on_autograds_gradient(tiny_run):
    run = configured(tiny_run, *SETTINGS)
    assert largest_difference(trained(run, 3), reference_steps(run, 3, torch.optim.Adam)) < 2e-6


def test_heads_that_start_equal_stay_equal_to_the_bit(tiny_run):
    alone = trained(tiny_run, 20)["blocks.0.attn.W_O"]
    assert not torch.equal(alone[0], alone[1])
    params = trained(configured(tiny_run, "model.init_heads=equal"), 20)
    for name, value in params.items():
        if ".attn." in name and not name.endswith("b_O"):
            assert torch.equal(value[0], value[1]), name


def test_decay_is_in_the_gradient_and_not_adamws(tiny_run):
    run = configured(tiny_run, *SETTINGS)
    assert largest_difference(trained(run, 3), reference_steps(run, 3, torch.optim.AdamW)) > 1e-3


def test_the_loss_that_is_logged_is_that_of_the_batch_before_the_step(tiny_run):
    trainer = Trainer(tiny_run)
    before = {name: value.clone() for name, value in trainer.params().items()}
    trainer.advance()
    batch = train_batch(tiny_run.config.task, 1, tiny_run.config.train.batch_size)
    expected = float(losses(before, batch.tokens, batch.targets).mean())
    assert trainer.loss == pytest.approx(expected, rel=1e-6)


def test_shards_side_by_side_or_one_after_the_other_are_bitwise_the_same(tiny_run):
    run = configured(tiny_run, "train.batch_size=7")  # an odd batch: shards of four and three
    alone = trained(run, 5)
    with crew(Gradients(run), 1) as helpers:
        together = Trainer(run, *helpers)
        for _ in range(5):
            together.advance()
        assert all(torch.equal(value, alone[name]) for name, value in together.params().items())


def test_the_rate_of_each_step_reaches_the_optimiser(tiny_run):
    slow = configured(tiny_run, "train.lr=0.01", "train.lr_final=0.000000001", "train.steps=2")
    trainer = Trainer(slow)
    trainer.advance()
    after_first = trainer.flat.detach().clone()
    trainer.advance()
    # Adam moves by about the rate
    assert float((trainer.flat - after_first).detach().abs().max()) < 1e-8


# ---- schedules


def test_the_rate_is_constant_or_linear():
    assert [learning_rate(TrainConfig(lr=0.01, steps=5), s) for s in (1, 5)] == [0.01, 0.01]
    linear = TrainConfig(lr=0.01, lr_final=0.002, steps=5)
    assert [learning_rate(linear, s) for s in range(1, 6)] == pytest.approx(
        [0.01, 0.008, 0.006, 0.004, 0.002]
    )
    assert learning_rate(TrainConfig(lr=0.01, lr_final=0.002, steps=1), 1) == 0.01


SCHEDULES = {
    "logarithmic then linear": ((2, 10, 20), 75, [1, 3, 10, 30, 50, 70, 75]),
    "the turn itself is saved": ((1, 5, 4), 15, [1, 5, 9, 13, 15]),
    "ends in the logarithmic part": ((3, 2000, 200), 25, [1, 2, 5, 10, 22, 25]),
    "one step": ((24, 2000, 200), 1, [1]),
    "every step": ((1, 1, 1), 4, [1, 2, 3, 4]),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_checkpoint_steps(name):
    (per_decade, linear_from, linear_every), steps, expected = SCHEDULES[name]
    schedule = ScheduleConfig(
        per_decade=per_decade, linear_from=linear_from, linear_every=linear_every
    )
    assert checkpoint_steps(schedule, steps) == expected


def test_the_log_has_a_line_for_each_checkpoint_and_every_nth_step(tiny_run):
    config = tiny_run.config.train
    assert logged_steps(config) == sorted({*checkpoint_steps(config.checkpoints, 20), 10, 20})


# ---- a whole run


def test_a_run_leaves_what_its_config_asks_for(smoke):
    run, value = open_run(smoke.path), smoke.values["train"]
    steps = checkpoint_steps(run.config.train.checkpoints, 300)
    log = read_log(run)
    assert run.steps() == steps
    assert [line["step"] for line in log] == logged_steps(run.config.train)
    last = log[-1]
    assert value == {
        "run": str(smoke.path),
        "steps": 300,
        "checkpoints": len(steps),
        "val_loss": last["val_loss"],
        "val_accuracy": last["val_accuracy"],
        "steps_per_second": value["steps_per_second"],
    }
    assert value["steps_per_second"] > 0 and last["val_loss"] < 0.05 and last["val_accuracy"] > 0.99


def test_accuracy_and_loss_are_means_over_answers(tiny_run):
    trainer, data = Trainer(tiny_run), eval_batch(tiny_run.config.task)
    params, (loss, accuracy) = trainer.params(), trainer.evaluate(data)
    assert loss == pytest.approx(float(losses(params, data.tokens, data.targets).mean()), rel=1e-6)
    right = accuracy * data.targets.numel()
    assert right == pytest.approx(round(right), abs=1e-9)


def test_finished_work_is_not_redone(smoke, tmp_path):
    run = smoke.copy(tmp_path, "checkpoints", "training.jsonl")
    before = {p: os.stat(p).st_mtime_ns for p in (run / "checkpoints").iterdir()}
    value = json.loads(devsort("train", run, "--json").out)
    assert value == {**smoke.values["train"], "run": str(run), "steps_per_second": 0.0}
    assert {p: os.stat(p).st_mtime_ns for p in (run / "checkpoints").iterdir()} == before


# ---- kills, interrupts and damage: what is there at the end is bitwise that of the uninterrupted
# run


def test_a_run_killed_three_times_is_bitwise_the_run_never_killed(smoke, tmp_path):
    run = smoke.copy(tmp_path, "config.yaml")
    for step in (1, 32, 150):
        process = Process(tmp_path / "log", "train", run)
        saved = run / "checkpoints" / f"step-{step:09d}.safetensors"
        assert process.stop_when(saved.exists, signal.SIGKILL) == -signal.SIGKILL
        assert not (run / "checkpoints" / LAST).exists()
    assert devsort("train", run).code == 0
    assert files(run) == files(smoke.path)


LARGE = ("train.steps=120", "train.batch_size=2500")  # so much to train that two cores pay


def on_one_core() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


@pytest.mark.slow
@pytest.mark.skipif(cores() < 2, reason="there is one core")
def test_a_run_on_two_cores_whose_process_is_killed_is_bitwise_that_on_one(tiny_run, tmp_path):
    run, log, large = tiny_run.path, tmp_path / "log", [a for s in LARGE for a in ("--set", s)]
    process = Process(log, "train", run, *large)
    wait_until((run / "checkpoints" / "step-000000015.safetensors").exists)
    (helper,) = children(process.pid)
    os.kill(helper, signal.SIGKILL)
    assert process.wait() == 2
    step = load_resume_step(open_run(run))
    ended = "a process that was to compute on one core ended with exit code -9"
    assert last_line(log.read_text()) == f"devsort: error: {ended}; {DIED}" and 15 <= step < 120
    assert Process(log, "train", run, *large).wait() == 0
    found = files(run)
    assert Process(log, "train", run, *large, "--force", prepare=on_one_core).wait() == 0
    assert files(run) == found


def test_ctrl_c_is_told_in_one_line_and_loses_nothing(smoke, tmp_path):
    run = smoke.copy(tmp_path, "config.yaml")
    process = Process(tmp_path / "log", "train", run)
    saved = run / "checkpoints" / "step-000000032.safetensors"
    assert process.stop_when(saved.exists, signal.SIGINT) == 130
    step = load_resume_step(open_run(run))
    saved = f"steps up to {step} of 300 are saved, the same command goes on from there"
    assert last_line(process.log.read_text()) == f"devsort: interrupted; {saved}"
    kept = run / "checkpoints" / "step-000000022.safetensors"
    written = kept.stat().st_mtime_ns
    assert devsort("train", run).code == 0
    assert files(run) == files(smoke.path) and kept.stat().st_mtime_ns == written


def flip(path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def swap(a, b) -> None:
    a.rename(a.with_name("aside"))
    b.rename(a)
    a.with_name("aside").rename(b)


def edit_the_log(run) -> None:
    log = (run / "training.jsonl").read_text()
    (run / "training.jsonl").write_text(log.replace('"val_loss": 0', '"val_loss": 1', 1))


DAMAGE = {
    "a byte of a checkpoint": lambda run: flip(run / "checkpoints" / "step-000000100.safetensors"),
    "the end of a checkpoint": lambda run: os.truncate(
        run / "checkpoints" / "step-000000100.safetensors", 999
    ),
    "two checkpoints, swapped": lambda run: swap(
        *sorted((run / "checkpoints").glob("step-000000?00.*"))[:2]
    ),
    "a byte of the resume state": lambda run: flip(run / "checkpoints" / "resume.safetensors"),
    "a number in the log": edit_the_log,
    "a checkpoint in the middle": lambda run: (
        run / "checkpoints" / "step-000000100.safetensors"
    ).unlink(),
    "the resume state": lambda run: (run / "checkpoints" / "resume.safetensors").unlink(),
    "the log": lambda run: (run / "training.jsonl").unlink(),
    "half of the log": lambda run: os.truncate(
        run / "training.jsonl", (run / "training.jsonl").stat().st_size // 2
    ),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_what_is_missing_or_damaged_is_made_again(smoke, tmp_path, what):
    run = smoke.copy(tmp_path, "checkpoints", "training.jsonl")
    DAMAGE[what](run)
    assert devsort("train", run).code == 0
    assert files(run) == files(smoke.path)


def test_force_starts_again_and_clears_what_another_config_left(tiny_run):
    train(tiny_run)
    first = files(tiny_run.path)
    other = configured(tiny_run, "train.steps=7", "train.seed=1")
    assert train(other, force=True)["steps"] == 7
    assert other.steps() == [1, 2, 3, 6, 7]
    train(tiny_run, force=True)
    assert files(tiny_run.path) == first


@pytest.mark.parametrize("lost", [None, "resume.safetensors"])
def test_another_config_is_refused_and_nothing_lost(tiny_run, lost):
    train(tiny_run)
    if lost:
        (tiny_run.checkpoints / lost).unlink()
    before = files(tiny_run.path)
    assert told(train, configured(tiny_run, "train.lr=0.5")) == (
        f"{tiny_run.checkpoints} was trained from another config (train.lr was 0.001, is 0.5); "
        "undo the change, as with `--set train.lr=0.001`, "
        f"or run `devsort train {tiny_run.path} --force` to discard it and start again"
    )
    assert files(tiny_run.path) == before
    # which training does not depend on
    train(configured(tiny_run, "llc.sampler.lr=0.5", "heads.lists=32"))


def test_a_flipped_byte_in_the_resume_state_names_the_remedy(tiny_run):
    train(tiny_run)
    before = files(tiny_run.path)
    flip(tiny_run.resume_state)
    remedy = f"run `devsort train {tiny_run.path}` to make it again"
    unlike = f"{tiny_run.resume_state} does not match its checksum; {remedy}"
    assert told(Trainer(tiny_run).resume, 20) == unlike
    train(tiny_run)
    assert files(tiny_run.path) == before


def test_divergence_is_one_line_and_no_checkpoint(tiny_run):
    run = configured(tiny_run, "train.lr=1e11", "train.steps=200", "model.layer_norm=false")
    message = told(train, run)
    step = message.removeprefix("training diverged by step ").partition(":")[0]
    assert message == (
        f"training diverged by step {step}: loss or weights are no longer finite; "
        "lower train.lr; the checkpoints before it are kept"
    )
    assert all(saved < int(step) for saved in run.steps())
    assert told(train, run) == message


# ---- device


def test_a_gpu_that_is_not_there_is_told(tiny_run, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    message = "device: cuda is asked for, but torch sees no GPU; use --set device=auto"
    assert told(train, configured(tiny_run, "device=cuda")) == message
    assert resolve_device("auto") == torch.device("cpu")


def test_denormal_floats_are_flushed_where_training_computes():
    with one_core():
        assert float(torch.tensor(1e-39) * 1) == 0
    assert float(torch.tensor(1e-39) * 1) > 0


def test_the_command_is_the_function(tiny_run):
    result = devsort("train", tiny_run.path, "--json")
    assert result.code == 0
    value = json.loads(result.out)
    assert {**train(tiny_run), "steps_per_second": 0} == {**value, "steps_per_second": 0}
