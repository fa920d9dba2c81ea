"""The `llc` command: checkpoints of a run in, draws and the trajectory out."""

from devsort.llc.store import Plan, open_store, table_is_current, write_table
from devsort.llc.table import make_table, rows
from devsort.llc.trajectory import sample_trajectory
from devsort.sorting.artifacts import LLC, LLC_DEVINTERP
from devsort.sorting.checkpoints import sampled_steps
from devsort.sorting.model import model_shape
from devsort.sorting.restrictions import expand, restriction_mask
from devsort.sorting.run import Run
from devsort.sorting.samplers import DevinterpSampler, SortSampler, chance_loss, parts_of, settings
from devsort.storage.files import remove


def run_llc(run: Run, force: bool = False, sampler: str = "devsort") -> dict:
    """Samples every chosen checkpoint and restriction of a run, and writes llc.zarr.

    Args:
        run: The run folder.
        force: Sample again what is already there.
        sampler: `devsort`, or `devinterp` for the reference, which has its own store beside ours.

    Returns:
        run and trajectory, one row for each checkpoint and restriction.

    Raises:
        UserError: The run is not trained, a checkpoint is damaged, or the store belongs to another
            config.
    """
    ours = sampler == "devsort"
    artifact = LLC if ours else LLC_DEVINTERP
    with run.lock():
        path = run.file(artifact)
        if force:
            remove(path)
        parts = tuple(parts_of(run)) if ours else ()
        plan = Plan(sampled_steps(run), restrictions(run), parts, settings(run))
        store = open_store(path, run.origin(artifact), plan)
        sample_trajectory(store, (SortSampler if ours else DevinterpSampler)(run), run.path.name)
        if not table_is_current(store):
            write_table(store, make_table(store, chance_loss(run)))
        run.forget(artifact)
    return {"run": str(run.path), "trajectory": list(rows(run.read(artifact)))}


def restrictions(run: Run) -> tuple[str, ...]:
    """The restrictions that a run samples, each checked against its model."""
    names = expand(run.config.llc.restrictions, run.config.model.heads)
    shape = model_shape(run.config.task, run.config.model)
    for name in names:
        restriction_mask(name, shape)
    return names
