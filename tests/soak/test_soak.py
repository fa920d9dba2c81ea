"""The short form of the soak.

A few faults of each kind, which may cost nothing; and proof that it can fail.
"""

import signal
import tempfile

import pytest
from soak import damage, disk, hostile, inputs, kills, lanes, numbers, strangers
from soak.report import Row, table

from devsort.sorting.train import Trainer

SLOW = pytest.mark.slow
HOURS = 10_000.0  # patience where time is not what is tested


@pytest.fixture(autouse=True)
def _in_memory(monkeypatch):
    """Scratch folders in memory where there is room for it.

    Syncing to a disk takes most of the time.
    """
    monkeypatch.setattr(tempfile, "tempdir", inputs.MEMORY_DISK)


def nothing_lost(*rows: Row) -> None:
    assert not any(row.losses for row in rows), "\n" + table(list(rows))
    assert all(row.tried for row in rows if not row.note.startswith("skipped"))


@SLOW
def test_stopped_at_random_moments(smoke):
    """Interruptions of commands by processes are tests of `train` and of the store."""
    durations: dict[str, float] = {}  # measured once for all signals
    alone, every = len(kills.INPUTS), len(kills.STOPPED)
    for with_signal, commands in (
        (signal.SIGKILL, every),
        (signal.SIGINT, alone),
        (signal.SIGTERM, alone),
    ):
        trials = kills.Trials(smoke, with_signal, HOURS, durations=durations)
        rows = trials.run(commands, seed=1)[:commands]
        nothing_lost(*rows)
        assert [row.tried for row in rows] == [1] * commands


@SLOW
def test_a_resume_that_is_not_exact_is_told(smoke, monkeypatch):
    """The harness can fail: Adam's moments are forgotten, which a loss curve would not show."""
    resume = Trainer.resume

    def forgetful(trainer, step):
        resume(trainer, step)
        trainer.adam.state[trainer.flat]["exp_avg"].zero_()

    monkeypatch.setattr(Trainer, "resume", forgetful)
    row, trials, seed = Row("forgets"), kills.Trials(smoke, signal.SIGKILL), 0
    while row.tried < 3:
        trials.trial("train", damage.stream(seed, "forgetful"), row, 1)
        seed += 1
    assert any("differs" in problem for problem in row.losses)


@SLOW
def test_work_that_is_done_again_is_told(smoke, tmp_path):
    run = smoke.copy(tmp_path)
    again = "llc did ['15 h0'] again, which was saved"
    assert kills.wasted("llc", run, {"10 h0", "15 h0"}, ["15 h0"]) == again
    assert kills.wasted("train", run, set(), ["1", "2", "3"]) is None
    lost = kills.wasted("train", run, set(), ["301", "302"])
    assert lost == "train lost units ['301', '302'] … 302, 2 where 0 may be in flight"
    assert kills.wasted("heads", run, set(), ["1", "1"]) == "heads did ['1'] twice"


def test_a_full_disk(smoke):
    nothing_lost(disk.full_disks(smoke, 2), disk.size_limits(smoke, 4, seed=1))


@SLOW
def test_permission_denied(smoke):
    nothing_lost(disk.permissions(smoke))


@SLOW
@pytest.mark.parametrize("kind", damage.KINDS)
def test_damage(smoke, kind, monkeypatch):
    monkeypatch.setattr(damage, "KINDS", {kind: damage.KINDS[kind]})
    nothing_lost(*damage.damages(smoke, 1, seed=2))


def test_two_at_once(smoke):
    nothing_lost(damage.two_at_once(smoke, 2))


@SLOW
def test_hostile_files(smoke):
    nothing_lost(hostile.refusals(smoke))


def test_the_same_numbers(smoke):
    nothing_lost(*numbers.same_numbers(smoke))


@SLOW
def test_five_hundred_bad_inputs():
    nothing_lost(*inputs.rows_of("test"))


@SLOW
def test_files_of_other_programs():
    nothing_lost(*inputs.rows_of("test", strangers.PROPERTIES))


def test_two_hundred_lanes():
    nothing_lost(lanes.long_run(200))


def test_the_table_counts_what_was_tried_survived_and_lost():
    row = Row("flood")
    for problem in (None, "the basement", None):
        row.count(problem)
    assert table([row]).splitlines() == [
        f"{'fault':44}   tried  survived  lost  note",
        f"{'flood':44}       3         2     1",
        "lost, flood: the basement",
    ]
