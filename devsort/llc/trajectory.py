"""The LLC over training.

Every checkpoint and restriction is sampled, stored as it is done, and estimated. What samples is a
`Sampler`; it says where checkpoints come from. `devsort.sorting.samplers` has those of a sorter.
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
    """A piece of work: one restriction at some checkpoints, which are sampled side by side."""

    steps: tuple[int, ...]
    restriction: str


class Sampler(Protocol):
    """Who samples; it is pickled where it works in other processes.

    Attributes:
        stack: How many checkpoints are sampled side by side, at most.
        fewest: How many stacks a trajectory is cut into, at least.
    """

    @property
    def stack(self) -> int: ...  # noqa: D102

    @property
    def fewest(self) -> int: ...  # noqa: D102

    def processes(self, chain_steps: int) -> int:
        """How many processes so many steps of chains are worth."""
        ...

    def __call__(self, job: Job, advanced: Callable[[int], None]) -> dict[int, Trace]:
        """The trace of each checkpoint.

        `advanced` is called with the chain-steps done since the last call.
        """
        ...


# has the face of `execution.run_jobs`, which is the one for this machine
Engine = Callable[..., Iterator[tuple[Any, Any]]]


def sample_trajectory(store: Store, sampler: Sampler, name: str, engine: Engine = run_jobs) -> None:
    """Samples what a store still lacks; each checkpoint is stored as soon as it is done.

    Args:
        store: Opened for writing.
        sampler: Samples.
        name: Of the trajectory, for the line of progress.
        engine: Hands out the jobs.
    """
    if todo := store.todo():
        count = len(store.steps)
        left = set(todo)
        with saying(lambda: f"{count - len(left)} of {count} checkpoints are sampled and saved"):
            _sample(store, sampler, left, name, engine)


def stacks(count: int, most: int, fewest: int) -> list[range]:
    """Positions of the checkpoints that are sampled side by side.

    At most `most` of them, in `fewest` stacks or more. Fewer checkpoints than `fewest` are each a
    stack of their own. A function of the config and the kind of device, never of the cores or of
    what is left to do: a resumed trajectory stacks the same lanes, so it computes the same bits.
    """
    size = max(1, min(most, count // fewest))
    return [range(i, min(i + size, count)) for i in range(0, count, size)]


def _sample(store: Store, sampler: Sampler, left: set[int], name: str, engine: Engine) -> None:
    every = stacks(len(store.steps), sampler.stack, sampler.fewest)
    chosen = [stack for stack in every if set(stack) & left]
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
