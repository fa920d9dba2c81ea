"""llc.zarr: raw draws, written checkpoint by checkpoint, and the table that is derived from them.

Dimensions: checkpoint (training step), restriction, part, chain, draw. The draws of a checkpoint
are written before their checksum, so a checkpoint that was interrupted while it was written has no
valid checksum, and is sampled again.
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import xarray as xr
import zarr

from devsort.errors import Unfinished, UserError
from devsort.sampling.config import SamplerConfig
from devsort.sampling.trace import Trace
from devsort.storage.artifact import Origin, check_exists, identity
from devsort.storage.files import remove, replacing_folder, sync_tree, writing

DRAWN = ("loss", "init_loss", "work", "force", "distance")  # (checkpoint, restriction, chain, draw)
HEATING = "heating"  # (checkpoint, restriction, chain, probe)
BURNIN = ("burnin_loss", "burnin_init_loss")  # (checkpoint, restriction, chain, burnin)
PART_RISE = "part_rise"  # (checkpoint, restriction, part, chain, draw)
DRAWS = (*DRAWN, *BURNIN, HEATING, PART_RISE)
# (checkpoint, restriction): settings that differ between cells, and their names in SamplerConfig
OWN = {"burnin_steps": "num_burnin_steps", "steps_bw_draws": "num_steps_bw_draws"}
OWN |= {name: name for name in ("momentum", "batch_size")}
FIXED = ("checksum", "dimension", *OWN)  # (checkpoint), then (checkpoint, restriction)
AXES = ("checkpoint", "restriction", "part")


@dataclass(frozen=True)
class Plan:
    """The contents of a store, which determine its size.

    Attributes:
        steps: Training steps of the checkpoints.
        restrictions: Names of the restrictions.
        parts: Names of the parts of the data whose loss is recorded.
        sampler: Sampler settings, with the number of chains and draws.
    """

    steps: Sequence[int]
    restrictions: Sequence[str]
    parts: Sequence[str]
    sampler: SamplerConfig


@dataclass(frozen=True)
class Store:
    """The opened draws of a trajectory.

    Attributes:
        path: The folder.
        group: The arrays.
        sampler: The sampler settings, before any change for a single cell.
    """

    path: Path
    group: zarr.Group
    sampler: SamplerConfig

    @cached_property
    def steps(self) -> list[int]:
        """Training steps of the checkpoints."""
        return [int(s) for s in self.group["checkpoint"][:]]

    @cached_property
    def restrictions(self) -> list[str]:
        """Names of the restrictions."""
        return [str(r) for r in self.group["restriction"][:]]

    @cached_property
    def parts(self) -> list[str]:
        """Names of the parts of the data."""
        return [str(p) for p in self.group["part"][:]] if "part" in self.group else []

    def todo(self) -> list[int]:
        """Returns the positions of the checkpoints whose draws are missing or damaged."""
        return [i for i in range(len(self.steps)) if not self._intact(i)]

    def write(self, position: int, traces: Sequence[Trace]) -> None:
        """Writes all restrictions of one checkpoint, then their checksum."""
        arrays = {n: np.stack([getattr(t, n) for t in traces]) for n in (*DRAWN, HEATING)}
        last = self.sampler.num_burnin_steps  # chains that were sampled again have more
        arrays |= {n: np.stack([_last(getattr(t, n), last) for t in traces]) for n in BURNIN}
        if self.parts:
            rises = [[t.parts[part] for part in self.parts] for t in traces]
            arrays[PART_RISE] = np.array(rises)  # (R, P, C, T)
        with writing(self.path):
            for name, value in arrays.items():
                self.group[name][position] = value
                sync_tree(self.path / name / "c" / str(position))
            self.group["dimension"][position] = [t.dimension for t in traces]
            for name, setting in OWN.items():
                self.group[name][position] = [getattr(t.config, setting) for t in traces]
            self.group["checksum"][position] = _checksum(self._read(position))
            sync_tree(self.path / "checksum")

    def traces(self, position: int) -> list[Trace]:
        """Returns the traces of all restrictions of one checkpoint."""
        arrays = self._read(position)
        rises = arrays.pop(PART_RISE, np.empty(0))
        return [
            Trace(
                **{name: array[r] for name, array in arrays.items()},
                parts={part: rises[r, i] for i, part in enumerate(self.parts)},
                dimension=int(self.group["dimension"][position, r]),
                config=self._config(position, r),
            )
            for r in range(len(self.restrictions))
        ]

    def _config(self, position: int, r: int) -> SamplerConfig:
        own = {setting: self.group[name][position, r].item() for name, setting in OWN.items()}
        return self.sampler.model_copy(update=own)

    def _intact(self, position: int) -> bool:
        done = int(self.group["checksum"][position])
        try:
            return done != 0 and done == _checksum(self._read(position))
        except Exception:  # a damaged chunk can make the reader raise anything
            return False

    def _read(self, position: int) -> dict[str, np.ndarray]:
        return {name: array[position] for name, array in self._draws.items()}

    @cached_property
    def _draws(self) -> dict[str, zarr.Array]:
        return {
            name: self.group[name] for name in sorted(self.group.attrs["layout"]) if name in DRAWS
        }


def open_store(path: Path, origin: Origin, plan: Plan) -> Store:
    """Opens a store for writing. Creates it if it does not exist.

    Raises:
        UserError: If the existing store is damaged.
        Stale: If it was made from a different config or from different checkpoints.
    """
    if not path.exists():
        arrays = _arrays(plan)
        with replacing_folder(path) as folder:
            empty = _empty(arrays, plan).assign_attrs(origin.attributes)
            empty.to_zarr(folder, zarr_format=3, consolidated=False, encoding=_chunks(arrays))
            group = zarr.open_group(folder, mode="r+")
            layout = _layout(folder, (*arrays, *FIXED))
            group.update_attributes({"layout": layout, "axes": _axes(group)})
            group.update_attributes({"sampler": plan.sampler.model_dump(mode="json")})
    store = _opened(path, origin, "r+")
    if store.sampler != plan.sampler:
        raise UserError(f"{path} is damaged (it has different sampler settings)", origin.again)
    return store


def read_store(path: Path, origin: Origin) -> tuple[xr.Dataset, str]:
    """Reads and verifies the draws and the table, and returns them with their checksum.

    Raises:
        UserError: If they are missing or damaged.
        Unfinished: If a checkpoint or the table is missing.
        Stale: If they were made from a different config or from different checkpoints.
    """
    check_exists(path, origin)
    store = _opened(path, origin, "r")
    finish = f"run `{origin.command}` to finish it"
    if not table_is_current(store):
        raise Unfinished(f"{path} is unfinished", finish)
    if damaged := store.todo():
        step = store.steps[damaged[0]]
        raise UserError(f"{path} does not match its checksum at step {step}", finish)
    return xr.open_zarr(path, consolidated=False), store.group.attrs["table"]


def write_table(store: Store, table: xr.Dataset) -> None:
    """Adds the derived table to the draws. The attribute `table` marks it as complete."""
    old = store.group.attrs
    attributes = {key: value for key, value in old.items() if key not in ("table", *table.attrs)}
    names = {*attributes["layout"], *AXES}
    with writing(store.path):
        store.group.attrs.put(attributes)
        for folder in store.path.iterdir():
            if folder.is_dir() and folder.name not in names:
                remove(folder)
        marked = table.assign_attrs(attributes)
        marked.to_zarr(store.path, mode="a", zarr_format=3, consolidated=False)
        store.group.update_attributes(table.attrs | {"table": _table_identity(store.group)})


def table_is_current(store: Store) -> bool:
    """Whether the derived table is complete and belongs to the stored draws."""
    try:
        return store.group.attrs.get("table") == _table_identity(store.group)
    except Exception:  # a damaged chunk can make the reader raise anything
        return False


def _opened(path: Path, origin: Origin, mode: str) -> Store:
    try:
        group = zarr.open_group(path, mode=mode)
        origin_attributes = dict(group.attrs)
    except PermissionError:
        raise  # the command line has its own message for it
    except Exception as e:  # zarr raises many kinds of errors for a damaged store
        raise _damaged(path, origin, e) from None
    origin.check(origin_attributes, path)
    try:
        layout = group.attrs["layout"]
        if layout != _layout(path, layout) or group.attrs["axes"] != _axes(group):
            raise ValueError("metadata or coordinates are not those that were written")
        for name in FIXED:
            group[name][:]
        return Store(path, group, SamplerConfig.model_validate(group.attrs["sampler"]))
    except PermissionError:
        raise
    except Exception as e:
        raise _damaged(path, origin, e) from None


def _damaged(path: Path, origin: Origin, error: Exception) -> UserError:
    return UserError(f"{path} is damaged ({type(error).__name__})", origin.again)


def _table_identity(group: zarr.Group) -> str:
    """Returns the identity of everything except the draws.

    These are the table, and the checksums of the draws that it is derived from.
    """
    arrays = {n: np.asarray(group[n][:]) for n in group.array_keys() if n not in DRAWS}
    for name, value in arrays.items():
        if value.dtype.kind not in "bif":
            arrays[name] = np.frombuffer(repr(value.tolist()).encode(), np.uint8)
    return f"{_checksum(arrays):08x}"


def _layout(path: Path, names: Iterable[str]) -> dict[str, int]:
    """Returns the checksum of each array's metadata, to detect changed shapes, types or codecs."""
    return {name: zlib.crc32((path / name / "zarr.json").read_bytes()) for name in sorted(names)}


