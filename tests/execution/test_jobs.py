"""Jobs on processes: who does what, what comes back, and what becomes of a process that dies."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pytest
from commands import HANG, children, last_line, wait_until

from devsort.errors import Interrupted, UserError
from devsort.execution import DIED, crew, jobs, run_jobs
from devsort.execution.processes import UNGUARDED


def halved(job: int, advanced):
    """Needs tensors to be pickled; says where and on how many threads it ran."""
    import torch  # only here: it takes seconds, in each process

    for _ in range(job):
        advanced(2)
    return torch.full((3,), job / 2), os.getpid(), torch.get_num_threads()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_job_is_done_once_and_progress_adds_up(count):
    told = []
    done = dict(run_jobs(halved, [3, 5, 7], count, told.append))
    halves = {job: value.tolist() for job, (value, _, _) in done.items()}
    assert halves == {job: [job / 2] * 3 for job in (3, 5, 7)}
    assert sum(told) == 2 * (3 + 5 + 7)
    pids = {pid for _, pid, _ in done.values()}
    assert (pids == {os.getpid()}) if count == 1 else (os.getpid() not in pids)
    assert all(threads == 1 for _, _, threads in done.values())
    assert not children()


def test_no_jobs_need_no_process():
    assert list(run_jobs(halved, [], 2)) == []
    assert list(run_jobs(halved, [], 2, lost=lambda *_: "lost")) == []


def test_a_process_has_the_cores_it_is_given():
    before = os.environ.get("OMP_NUM_THREADS")
    done = dict(run_jobs(halved, [1, 2], 2, cores=2))
    assert [threads for _, _, threads in done.values()] == [2, 2]
    assert os.environ.get("OMP_NUM_THREADS") == before


# ---- who does what


def key_of(job: str) -> str:
    return job[0]


def pid_unless_held(folder: Path, held: str, job: str, _):
    """Says who did it; the job `held` goes on for as long as there is no file `go`."""
    if job == held:
        wait_until((folder / "go").exists)
    return os.getpid()


def held_up(folder: Path, held: str, names: list[str], **options) -> list[tuple[str, int]]:
    """What comes back where one process is held up until all other jobs are done."""
    results = []
    for result in run_jobs(partial(pid_unless_held, folder, held), names, 2, **options):
        results.append(result)
        if len(results) == len(names) - 1:
            (folder / "go").touch()
    return results


def test_a_slow_process_holds_up_one_job_at_most(tmp_path):
    names = ["a0", "a1", "a2", "a3", "b0", "b1", "b2", "b3"]
    results = held_up(tmp_path, "a0", names, together=key_of)
    assert [name for name, _ in results] == ["b0", "b1", "b2", "b3", "a3", "a2", "a1", "a0"]
    *fast, slow = [pid for _, pid in results]
    assert set(fast) == {fast[0]} and slow != fast[0]


def test_a_key_that_nobody_has_begun_comes_before_the_rest_of_anothers(tmp_path):
    names = ["a0", "a1", "b0", "c0", "b1", "c1"]
    results = held_up(tmp_path, "a0", names, together=key_of)
    assert [name for name, _ in results] == ["b0", "b1", "c0", "c1", "a1", "a0"]


def test_without_keys_jobs_are_begun_in_their_order(tmp_path):
    results = held_up(tmp_path, "a0", ["a0", "a2", "a1", "a3"])
    assert [name for name, _ in results] == ["a2", "a1", "a3", "a0"]


def pid_in_step(folder: Path, job: str, _):
    """Says who did it, when the job of the same number of the other key has begun, too."""
    (folder / job).touch()
    other = {"a": "b", "b": "a"}[job[0]]
    wait_until((folder / f"{other}{job[1]}").exists)
    return os.getpid()


def test_jobs_of_one_key_go_to_one_process(tmp_path):
    names = ["a0", "b0", "b1", "a1", "b2", "a2"]
    done = dict(run_jobs(partial(pid_in_step, tmp_path), names, 2, together=key_of))
    own = {key: {done[name] for name in names if name[0] == key} for key in "ab"}
    assert len(own["a"]) == len(own["b"]) == 1 and own["a"] != own["b"]


def test_one_process_has_the_jobs_of_a_key_one_after_the_other():
    done = run_jobs(lambda job, _: job, ["a0", "b0", "a1", "b1"], 1, together=key_of)
    assert [job for job, _ in done] == ["a0", "a1", "b0", "b1"]


def in_a_daemon(_: int) -> None:
    assert [pid for _, (_, pid, _) in run_jobs(halved, [1, 2], 2)] == [os.getpid()] * 2
    with crew(halved, 1) as members:
        assert not members


def test_a_daemon_of_multiprocessing_does_the_jobs_itself():
    process = get_context("spawn").Process(target=in_a_daemon, args=(0,), daemon=True)
    process.start()
    process.join(HANG)
    assert process.exitcode == 0


def test_jobs_in_flight_are_watched(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "POLL", 0.01)
    watched = []

    def watch(in_flight: list[str]) -> None:
        watched.append(in_flight)
        if len(watched) == 3:
            (tmp_path / "go").touch()

    work = partial(pid_unless_held, tmp_path, "a")
    assert {job for job, _ in run_jobs(work, ["a", "b"], 2, watch=watch)} == {"a", "b"}
    assert watched[0] == ["a", "b"] and len(watched) >= 3
    assert all("a" in in_flight for in_flight in watched[:3])


# ---- errors and deaths


def complaining(job: int, _):
    if job == 1:
        raise UserError("the second job is wrong", "leave it out")
    time.sleep(HANG)


def test_what_a_job_raises_reaches_the_caller_and_ends_the_others():
    with pytest.raises(UserError) as e:
        list(run_jobs(complaining, [0, 1], 2))
    assert str(e.value) == "the second job is wrong; leave it out"
    assert e.value.fix == "leave it out" and "in complaining" in e.value.__notes__[0]
    assert not children()


def unpicklable(job: int, _):
    return lambda: job


def test_a_result_that_cannot_be_sent_is_an_error_of_the_job():
    with pytest.raises((AttributeError, TypeError), match="pickle"):
        list(run_jobs(unpicklable, [0, 1], 2))
    assert not children()


def ended_by(number: signal.Signals, job: int, _):
    if job == 1:
        os.kill(os.getpid(), number)
    time.sleep(HANG)


def test_a_process_that_dies_is_an_error_and_ends_the_others():
    with pytest.raises(UserError) as e:
        list(run_jobs(partial(ended_by, signal.SIGKILL), [0, 1], 2))
    what = "a process that was to compute on one core ended with exit code -9"
    assert str(e.value) == f"{what}; {DIED}"
    assert not children()


SCRIPT = """
import os, sys, time
from devsort.execution import run_jobs

