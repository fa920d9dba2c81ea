"""Cells on this machine: the same results as the commands, whatever dies on the way."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from commands import Process, children
from sweeps import tiny_jobs, write_study

from devsort.errors import InUse
from devsort.execution import jobs
from devsort.sorting.artifacts import HEADS, LLC
from devsort.sorting.checkpoints import load_checkpoint
from devsort.sorting.heads import run_heads
from devsort.sorting.llc import run_llc
from devsort.sorting.run import open_run
from devsort.sorting.train import train
from devsort.storage.files import locked
from devsort.sweep import load_table
from devsort.sweep.cell import current_step
from devsort.sweep.local import run_local

LONG = 300  # steps that take long enough to be caught at it


@pytest.fixture(autouse=True)
def _often(monkeypatch):
    monkeypatch.setattr(jobs, "POLL", 0.02)


def quiet(_):
    pass


def test_a_cell_has_the_bits_of_the_commands(tmp_path):
    """Beside it the commands with two threads; the worker has one."""
    (job,) = tiny_jobs(tmp_path, grid={"seed": [4]}, steps=["train", "llc", "heads"])
    assert [o.error for o in run_local([job], 1, 1, quiet)] == [None]
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "config.yaml").write_text(job.config)
    run, cell = open_run(plain), open_run(job.folder)
    train(run), run_llc(run), run_heads(run)
    assert run.steps() == cell.steps()
    for step in run.steps():
        ours, theirs = load_checkpoint(cell, step), load_checkpoint(run, step)
        assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    for artifact in (LLC, HEADS):
        ours, theirs = cell.read(artifact), run.read(artifact)
        assert ours.drop_attrs().identical(theirs.drop_attrs())


def test_a_failing_cell_does_not_stop_the_rest_and_a_worker_has_one_thread(tmp_path):
    grid = {"train.lr": [0.001, 1e11, 0.002]}
    cells = tiny_jobs(
        tmp_path, grid=grid, steps=["train"], set={"train.steps": 200, "model.layer_norm": False}
    )
    before = os.environ.get("OMP_NUM_THREADS")
    outcomes = {o.name: o for o in run_local(cells, 2, 1, quiet)}
    assert os.environ.get("OMP_NUM_THREADS") == before
    assert [outcomes[job.folder.name].error is None for job in cells] == [True, False, True]
    assert outcomes["lr1e_11"].error.startswith("training diverged by step ")
    assert not outcomes["lr1e_11"].defect


def test_a_cell_whose_process_is_killed_is_done_again_and_told_the_second_time(tmp_path):
    cells = tiny_jobs(tmp_path, grid={"train.steps": [LONG, LONG + 1, 20]}, steps=["train"])
    kills, killed = {"steps300": 2, "steps301": 1, "steps20": 0}, set()

    def kill(running):
        (job,) = running
        alive = set(children()) - killed
        if alive and kills[job.folder.name] and current_step(job.folder):
            kills[job.folder.name] -= 1
            killed.update(alive)
            os.kill(alive.pop(), signal.SIGKILL)

    outcomes = {o.name: o for o in run_local(cells, 1, 1, kill)}
    assert list(outcomes) == ["steps300", "steps301", "steps20"] and not any(kills.values())
    assert outcomes["steps301"].error is None and outcomes["steps20"].error is None
    lost, log = outcomes["steps300"], cells[0].folder / "sweep.log"
    told = "its process died 2 times, for lack of memory or by a signal"
    assert lost.defect and lost.error == f"{told}; {log} may say why"
    assert not children()


def records(out: Path) -> dict[str, int]:
    """Finished cells and when their record was written."""
    return {p.parent.name: p.stat().st_mtime_ns for p in out.glob("*/cell.json")}


def wait_until_free(folder: Path) -> None:
    """A worker that outlived its sweep would hold its folder, for minutes."""
    deadline = time.monotonic() + 30
    while True:
        try:
            with locked(folder):
                return
        except InUse:
            assert time.monotonic() < deadline, "a worker outlived its sweep"
            time.sleep(0.1)


@pytest.mark.parametrize(
    ("with_signal", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_sweep_that_is_ended_loses_only_what_was_in_flight(tmp_path, with_signal, code):
    study, out = (
        write_study(tmp_path, grid={"train.steps": [20, 100_000]}, steps=["train"]),
        tmp_path / "out",
    )
    long, log = out / "steps100000", tmp_path / "log"

    def one_is_done_and_one_in_flight():
        return bool(records(out)) and (long / "checkpoints" / "resume.safetensors").is_file()

    process = Process(log, "sweep", study, "--out", out, "--workers", "1")
    assert process.stop_when(one_is_done_and_one_in_flight, with_signal) == code
    wait_until_free(long)
    before = records(out)
    assert set(before) == {"steps20"}
    # and the sweep goes on from there; a shorter long cell, or it would take minutes
    if with_signal is signal.SIGKILL:
        write_study(tmp_path, grid={"train.steps": [20, 21]}, steps=["train"])
        assert Process(log, "sweep", study, "--out", out, "--workers", "1").wait() == 0
        after = records(out)
        assert before.items() <= after.items() and set(after) == {"steps20", "steps21"}
        assert load_table(out).cell.tolist() == ["steps20", "steps21"]
    else:
        last = log.read_text().replace("\r", "\n").rstrip("\n").rpartition("\n")[2]
        assert last.endswith("finished work is saved, the same command goes on from there")
