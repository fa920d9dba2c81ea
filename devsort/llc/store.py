"""llc.zarr: raw draws, written checkpoint by checkpoint as they are done, and the table that is derived from them.

Dimensions: checkpoint (training step), restriction, chain, draw. A checkpoint's draws are written first and its
checksum after them, so what a kill leaves half-written does not count and is sampled again.
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import xarray as xr
import zarr

from devsort.artifacts import check_provenance, identity
from devsort.config import SamplerConfig
from devsort.errors import UserError
from devsort.files import remove, replacing_folder, sync_tree, writing
from devsort.sampling.trace import Trace

DRAWN = ("loss", "init_loss", "work", "force", "distance")  # (checkpoint, restriction, chain, draw)
FIXED = ("checksum", "dimension")  # (checkpoint), (checkpoint, restriction)
AXES = ("checkpoint", "restriction")
BURNIN = ("burnin_loss", "burnin_init_loss")  # (checkpoint, restriction, chain, burnin)


@dataclass(frozen=True)
class Store:
    """The opened draws of a run."""

    path: Path
    group: zarr.Group

    @property
    def steps(self) -> list[int]:
        """Training steps of the checkpoints."""
        return [int(s) for s in self.group["checkpoint"][:]]

    @property
    def restrictions(self) -> list[str]:
        """Names of the restrictions."""
        return [str(r) for r in self.group["restriction"][:]]

    def todo(self) -> list[int]:
        """Positions of the checkpoints whose draws are missing or damaged."""
        return [i for i in range(len(self.steps)) if not self._intact(i)]

    def write(self, position: int, traces: Sequence[Trace]) -> None:
        """Writes all restrictions of one checkpoint, then their checksum."""
        arrays = {name: np.stack([getattr(t, name) for t in traces]) for name in DRAWN + BURNIN}
        for name in traces[0].groups:
            arrays[f"rise_{name}"] = np.stack([t.groups[name] for t in traces])
        with writing(self.path):
            for name, value in arrays.items():
                self.group[name][position] = value
                sync_tree(self.path / name / "c" / str(position))
            self.group["dimension"][position] = [t.dimension for t in traces]
            self.group["checksum"][position] = _checksum(self._read(position))
            sync_tree(self.path / "checksum")

    def traces(self, position: int) -> list[Trace]:
        """The traces of all restrictions of one checkpoint."""
        arrays = self._read(position)
        groups = {n.removeprefix("rise_"): a for n, a in arrays.items() if n.startswith("rise_")}
        plain = {n: a for n, a in arrays.items() if not n.startswith("rise_")}
        return [
            Trace(
                **{n: a[r] for n, a in plain.items()},
                groups={n: a[r] for n, a in groups.items()},
                dimension=int(self.group["dimension"][position, r]),
            )
            for r in range(len(self.restrictions))
        ]

    def _intact(self, position: int) -> bool:
        done = int(self.group["checksum"][position])
        try:
            return done != 0 and done == _checksum(self._read(position))
        except Exception:  # a damaged chunk can make the reader raise anything
            return False

    def _read(self, position: int) -> dict[str, np.ndarray]:
        return {name: array[position] for name, array in self._drawn.items()}

    @cached_property
    def _drawn(self) -> dict[str, zarr.Array]:
        return {name: self.group[name] for name in sorted(self.group.attrs["layout"]) if _is_drawn(name)}


def _is_drawn(name: str) -> bool:
    return name in DRAWN + BURNIN or name.startswith("rise_")


def open_store(
    path: Path,
    origin: Mapping[str, str],
    command: str,
    sampler: SamplerConfig,
    axes: Mapping[str, Sequence],
    groups: Sequence[str],
) -> Store:
    """Opens llc.zarr for writing, or makes it.

    Args:
        path: The store.
        origin: Provenance that an existing store must have.
        command: The command that makes it anew.
        sampler: Sampler settings, which give the number of chains and draws.
        axes: Coordinates `checkpoint` (steps) and `restriction` (names).
        groups: Parts of the data that are followed.

    Raises:
        UserError: There is one from another config or other checkpoints.
    """
    if path.exists():
        group = open_group(path, command, mode="r+")
        check_provenance(group.attrs, origin, path, command)
        return Store(path, group)
    arrays = _arrays(sampler, axes, groups)
    with replacing_folder(path) as folder:
        empty = _empty(arrays, axes).assign_attrs(origin)
        empty.to_zarr(folder, zarr_format=3, consolidated=False, encoding=_chunks(arrays))
        group = zarr.open_group(folder, mode="r+")
        group.update_attributes({"layout": _layout(folder, (*arrays, *FIXED)), "axes": _axes(group)})
    return Store(path, open_group(path, command, mode="r+"))


def open_group(path: Path, command: str, mode: str = "r") -> zarr.Group:
    """Opens the zarr group; an error names the command that makes it."""
    if not path.is_dir():
        raise UserError(f"{path} is missing", f"run `{command.removesuffix(' --force')}` first")
    try:
        group = zarr.open_group(path, mode=mode)
        layout = group.attrs["layout"]
        if layout != _layout(path, layout) or group.attrs["axes"] != _axes(group):
            raise ValueError("metadata or coordinates are not those that were written")
        for name in FIXED:
            group[name][:]
        return group
    except PermissionError:
        raise  # told by the command line
    except Exception as e:  # zarr raises many kinds on a damaged store
        raise UserError(f"{path} is damaged ({type(e).__name__})", f"run `{command}` to make it again") from None


def write_table(store: Store, table: xr.Dataset) -> None:
    """Adds the derived table to the draws; `table` in the attributes says that it is whole."""
    origin = {key: value for key, value in store.group.attrs.items() if key != "table"}
    kept = {*origin["layout"], *AXES}
    with writing(store.path):
        store.group.attrs.put(origin)
        for old in [child for child in store.path.iterdir() if child.is_dir() and child.name not in kept]:
            remove(old)  # whatever its state
        table.assign_attrs(origin).to_zarr(store.path, mode="a", zarr_format=3, consolidated=False)
        store.group.update_attributes({"table": _table_identity(store.group)})


def table_is_current(group: zarr.Group) -> bool:
    """Whether the derived table is whole and belongs to the draws that are there."""
    try:
        return group.attrs.get("table") == _table_identity(group)
    except Exception:  # a damaged chunk can make the reader raise anything
        return False


def _table_identity(group: zarr.Group) -> str:
    """Identity of all that is not draws: the table, and the checksums of the draws that it is derived from."""
    arrays = {n: np.asarray(group[n][:]) for n in group.array_keys() if not _is_drawn(n)}
    numbers = {n: a for n, a in arrays.items() if a.dtype.kind in "bif"}
    names = {n: np.frombuffer(repr(a.tolist()).encode(), np.uint8) for n, a in arrays.items() if n not in numbers}
    return f"{_checksum(numbers | names):08x}"


def _layout(path: Path, names: Iterable[str]) -> dict[str, int]:
    """For each array the checksum of its metadata, by which shapes, types and codecs are known to be those written."""
    return {name: zlib.crc32((path / name / "zarr.json").read_bytes()) for name in sorted(names)}


def _axes(group: zarr.Group) -> str:
    """Identity of the training steps and of the names of the restrictions."""
    return identity([group[name][:].tolist() for name in AXES])


def _arrays(sampler: SamplerConfig, axes: Mapping[str, Sequence], groups: Sequence[str]) -> dict[str, tuple]:
    lead = ("checkpoint", "restriction", "chain")
    sizes = (len(axes["checkpoint"]), len(axes["restriction"]), sampler.num_chains)
    drawn = {n: ((*lead, "draw"), (*sizes, sampler.num_draws)) for n in (*DRAWN, *(f"rise_{g}" for g in groups))}
    burnin = {n: ((*lead, "burnin"), (*sizes, sampler.num_burnin_steps)) for n in BURNIN}
    return drawn | burnin


def _empty(arrays: Mapping[str, tuple], axes: Mapping[str, Sequence]) -> xr.Dataset:
    data = {name: (dims, np.broadcast_to(np.float32(np.nan), size)) for name, (dims, size) in arrays.items()}
    checkpoints, restrictions, chains = arrays["loss"][1][:3]
    data["dimension"] = (("checkpoint", "restriction"), np.zeros((checkpoints, restrictions), np.int64))
    data["checksum"] = (("checkpoint",), np.zeros(checkpoints, np.int64))
    coordinates = {"checkpoint": list(axes["checkpoint"]), "restriction": np.array(axes["restriction"], object)}
    return xr.Dataset(data, coordinates | {"chain": np.arange(chains)})


def _chunks(arrays: Mapping[str, tuple]) -> dict:
    """One chunk a checkpoint and array: a checkpoint is written and verified as a whole."""
    return {name: {"chunks": (1, *size[1:])} for name, (_, size) in arrays.items() if size[-1]}


def _checksum(arrays: Mapping[str, np.ndarray]) -> int:
    crc = 0
    for name in sorted(arrays):
        crc = zlib.crc32(np.ascontiguousarray(arrays[name]).tobytes(), crc)
    return crc + 1  # 0 means not done
