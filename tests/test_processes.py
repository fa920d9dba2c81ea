"""Jobs on processes: what comes back, what is told, and that nothing outlives the process that started it."""

import os
import signal
import time
from contextlib import closing
from pathlib import Path

import pytest
import torch
from commands import HANG, children, wait_until

from devsort.errors import UserError
from devsort.processes import DIED, run_jobs


def halved(job: int, advanced):
    """Needs tensors to be pickled; says where and on how many threads it ran."""
    for _ in range(job):
        advanced(2)
    return torch.full((3,), job / 2), os.getpid(), torch.get_num_threads()


def complaining(job: int, advanced):
    if job == 1:
        raise UserError("the second job is wrong", "leave it out")
    time.sleep(HANG)


def dying(job: int, advanced):
    if job == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(HANG)


def writing_its_name(folder: Path, advanced):
    """Goes on telling that it works, and never ends by itself."""
    (folder / str(os.getpid())).touch()
    while True:
        time.sleep(0.01)
        advanced(1)


def silent(_: int) -> None:
    pass


@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_job_is_done_once_and_progress_adds_up(count):
    told = []
    done = dict(run_jobs(halved, [3, 5, 7], count, told.append))
    assert {job: value.tolist() for job, (value, _, _) in done.items()} == {j: [j / 2] * 3 for j in (3, 5, 7)}
    assert sum(told) == 2 * (3 + 5 + 7)
    pids = {pid for _, pid, _ in done.values()}
    assert (pids == {os.getpid()}) if count == 1 else (os.getpid() not in pids)
    assert all(threads == 1 for _, _, threads in done.values())
    assert not children()


def test_what_a_job_raises_reaches_the_caller_and_ends_the_others():
    with pytest.raises(UserError) as e:
        list(run_jobs(complaining, [0, 1], 2, silent))
    assert str(e.value) == "the second job is wrong; leave it out"
    assert e.value.fix == "leave it out" and "in complaining" in e.value.__notes__[0]
    assert not children()


def test_a_process_that_dies_is_told_and_ends_the_others():
    with pytest.raises(UserError) as e:
        list(run_jobs(dying, [0, 1], 2, silent))
    assert str(e.value) == f"a process that was to compute on one core ended with exit code -9; {DIED}"
    assert not children()


def test_leaving_early_ends_the_processes():
    with closing(run_jobs(halved, [1, 2, 3], 2, silent)) as done:
        next(done)
        assert len(children()) == 2
    assert not children()


def test_what_is_interrupted_between_two_results_ends_the_processes(tmp_path):
    class Interruption(BaseException):
        pass

    def interrupt(_: int) -> None:
        raise Interruption

    with pytest.raises(Interruption):
        list(run_jobs(writing_its_name, [tmp_path, tmp_path], 2, interrupt))
    assert not children()


def test_processes_end_with_the_one_that_started_them(tmp_path):
    if (pid := os.fork()) == 0:
        try:
            list(run_jobs(writing_its_name, [tmp_path, tmp_path], 2, silent))
        finally:
            os._exit(1)
    wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    workers = [Path("/proc") / path.name for path in tmp_path.iterdir()]
    wait_until(lambda: not any(path.exists() for path in workers))
