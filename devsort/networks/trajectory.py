"""The LLC of any network over training, from checkpoints to a documented data set."""

import json
import math
import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch.utils._pytree import tree_leaves

from devsort.errors import Stale, UserError
from devsort.execution import run_jobs
from devsort.llc.describe import described
from devsort.llc.store import Plan, Store, open_store, read_store, table_is_current, write_table
from devsort.llc.table import make_table
from devsort.llc.trajectory import Engine, sample_trajectory
from devsort.networks.restrictions import masks_of
from devsort.networks.sampler import NetworkSampler, Work, device_of
from devsort.networks.sources import source_of
from devsort.sampling import SamplerConfig
from devsort.sampling.api import one_by_one, refuse_unresolved, row_masks
from devsort.sampling.data import as_data
from devsort.sampling.geometry import Blocks, scale_change
from devsort.sampling.losses import Loss
from devsort.sampling.masks import Mask
from devsort.sampling.modules import ModuleLoss, types_note
from devsort.sampling.objective import sampled, weights_of
from devsort.storage.artifact import Origin, identity
from devsort.storage.files import locked, remove
from devsort.storage.tensors import checksum

if TYPE_CHECKING:
    import xarray as xr

AGAIN = "llc_trajectory(…, options=Options(force=True))"
CHANGE = 1.5  # factor by which a block's scale may change without a note, in absolute geometry
SAME_LOSS = 1e-3  # relative difference between losses at the same weights that rounding can explain


@dataclass(frozen=True)
class Options:
    """Options for computing a trajectory.

    Attributes:
        chance_loss: Loss of a uniform guess in nats, such as ln V; None if this has no meaning.
        blocks: In relative geometry, the weights that share a scale; see `geometry.block_scales`.
        device: A torch device, such as `cuda:1`, or `auto` for the GPU if there is one.
        memory: MiB that lanes sampled at once may use together.
        processes: Number of processes on a CPU. With None, one per core.
        engine: `local`, or `ray` for a Ray cluster whose nodes can read the checkpoints.
        address: Address of the cluster. With None, one is found or started on this machine.
        gpus: Fraction of a GPU that each task of the cluster uses.
        force: Whether to sample again what is already in the store.
    """

    chance_loss: float | None = None
    blocks: Blocks | None = None
    device: str = "auto"
    memory: int = 1024
    processes: int | None = None
    engine: Literal["local", "ray"] = "local"
    address: str | None = None
    gpus: float = 0.0
    force: bool = False


def llc_trajectory(
    loss: Loss,
    checkpoints: Any,
    data: Any = None,
    config: SamplerConfig | None = None,
    *,
    restrictions: Mapping[str, Any] | None = None,
    parts: Mapping[str, Any] | None = None,
    store: str | Path | None = None,
    options: Options | None = None,
) -> "xr.Dataset":
    """Estimates the LLC at every checkpoint, for the whole model and for each restriction.

    Args:
        loss: As for `sample`; for a module, `module_loss(module, …)[0]`.
        checkpoints: A folder, step → state dict, or (steps, function); see `sources`.
        data: As for `sample`.
        config: Sampler settings.
        restrictions: Name → the weights that move, in addition to the whole model; see
            `restrictions`.
        parts: Name → rows of the data whose loss is recorded, as row numbers or a bool mask.
        store: Folder for the draws, such as llc.zarr. Each checkpoint is written when it is done,
            and after an interruption the same call resumes. With None, the draws are only kept in
            memory.
        options: Device, memory, processes, and more.

    Returns:
        One estimate for each checkpoint and restriction, together with the draws. Every variable
        has a description and a unit. `to_dataframe` converts it to a table.

    Raises:
        UserError: If checkpoints, restrictions or parts do not fit, or the loss cannot be sampled.
        Stale: If the store was made from other inputs.
    """
    o = options or Options()
    work = _work(loss, checkpoints, data, config or SamplerConfig(), restrictions, parts, o)
    with tempfile.TemporaryDirectory() if store is None else nullcontext() as folder:
        path = (Path(str(folder), "llc.zarr") if store is None else Path(store)).resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.parent):
            dataset = _made(path, "in memory" if store is None else path.parent.name, work, o)
        return described(dataset.load() if store is None else dataset)


