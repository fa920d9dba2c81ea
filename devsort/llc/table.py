"""The derived table: one estimate per checkpoint and restriction, as xarray and as JSON rows."""

from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from typing import Any

import numpy as np
import xarray as xr

from devsort.llc.estimate import Estimate, estimate
from devsort.llc.flags import FLAGS
from devsort.llc.store import Store
from devsort.sampling.trace import Trace

# name → format of each column of the text table
COLUMNS = {"llc": "8.1f", "se": "7.1f", "rhat": "6.2f", "ess": "6.0f", "loss": "8.4f"}
SCALARS = ("llc", "se", "heat", "rhat", "ess", "chains_failed")
NUMBERS = ("drift", "peak", "climb", "slope", "growth", "gap")


def make_table(
    store: Store, chance_loss: float | None = None, allow_dead: bool = False
) -> xr.Dataset:
    """Estimates the LLC of every checkpoint and restriction from the stored draws.

    Only one checkpoint is in memory at a time.

    Args:
        store: The draws.
        chance_loss: See `estimate`.
        allow_dead: See `estimate`.

    Returns:
        llc, se, ci95 (…, bound), rhat, ess, chains_failed and the diagnostics over (checkpoint,
        restriction); llc_chain (…, chain); flags (…, flag); checkpoint_loss (checkpoint); and
        part_llc and part_se (…, part).
    """
    cells = [_row(store.traces(i), chance_loss, allow_dead) for i in range(len(store.steps))]
    estimates, parts, losses = (list(column) for column in zip(*cells, strict=True))
    lead = ("checkpoint", "restriction")
    data: dict[str, tuple[tuple[str, ...], Any]]
    data = {n: (lead, _grid(estimates, attrgetter(n))) for n in SCALARS}
    data |= {n: (lead, _grid(estimates, attrgetter(f"diagnostics.{n}"))) for n in NUMBERS}
    data["ci95"] = ((*lead, "bound"), _grid(estimates, lambda e: e.ci95))
    data["llc_chain"] = ((*lead, "chain"), _grid(estimates, lambda e: e.llc_chain))
    data["flags"] = ((*lead, "flag"), _grid(estimates, lambda e: [f in e.flags for f in FLAGS]))
    data["checkpoint_loss"] = (("checkpoint",), losses)
    coordinates = {
        "checkpoint": store.steps,
        "restriction": _names(store.restrictions),
        "flag": _names(FLAGS),
        "bound": _names(["low", "high"]),
    }
    if store.parts:
        of = np.array([[[cell[p] for p in store.parts] for cell in row] for row in parts])
        data["part_llc"] = ((*lead, "part"), of[..., 0])
        data["part_se"] = ((*lead, "part"), of[..., 1])
        coordinates["part"] = _names(store.parts)
    return xr.Dataset(data, coordinates)


def rows(table: xr.Dataset) -> Iterator[dict]:
    """Yields one JSON row per checkpoint and restriction. A withheld number is null."""
    raw = [name for name in table.data_vars if {"draw", "burnin", "probe"} & set(table[name].dims)]
    table = table.drop_vars(raw).load()
    for step in table["checkpoint"].values:
        for name in table["restriction"].values:
            cell = table.sel(checkpoint=step, restriction=name)
            yield {
                "step": int(step),
                "restriction": str(name),
                **{k: _number(cell[k]) for k in ("llc", "se", "rhat", "ess", "heat")},
                "ci95": _interval(cell["ci95"]),
                "loss": _number(table["checkpoint_loss"].sel(checkpoint=step)),
                **{k: int(cell[k]) for k in ("burnin_steps", "steps_bw_draws") if k in cell},
                "chains_failed": int(cell["chains_failed"]),
                "parts": _part_rows(cell),
                "flags": [str(f) for f in table["flag"].values[cell["flags"].values.astype(bool)]],
            }


def geometry_of(llc: xr.Dataset) -> str:
    """Returns the geometry in which a trajectory was sampled: relative or absolute."""
    return llc.attrs["sampler"]["geometry"]


def text_table(value: dict) -> str:
    """Formats the result of `devsort llc` as text, one line per checkpoint and restriction."""
    heads = ("LLC", "8"), ("± SE", "7"), ("R-hat", "6"), ("ESS", "6"), ("loss", "8")
    numbers = " ".join(f"{name:>{width}}" for name, width in heads)
    head = f"{'step':>7}  {'weights':8} {numbers}  flags"
    notes = [f"note: {note}" for note in value.get("notes", [])]
    return "\n".join([head, *(_line(row) for row in value["trajectory"]), *notes])


def _line(row: dict) -> str:
    numbers = " ".join(_cell(row[key], form) for key, form in COLUMNS.items())
    flags = ", ".join(row["flags"])
    return f"{row['step']:7d}  {row['restriction']:8} {numbers}  {flags}".rstrip()


def _cell(value: float | None, form: str) -> str:
    width = form.partition(".")[0]
    return "–".rjust(int(width)) if value is None else format(value, form)


def _grid(estimates: list[list[Estimate]], get: Callable[[Estimate], Any]) -> np.ndarray:
    return np.array([[get(e) for e in row] for row in estimates])


def _part_rows(cell: xr.Dataset) -> dict[str, dict[str, float | None]]:
    names = cell["part"].values.tolist() if "part" in cell else []
    of = {str(n): cell.sel(part=n) for n in names}
    return {n: {"llc": _number(c["part_llc"]), "se": _number(c["part_se"])} for n, c in of.items()}


def _row(
    traces: list[Trace], chance_loss: float | None, allow_dead: bool
) -> tuple[list[Estimate], list[dict], float]:
    """Returns the estimate and the parts of each restriction of one checkpoint, and its loss."""
    estimates = [estimate(t, chance_loss=chance_loss, allow_dead=allow_dead) for t in traces]
    parts = [_parts(trace, e.heat) for trace, e in zip(traces, estimates, strict=True)]
    return estimates, parts, float(np.nanmean(traces[0].init_loss))


def _parts(trace: Trace, heat: float) -> dict[str, tuple[float, float]]:
    """Returns λ̂ and its standard error between chains on each part of the data.

    The same heat is subtracted from all parts, so that their mean remains that of the whole.
    """

    def of(rise: np.ndarray) -> tuple[float, float]:
        chains = trace.config.n_beta * np.nanmean(rise.astype(np.float64), axis=1)  # (C,)
        error = chains.std(ddof=1) / np.sqrt(len(chains)) if len(chains) > 1 else np.nan
        return float(chains.mean()) - heat, float(error)

    return {name: of(rise) for name, rise in trace.parts.items()}


def _names(names: Iterable[str]) -> np.ndarray:
    return np.array(list(names), object)


def _interval(bounds: xr.DataArray) -> list[float] | None:
    return bounds.values.tolist() if np.isfinite(bounds).all() else None


def _number(value: xr.DataArray) -> float | None:
    return float(value) if np.isfinite(value) else None