def work(job, _):
    print(os.getpid(), flush=True)
    time.sleep(job)

def main():
    global done
    done = run_jobs(work, [0, 300, 300], 2)
    next(done)

"""


def script(folder: Path, last: str) -> subprocess.CompletedProcess:
    """Runs a script whose last line starts the work."""
    path = folder / "script.py"
    path.write_text(SCRIPT + last)
    command = [sys.executable, path]
    return subprocess.run(command, capture_output=True, text=True, timeout=HANG, check=False)


def test_a_script_that_leaves_jobs_open_ends_and_its_processes_with_it(tmp_path):
    ended = script(tmp_path, 'if __name__ == "__main__": main()')
    assert ended.returncode == 0 and not ended.stderr
    wait_until(lambda: not any(Path("/proc", pid).exists() for pid in ended.stdout.split()))


def test_a_script_that_every_process_would_run_is_an_error_with_the_remedy(tmp_path):
    ended = script(tmp_path, "main()")
    told = "a process that was to compute on one core ended with exit code 1"
    assert last_line(ended.stderr).endswith(f"{told}; {UNGUARDED}")


BY_VALUE = """
import cloudpickle
from devsort.execution import run_jobs

def double(job, _):
    return 2 * job

class Double:
    by_value = True
    __call__ = staticmethod(double)

    def __reduce__(self):
        return cloudpickle.loads, (cloudpickle.dumps(double),)