def _work(
    loss: Loss,
    checkpoints: Any,
    data: Any,
    config: SamplerConfig,
    restrictions: Mapping[str, Any] | None,
    parts: Mapping[str, Any] | None,
    o: Options,
) -> Work:
    refuse_unresolved(config)
    device = device_of(o.device)
    data = None if data is None else as_data(data)
    work = Work(loss, source_of(checkpoints), data, config, {}, {}, o.blocks, device, o.memory)
    first = sampled(work.state(work.source.steps[0]))
    params = {name: first[name] for name in weights_of(loss, first)}
    return work.with_choices(masks_of(restrictions, params, loss), row_masks(parts or {}, data))


def _made(path: Path, name: str, work: Work, o: Options) -> "xr.Dataset":
    _refuse_no_store(path)
    if o.force:
        remove(path)
    plan = Plan(work.source.steps, tuple(work.masks), tuple(work.parts), work.config)
    origin = _origin(work)
    store = open_store(path, origin, plan)
    sampler = NetworkSampler(work, o.processes)
    _check_same_loss(store, sampler.probe)
    sample_trajectory(store, sampler, name, _engine(o))
    if not table_is_current(store):
        table = make_table(store, o.chance_loss)
        write_table(store, table.assign_attrs(notes=_notes(work, sampler)))
    return read_store(path, origin)[0]


def _refuse_no_store(path: Path) -> None:
    """Raises an error if the path is something other than a store, which `force` would remove."""
    removable = path.is_dir() and ((path / "zarr.json").exists() or not any(path.iterdir()))
    if path.exists() and not removable:
        raise UserError(f"{path} exists and is not a store of draws", "give the store another name")


def _origin(work: Work) -> Origin:
    """Returns what a store is made from. A loss is identified by its value; see the check below."""
    resolved = {
        "sampler": work.config.model_dump(mode="json"),
        "restrictions": {name: _mask_identity(mask) for name, mask in work.masks.items()},
        "parts": {name: checksum({"rows": rows}) for name, rows in work.parts.items()},
        "blocks": str(work.blocks),
    }
    leaves = [] if work.data is None else tree_leaves(work.data)
    data = checksum({str(i): leaf for i, leaf in enumerate(leaves)})
    inputs = identity([work.source.identity(), data])
    return Origin(AGAIN, json.dumps(resolved, sort_keys=True), inputs, force=False)


def _mask_identity(mask: Mask | None) -> Any:
    if mask is None:
        return "all"
    return {n: "all" if m is None else checksum({n: m}) for n, m in mask.items()}


def _check_same_loss(store: Store, value: float) -> None:
    """Checks that the loss is the same, by its value at the first checkpoint."""
    before = store.group.attrs.get("first_loss")
    if before is None:
        store.group.update_attributes({"first_loss": value})
    elif not math.isclose(before, value, rel_tol=SAME_LOSS, abs_tol=SAME_LOSS**2):
        what = (
            f"{store.path} was made from a different loss: its first value is {before:.6g}, "
            f"now it is {value:.6g}"
        )
        raise Stale(what, f"use another store, or {AGAIN}")


def _engine(o: Options) -> Engine:
    if o.engine == "local":
        return run_jobs
    from devsort.execution.cluster import ray_jobs

    return ray_jobs(o.address, o.gpus)


def _notes(work: Work, sampler: NetworkSampler) -> list[str]:
    """Returns the notes about the whole trajectory."""
    notes = list(work.source.notes)
    if isinstance(work.loss, ModuleLoss):
        notes += work.loss.notes
    first = work.source.load(work.source.steps[0])
    notes += [note for note in types_note(list(first.values())) if note not in notes]
    if sampler.traits.refusal:
        notes.append(one_by_one(sampler.traits.refusal))
    if work.config.geometry == "absolute" and len(work.source.steps) > 1:
        notes += _scale_note(work)
    return notes


def _scale_note(work: Work) -> list[str]:
    """Returns a note if the scale of the weights changes, on which the absolute LLC depends."""
    ends = [sampled(work.state(step)) for step in (work.source.steps[0], work.source.steps[-1])]
    names = weights_of(work.loss, ends[0])
    factor, name = scale_change([{n: end[n] for n in names} for end in ends], work.blocks)
    if factor < CHANGE:
        return []
    return [
        f"scale_changes: {name} changes its scale by a factor of {factor:.3g} over these "
        "checkpoints, and in absolute geometry the LLC depends on it: see docs/units.md"
    ]
