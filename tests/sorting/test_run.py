"""Run folders: a folder and its config, one writer at a time, every artifact verified once."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from folders import KEPT, hashes, names, told

from devsort.sorting.artifacts import CHECKPOINTS, HEADS, LLC, STAGES
from devsort.sorting.checkpoints import load_checkpoint, save_checkpoint, trained_steps
from devsort.sorting.run import Run, init_run, open_run

TENSORS = {"w": torch.arange(6.0).view(2, 3), "b": torch.zeros(2)}

# ---- opening a run


def test_a_run_is_its_folder_and_its_config(tiny_run, tiny_config):
    assert tiny_run.config == tiny_config
    assert open_run(str(tiny_run.path), ("train.steps=7",)).config.train.steps == 7
    assert tiny_run.checkpoint(12) == tiny_run.path / "checkpoints" / "step-000000012.safetensors"


@pytest.mark.parametrize(
    "name", ["absent", "a file", "a\0b", "x" * 5000], ids=["absent", "file", "nul", "too long"]
)
def test_what_is_no_folder_is_named(tmp_path, name):
    (tmp_path / "a file").write_text("")
    shown = str(tmp_path / name).replace("\0", "\\x00")
    fix = f"give a run folder, or make one with `devsort init {shown}`"
    assert told(open_run, tmp_path / name) == f"{shown} is not a folder; {fix}"


def test_a_new_run_folder_holds_every_setting_and_is_a_run(tmp_path):
    run = init_run(tmp_path / "a" / "new", overrides=("train.steps=7",))
    assert run.config.train.steps == 7 and names(run.path) == ["config.yaml"]
    assert "# from 1; optimiser steps" in (run.path / "config.yaml").read_text()
    other = init_run(str(tmp_path / "b"), run.path, ("train.lr=0.5",))
    assert (other.config.train.steps, other.config.train.lr) == (7, 0.5)


@pytest.mark.parametrize("there", ["a file", "a folder with something in it"])
def test_nothing_that_is_there_is_written_over(tmp_path, there):
    path = tmp_path / "x"
    (path if there == "a file" else path / "y").parent.mkdir(exist_ok=True)
    (path if there == "a file" else path / "y").write_text("mine")
    before = hashes(tmp_path)
    assert told(init_run, path) == f"{path} already exists; choose a new name"
    assert hashes(tmp_path) == before


def test_a_foreign_folder_is_named(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"\xff\xd8")
    fix = "name a run folder, or make one with `devsort init FOLDER`"
    assert told(open_run, tmp_path) == f"{tmp_path}/config.yaml does not exist; {fix}"


def test_a_run_folder_with_a_tag_in_its_config_runs_nothing(tmp_path):
    canary = tmp_path / "canary"
    tag = f"device: !!python/object/apply:os.system ['touch {canary}']"
    (tmp_path / "config.yaml").write_text(tag)
    assert told(open_run, tmp_path).startswith(f"{tmp_path}/config.yaml is not valid YAML (")
    assert not canary.exists()


# ---- checkpoints


def test_steps_are_those_of_whole_checkpoints(tiny_run):
    assert tiny_run.steps() == []
    for step in (20, 3, 1_000_000_000):
        save_checkpoint(tiny_run, step, TENSORS)
    for stray in (
        "step-abc.safetensors",
        "step-7.safetensors",
        ".tmp-step-000000009.safetensors",
        "step-000000008 (1).safetensors",
    ):
        (tiny_run.checkpoints / stray).write_text("")
    assert tiny_run.steps() == [3, 20, 1_000_000_000]


def test_an_untrained_and_a_half_trained_run_are_named(tiny_run):
    fix = f"run `devsort train {tiny_run.path}` first"
    assert told(trained_steps, tiny_run) == f"{tiny_run.path} has no checkpoints yet; {fix}"
    save_checkpoint(tiny_run, 19, TENSORS)
    assert told(trained_steps, tiny_run) == f"{tiny_run.path} was trained to step 19 of 20; {fix}"
    save_checkpoint(tiny_run, 20, TENSORS)
    assert trained_steps(tiny_run) == [19, 20]


def test_a_checkpoint_comes_back_for_its_own_config_alone(tiny_run):
    save_checkpoint(tiny_run, 5, TENSORS)
    assert torch.equal(load_checkpoint(tiny_run, 5)["w"], TENSORS["w"])
    path, fix = tiny_run.checkpoint(5), f"run `devsort train {tiny_run.path}` to make it again"
    other = open_run(tiny_run.path, ("train.lr=0.5",))
    changed = "another config (train.lr was 0.001, is 0.5)"
    undo = "undo the change, as with `--set train.lr=0.001`"
    assert told(load_checkpoint, other, 5) == f"{path} was made from {changed}; {undo}, or {fix}"
    renamed = path.rename(tiny_run.checkpoint(6))
    assert told(load_checkpoint, tiny_run, 6) == f"{renamed} has step 5, expected 6; {fix}"
    assert told(load_checkpoint, tiny_run, 5) == f"{path} is missing; {fix}"


# ---- what artifacts are made from


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("train.weight_decay=0.1", {CHECKPOINTS, LLC, HEADS, STAGES}),
        ("task.seed=1", {CHECKPOINTS, LLC, HEADS, STAGES}),
        ("model.heads=1", {CHECKPOINTS, LLC, HEADS, STAGES}),
        ("llc.max_checkpoints=5", {LLC, STAGES}),
        ("heads.lists=32", {HEADS, STAGES}),
        ("stages.bootstrap=9", {STAGES}),
        ("device=auto", set()),
        ("memory=7", set()),
        ("train.seed=0", set()),  # a default written out
    ],
)
def test_an_artifact_depends_on_its_sections_and_on_nothing_else(tiny_run, override, changed):
    other = open_run(tiny_run.path, (override,))
    every = (CHECKPOINTS, LLC, HEADS, STAGES)
    assert changed == {
        a for a in every if other.resolved(*a.sections) != tiny_run.resolved(*a.sections)
    }


def test_an_artifact_holds_its_config_with_the_defaults_filled_in(tiny_run):
    made = json.loads(tiny_run.origin(CHECKPOINTS).resolved)
    full = tiny_run.config.model_dump(mode="json")
    assert made == {name: full[name] for name in ("task", "model", "train")}


# ---- the lock


def test_a_second_writer_is_told_who_holds_the_folder(tiny_run):
    def second():
        with tiny_run.lock():
            raise AssertionError("two writers")

    with tiny_run.lock():
        holder = f"{tiny_run.path} is in use by process {os.getpid()}"
        assert told(second) == f"{holder}; wait for it, or stop that process"
    with tiny_run.lock():
        pass


HOLD = """
import sys, time
from devsort.sorting.run import open_run
with open_run(sys.argv[1]).lock():
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
def test_a_lock_is_seen_by_other_processes_and_ends_with_its_own_however_it_ends(tiny_run):
    command = [sys.executable, "-c", HOLD, str(tiny_run.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        holder = f"{tiny_run.path} is in use by process {other.pid}"
        message = told(tiny_run.lock().__enter__)
        assert message == f"{holder}; wait for it, or stop that process"
        other.kill()
    with tiny_run.lock():
        assert (tiny_run.path / ".lock").read_text() == f"process {os.getpid()}"


def test_a_stale_lock_file_is_no_lock(tiny_run):
    (tiny_run.path / ".lock").write_text("process 999999999 with a long name")
    with tiny_run.lock():
        assert (tiny_run.path / ".lock").read_text() == f"process {os.getpid()}"


def test_a_holder_without_a_name_is_another_process(tiny_run):
    with open(tiny_run.path / ".lock", "w") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        message = told(tiny_run.lock().__enter__)
    holder = f"{tiny_run.path} is in use by another process"
    assert message == f"{holder}; wait for it, or stop that process"


def fill(folder: Path, text: str) -> None:
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "file").write_text(text)


def test_the_lock_clears_what_killed_writers_left(tiny_run):
    save_checkpoint(tiny_run, 5, TENSORS)
    before = names(tiny_run.path)
    fill(tiny_run.path / ".tmp-llc.zarr" / ".tmp-inside", "half")
    (tiny_run.checkpoints / ".tmp-step-000000006.safetensors").write_text("half")
    with tiny_run.lock():
        assert names(tiny_run.path) == sorted([".lock", *before])


def test_a_folder_that_cannot_be_locked_is_named(tiny_run):
    gone = Run(tiny_run.path / "gone", tiny_run.config)
    lock = f"{gone.path}/.lock cannot be written (No such file or directory)"
    assert told(gone.lock().__enter__) == f"{lock}{KEPT}"
