"""The `susceptibility` command: reads checkpoints and llc.zarr, writes susceptibility.zarr."""

from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from devsort.charts.style import BOTH, WIDTH, save_figure
from devsort.errors import UserError, saying
from devsort.execution import progress, run_jobs
from devsort.llc.store import OWN
from devsort.llc.trajectory import Job, stacks
from devsort.sorting.artifacts import LLC, SUSCEPTIBILITY
from devsort.sorting.charts.susceptibility import plot
from devsort.sorting.restrictions import expand
from devsort.sorting.run import Run
from devsort.sorting.samplers import settings
from devsort.sorting.susceptibility import parts, tables
from devsort.sorting.susceptibility.sampler import Cells, Followed, ResponseSampler
from devsort.storage.datasets import write_dataset

if TYPE_CHECKING:
    import xarray as xr


def run_susceptibility(
    run: Run, force: bool = False, kinds: Sequence[str] = BOTH, width: float = WIDTH
) -> dict[str, Any]:
    """Evaluates the probe at the LLC's draws of a run, writes susceptibility.zarr and draws it.

    Measures nothing if susceptibility.zarr is up to date.

    Raises:
        UserError: The LLC is missing, or it was not sampled for a component.
    """
    found = run.update(SUSCEPTIBILITY, _measured, write_dataset, force)
    with run.lock():
        files = save_figure(plot(found, width), run.figures, "susceptibility", kinds)
    return {
        "run": str(run.path),
        "rows": tables.rows(found),
        "files": [str(path) for path in files],
    }


def components(run: Run) -> tuple[str, ...]:
    """The components of a run.

    Raises:
        UserError: The LLC was not sampled for one of them.
    """
    names = expand(run.config.susceptibility.components, run.config.model.heads)
    sampled = expand(run.config.llc.restrictions, run.config.model.heads)
    if unknown := [name for name in names if name not in sampled]:
        what = f"susceptibility.components: {unknown[0]!r} is not among llc.restrictions"
        raise UserError(what, f"use {', '.join(sampled)}, or add it there and run `devsort llc`")
    return names


def cells_of(run: Run, names: Sequence[str]) -> Cells:
    """The final settings of the LLC's draws, by (step, component)."""
    llc, config = run.read(LLC), settings(run)
    found = {}
    for name in names:
        one = llc[list(OWN)].sel(restriction=name).load()
        for i, step in enumerate(one.checkpoint.values.tolist()):
            own = {setting: one[have][i].item() for have, setting in OWN.items()}
            found[step, name] = config.model_copy(update=own)
    return found


def _measured(run: Run) -> "xr.Dataset":
    names = components(run)
    cells = cells_of(run, names)
    kept = {cell: found for cell in cells if (found := parts.load(run, *cell)) is not None}
    sampler = ResponseSampler(run, cells)
    jobs = [job for job in _jobs(sampler, cells, names) if not _done(job, kept)]
    with saying(lambda: f"{len(kept)} of {len(cells)} cells are done and saved"):
        _follow(run, sampler, jobs, kept)
    return tables.dataset(kept, sampler.probe, run)


def _follow(
    run: Run, sampler: ResponseSampler, jobs: Sequence[Job], kept: dict[tuple, Followed]
) -> None:
    count = len(sampler.cells)
    bar = progress(desc="susceptibility", unit="cell", total=count, initial=len(kept))
    steps = sum(
        sampler.cells[step, job.restriction].num_steps for job in jobs for step in job.steps
    )
    processes = sampler.sampler.processes(steps * sampler.sampler.config.num_chains)
    work = run_jobs(sampler, jobs, processes, bar.update, together=lambda job: job.steps)
    with bar, closing(work) as results:
        for job, found in results:
            for step, followed in found.items():
                kept[step, job.restriction] = followed
                parts.save(run, step, job.restriction, followed)


def _jobs(sampler: ResponseSampler, cells: Cells, names: Sequence[str]) -> list[Job]:
    steps = sorted({step for step, _ in cells})
    every = stacks(len(steps), sampler.sampler.stack, sampler.sampler.fewest)
    return [Job(tuple(steps[i] for i in stack), name) for stack in every for name in names]


def _done(job: Job, kept: dict[tuple, Followed]) -> bool:
    return all((step, job.restriction) in kept for step in job.steps)