print(sorted(run_jobs(Double(), [1, 2], 2)))
"""


def test_a_script_whose_work_comes_by_value_needs_no_guard(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(BY_VALUE)
    ended = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=HANG)
    assert (ended.returncode, ended.stderr, ended.stdout) == (0, "", "[(1, 2), (2, 4)]\n")


def within(work: Callable, names: list, _: int, __):
    """Does jobs in processes of a process."""
    return list(run_jobs(work, names, len(names)))


TERMINATED = partial(ended_by, signal.SIGTERM)


@pytest.mark.parametrize("work", [TERMINATED, partial(within, TERMINATED, [0, 1])])
def test_a_process_that_is_terminated_interrupts(work):
    with pytest.raises(Interrupted) as e:
        list(run_jobs(work, [0, 1], 2))
    assert e.value.signum == signal.SIGTERM
    assert not children()


def hearing(job: int, _):
    os.kill(os.getpid(), signal.SIGINT)
    return job


def test_ctrl_c_is_not_heard():
    assert sorted(run_jobs(hearing, [0, 1], 2)) == [(0, 0), (1, 1)]


def dying_times(folder: Path, job: tuple[str, int], _):
    """Dies so many times, then says who did it; notes each begin."""
    name, deaths = job
    with open(folder / name, "a") as f:
        f.write(f"{os.getpid()}\n")
    if len((folder / name).read_text().split()) <= deaths:
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


@pytest.mark.parametrize("count", [1, 2])
def test_a_job_whose_process_died_is_begun_again_until_it_counts_as_lost(tmp_path, count):
    def lost(job: tuple[str, int], deaths: int) -> str | None:
        return f"{job[0]} died {deaths} times" if deaths > 1 else None

    names = [("never", 0), ("once", 1), ("ever", 9), ("after", 0)]
    work = partial(dying_times, tmp_path)
    done = {name: result for (name, _), result in run_jobs(work, names, count, lost=lost)}
    begun = {name: [int(p) for p in (tmp_path / name).read_text().split()] for name in done}
    assert {name: len(pids) for name, pids in begun.items()} == {
        "never": 1, "once": 2, "ever": 2, "after": 1,
    }  # fmt: skip
    assert len(set(begun["once"])) == 2 and done["once"] == begun["once"][1]
    assert done["ever"] == "ever died 2 times"
    assert os.getpid() not in {done["never"], done["after"]}
    assert not children()


# ---- ends


def writing_its_name(folder: Path, advanced):
    """Goes on telling that it works, and never ends by itself."""
    (folder / str(os.getpid())).touch()
    while True:
        time.sleep(0.01)
        advanced(1)


def silent(folder: Path, _):
    """Is in the middle of a job that never ends."""
    (folder / str(os.getpid())).touch()
    time.sleep(HANG)


def test_leaving_early_ends_the_processes():
    with closing(run_jobs(halved, [1, 2, 3], 2)) as done:
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


def names_gone(folder: Path) -> bool:
    return not any((Path("/proc") / path.name).exists() for path in folder.iterdir())


ENDLESS = {
    "while it tells": (writing_its_name, 2),
    "in the middle of a job": (silent, 2),
    "with processes of its own": (partial(within, silent), 4),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_processes_end_with_the_one_that_started_them(tmp_path, what):
    work, count = ENDLESS[what]
    work = partial(work, [tmp_path, tmp_path]) if count == 4 else work
    if (pid := os.fork()) == 0:
        try:
            list(run_jobs(work, [tmp_path, tmp_path], 2))
        finally:
            os._exit(1)
    wait_until(lambda: len(list(tmp_path.iterdir())) == count)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    wait_until(lambda: names_gone(tmp_path))


def test_the_processes_of_a_process_that_dies_end_with_it(tmp_path):
    work = partial(within, silent, [tmp_path, tmp_path])

    def kill_one(_: list) -> None:
        if len(list(tmp_path.iterdir())) == 4:
            os.kill(children()[0], signal.SIGKILL)

    with pytest.raises(UserError, match="ended with exit code -9"):
        list(run_jobs(work, [0, 1], 2, watch=kill_one))
    wait_until(lambda: names_gone(tmp_path))
