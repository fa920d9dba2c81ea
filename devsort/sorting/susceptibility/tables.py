"""The data set of all cells, its rows and its table."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from devsort.sorting.run import Run
from devsort.sorting.susceptibility.probe import AXES, Probe, split_axes
from devsort.sorting.susceptibility.sampler import Followed
from devsort.susceptibility import Response, correlation, covariance, susceptibility

if TYPE_CHECKING:
    import xarray as xr

FIELDS = {"": "value", "_se": "se", "_ci95": "ci95", "_rhat": "rhat"}


def dataset(cells: Mapping[tuple[int, str], Followed], probe: Probe, run: Run) -> "xr.Dataset":
    """χ by checkpoint, component and part; docs/susceptibility.md lists the variables."""
    import xarray as xr

    steps = sorted({step for step, _ in cells})
    names = list(dict.fromkeys(name for _, name in cells))
    chi = {cell: susceptibility(found.chi) for cell, found in cells.items()}
    kernel = {cell: correlation(found.kernel) for cell, found in cells.items()}
    grid = [[(step, name) for name in names] for step in steps]
    variables: dict[str, Any] = {}
    for suffix, field in FIELDS.items():
        values = _stack(chi, grid, field)[:, :, 0]  # (checkpoint, component, parts, …)
        for axis, cut in _cut(values, probe).items():
            dims = ("checkpoint", "component", axis, *(("bound",) if field == "ci95" else ()))
            variables[f"chi_{axis}{suffix}"] = (dims, cut)
    for suffix in ("", "_se"):
        dims = ("checkpoint", "component", "number", "number_T")
        variables[f"kernel{suffix}"] = (dims, _stack(kernel, grid, FIELDS[suffix]))
    own = {cell: covariance(found.kernel) for cell, found in cells.items()}
    for suffix in ("", "_se"):
        diagonal = np.diagonal(_stack(own, grid, FIELDS[suffix]), axis1=2, axis2=3)
        variables[f"variance_number{suffix}"] = (("checkpoint", "component", "number"), diagonal)
    start = np.stack([cells[row[0]].start for row in grid])[:, None]
    for axis, cut in _cut(start, probe).items():
        variables[f"loss_{axis}"] = (("checkpoint", axis), cut[:, 0])
    coordinates = {
        "checkpoint": np.array(steps, np.int64),
        "component": np.array(names, object),
        **{axis: np.arange(len(probe.parts[axis])) for axis in AXES},
        "bound": np.array(["low", "high"], object),
        "gap_low": ("gap_class", probe.edges[:-1]),
        "gap_high": ("gap_class", probe.edges[1:]),
    }
    dof = next(iter(chi.values())).dof
    return xr.Dataset(variables, coordinates, {"dof": dof, "n_beta": run.config.llc.sampler.n_beta})


def rows(found: "xr.Dataset") -> list[dict[str, Any]]:
    """One row for each checkpoint, component and part."""
    made = []
    for step in found.checkpoint.values.tolist():
        for name in found.component.values.tolist():
            cell = found.sel(checkpoint=step, component=name)
            for axis in AXES:
                values = {key: cell[f"chi_{axis}{suffix}"].values.tolist() for key, suffix in KEYS}
                for i in range(found.sizes[axis]):
                    own = {key: value[i] for key, value in values.items()}
                    made.append({"step": step, "component": name, "axis": axis, "part": i, **own})
    return made


KEYS = (("chi", ""), ("se", "_se"), ("ci95", "_ci95"), ("rhat", "_rhat"))


def text(value: dict[str, Any]) -> str:
    """As text: what each component responds to most at each checkpoint."""
    cells: dict[tuple[int, str], list[dict]] = {}
    for row in value["rows"]:
        if row["axis"] == "number":
            cells.setdefault((row["step"], row["component"]), []).append(row)
    lines = [f"{'step':>7}  {'component':10}{'lowest χ':>26}{'highest χ':>26}{'R-hat':>8}"]
    for (step, name), numbers in cells.items():
        known = [row for row in numbers if np.isfinite(row["chi"])]
        if not known:
            lines.append(f"{step:7d}  {name:10}{'chains failed':>26}")
            continue
        ends = (pick(known, key=lambda row: row["chi"]) for pick in (min, max))
        shown = "".join(f"{_shown(row):>26}" for row in ends)
        worst = max(row["rhat"] for row in known)
        lines.append(f"{step:7d}  {name:10}{shown}{worst:8.2f}")
    return "\n".join(lines)


def _shown(row: dict[str, Any]) -> str:
    return f"{row['part']}: {row['chi']:.2g} ± {row['se']:.1g}"


def _stack(responses: Mapping[tuple, Response], grid: list[list[tuple]], field: str) -> np.ndarray:
    return np.array([[getattr(responses[cell], field) for cell in row] for row in grid])


def _cut(values: np.ndarray, probe: Probe) -> dict[str, np.ndarray]:
    """Axis → values (checkpoint, component, parts of it, …)."""
    moved = np.moveaxis(values, 2, 0)
    return {axis: np.moveaxis(cut, 0, 2) for axis, cut in split_axes(moved, probe).items()}
