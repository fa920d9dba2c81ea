"""The LLC over training.

Every checkpoint and restriction is sampled and then stored. The sampling is done by a `Sampler`,
which also knows where the checkpoints come from; `devsort.sorting.samplers` has those of the
sorting model.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

from devsort.errors import saying
from devsort.execution import progress, run_jobs
from devsort.llc.store import Store
from devsort.sampling.trace import Trace


@dataclass(frozen=True)
class Job:
    """A unit of work: one restriction at some checkpoints, which are sampled together."""

    steps: tuple[int, ...]
    restriction: str


class Sampler(Protocol):
    """Samples jobs. It is pickled if it runs in other processes.

    Attributes:
        stack: The largest number of checkpoints that are sampled together.
        fewest: The smallest number of stacks that a trajectory is divided into.
    """

    @property
    def stack(self) -> int: ...  # noqa: D102

    @property
    def fewest(self) -> int: ...  # noqa: D102

    def processes(self, chain_steps: int) -> int:
        """Returns how many processes to use for this number of chain-steps."""
        ...

    def __call__(self, job: Job, advanced: Callable[[int], None]) -> dict[int, Trace]:
        """Returns the trace of each checkpoint.

        Calls `advanced` with the number of chain-steps done since the previous call.
        """
        ...


# a function with the signature of `execution.run_jobs`, which runs jobs on this machine
Engine = Callable[..., Iterator[tuple[Any, Any]]]


def sample_trajectory(store: Store, sampler: Sampler, name: str, engine: Engine = run_jobs) -> None:
    """Samples the checkpoints that a store does not have yet. Each is stored when it is done.

    Args:
        store: The store, opened for writing.
        sampler: Samples the jobs.
        name: Name of the trajectory, for the progress bar.
        engine: Distributes the jobs.
    """
    if todo := store.todo():
        count = len(store.steps)
        left = set(todo)
        with saying(lambda: f"{count - len(left)} of {count} checkpoints are sampled and saved"):
            _sample(store, sampler, left, name, engine)


def stacks(count: int, most: int, fewest: int) -> list[range]:
    """Divides checkpoints into stacks that are sampled together, and returns their positions.

    A stack has at most `most` checkpoints, and there are at least `fewest` stacks, or one per
    checkpoint if there are fewer checkpoints. The result depends on the config and the kind of
    device, but not on the number of cores or on what is already done. So a resumed trajectory
    stacks the same lanes, and computes the same bits.
    """
    size = max(1, min(most, count // fewest))
    return [range(i, min(i + size, count)) for i in range(0, count, size)]


def _sample(store: Store, sampler: Sampler, left: set[int], name: str, engine: Engine) -> None:
    all_stacks = stacks(len(store.steps), sampler.stack, sampler.fewest)
    chosen = [stack for stack in all_stacks if set(stack) & left]
    jobs = [_job(store, stack, r) for stack in chosen for r in store.restrictions]
    c = store.sampler
    total = sum(len(job.steps) for job in jobs) * c.num_chains * c.num_steps
    done: dict[tuple[int, ...], dict[str, dict[int, Trace]]] = {}
    with progress(total=total, desc=f"llc {name}", unit="chain-step", unit_scale=True) as bar:
        work = engine(sampler, jobs, sampler.processes(total), bar.update, together=_steps_of)
        with closing(work) as results:  # type: ignore[type-var]  # a generator
            for job, traces in results:
                done.setdefault(job.steps, {})[job.restriction] = traces
                if len(done[job.steps]) == len(store.restrictions):
                    _write(store, job.steps, done.pop(job.steps), left)


def _job(store: Store, stack: range, restriction: str) -> Job:
    return Job(tuple(store.steps[i] for i in stack), restriction)


def _steps_of(job: Job) -> tuple[int, ...]:
    return job.steps


def _write(
    store: Store, steps: Sequence[int], by_name: dict[str, dict[int, Trace]], left: set[int]
) -> None:
    for step in steps:
        position = store.steps.index(step)
        if position in left:
            store.write(position, [by_name[name][step] for name in store.restrictions])
            left.remove(position)
