"""The `llc` command: reads the checkpoints of a run, writes draws and the trajectory."""

from collections.abc import Sequence

from devsort.errors import UserError
from devsort.llc.store import Plan, Store, open_store, table_is_current, write_table
from devsort.llc.table import geometry_of, make_table, rows
from devsort.llc.trajectory import sample_trajectory
from devsort.sampling.config import SamplerConfig
from devsort.sampling.geometry import scale_change
from devsort.sorting.artifacts import LLC, LLC_DEVINTERP
from devsort.sorting.checkpoints import load_checkpoint, sampled_steps
from devsort.sorting.geometry import sorter_blocks
from devsort.sorting.model import model_shape
from devsort.sorting.parts import without_gaps
from devsort.sorting.restrictions import expand, restriction_mask
from devsort.sorting.run import Run
from devsort.sorting.samplers import DevinterpSampler, SortSampler, chance_loss, parts_of, settings
from devsort.storage.files import remove

CHANGE = 1.5  # factor by which a block's scale may change without a note


def run_llc(run: Run, force: bool = False, sampler: str = "devsort") -> dict:
    """Samples every chosen checkpoint and restriction of a run, and writes llc.zarr.

    Args:
        run: The run folder.
        force: Sample again even where draws exist.
        sampler: `devsort`, or `devinterp` for the reference, whose draws have their own store.

    Returns:
        run, geometry, trajectory (one row for each checkpoint and restriction), and notes on the
        trajectory as a whole.

    Raises:
        UserError: The run is not trained, a checkpoint is damaged, or the store belongs to another
            config.
    """
    ours = sampler == "devsort"
    if not ours:
        _check_devinterp(run.config.llc.sampler)
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
            table = make_table(store, chance_loss(run))
            write_table(store, table.assign_attrs(notes=notes(run, store)))
        run.forget(artifact)
    dataset = run.read(artifact)
    return {
        "run": str(run.path),
        "geometry": geometry_of(dataset),
        "trajectory": list(rows(dataset)),
        "notes": dataset.attrs["notes"],
    }


def notes(run: Run, store: Store) -> list[str]:
    """Notes on a trajectory as a whole."""
    parts = without_gaps(run.config.llc.parts, store.parts)
    return [*parts, *scale_notes(run, store.steps)]


def scale_notes(run: Run, steps: Sequence[int]) -> list[str]:
    """A note if a block of weights changes its scale by more than CHANGE between checkpoints.

    In absolute geometry the LLC depends on the scale of the weights, so that change is part of the
    curve.
    """
    if run.config.llc.sampler.geometry == "relative":
        return []
    shape = model_shape(run.config.task, run.config.model)
    factor, name = scale_change(
        [load_checkpoint(run, step) for step in steps], sorter_blocks(shape)
    )
    if factor < CHANGE:
        return []
    return [
        f"scale_changes: {name} changes its scale by a factor of {factor:.3g} over these "
        "checkpoints, and in absolute geometry the LLC depends on it: set "
        "llc.sampler.geometry=relative, or see docs/units.md"
    ]


def _check_devinterp(config: SamplerConfig) -> None:
    if config.sampling_method != "sgld":
        fix = "add --set llc.sampler.sampling_method=sgld"
        raise UserError("--sampler devinterp supports only SGLD", fix)


def restrictions(run: Run) -> tuple[str, ...]:
    """The restrictions that a run samples, each checked against the model."""
    names = expand(run.config.llc.restrictions, run.config.model.heads)
    shape = model_shape(run.config.task, run.config.model)
    for name in names:
        restriction_mask(name, shape)
    return names