def _axes(group: zarr.Group) -> str:
    """Returns the identity of the training steps and of the names of restrictions and parts."""
    return identity([group[name][:].tolist() for name in AXES if name in group])


def _arrays(plan: Plan) -> dict[str, tuple[tuple[str, ...], tuple[int, ...]]]:
    """Returns the dimensions and the shape of each array of draws."""
    lead, sizes = ("checkpoint", "restriction"), (len(plan.steps), len(plan.restrictions))
    chains, draws = plan.sampler.num_chains, plan.sampler.num_draws
    burnin = plan.sampler.num_burnin_steps
    arrays: dict[str, tuple[tuple[str, ...], tuple[int, ...]]]
    arrays = {n: ((*lead, "chain", "draw"), (*sizes, chains, draws)) for n in DRAWN}
    arrays |= {n: ((*lead, "chain", "burnin"), (*sizes, chains, burnin)) for n in BURNIN}
    arrays[HEATING] = ((*lead, "chain", "probe"), (*sizes, chains, plan.sampler.num_probes))
    if plan.parts:
        size = (*sizes, len(plan.parts), chains, draws)
        arrays[PART_RISE] = ((*lead, "part", "chain", "draw"), size)
    return arrays


def _empty(arrays: Mapping[str, tuple], plan: Plan) -> xr.Dataset:
    nothing = np.float32(np.nan)
    data = {name: (dims, np.broadcast_to(nothing, size)) for name, (dims, size) in arrays.items()}
    cells = (len(plan.steps), len(plan.restrictions))
    for name in ("dimension", *OWN):
        kind = float if name == "momentum" else int
        data[name] = (("checkpoint", "restriction"), np.zeros(cells, kind))
    data["checksum"] = (("checkpoint",), np.zeros(cells[0], np.int64))
    coordinates = {
        "checkpoint": list(plan.steps),
        "restriction": np.array(plan.restrictions, object),
        "chain": np.arange(plan.sampler.num_chains),
    }
    if plan.parts:
        coordinates["part"] = np.array(plan.parts, object)
    return xr.Dataset(data, coordinates)


def _last(values: np.ndarray, count: int) -> np.ndarray:
    return values[:, values.shape[1] - count :]


def _chunks(arrays: Mapping[str, tuple]) -> dict:
    """Returns one chunk per checkpoint and array: a checkpoint is written and verified at once."""
    return {name: {"chunks": (1, *size[1:])} for name, (_, size) in arrays.items() if size[-1]}


def _checksum(arrays: Mapping[str, np.ndarray]) -> int:
    crc = 0
    for name in sorted(arrays):
        crc = zlib.crc32(np.ascontiguousarray(arrays[name]).tobytes(), crc)
    return crc + 1  # 0 means not done
