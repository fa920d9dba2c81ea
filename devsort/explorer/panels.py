"""What the page shows of one run over its training: curves in panels, as JSON objects.

A curve has a name, a colour (null: the colour of text), a dash, and over its steps value and,
where there are any, low and high of the 95 % interval, rhat, ess, heat (what was subtracted from
the LLC), flags and the numbers behind the flags. A panel has a title, a unit, its curves, and
whether its axis is logarithmic.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from devsort.charts.curves import Z95
from devsort.charts.style import PALETTE, SCORES
from devsort.explorer.packing import HALF, SINGLE, numbers, packed
from devsort.llc.estimate import estimate
from devsort.llc.table import NUMBERS, rows
from devsort.sampling.trace import Trace
from devsort.stages.trajectory import Trajectory

if TYPE_CHECKING:
    import xarray as xr

Object = dict[str, Any]
SHOWN = ("rhat", "ess", "heat")  # beside an estimate
CLIP = 99.0  # percentile of the absolute values of a response at which its colours end
DASH = {"-": "", "--": "5 3", "-.": "6 3 2 3", ":": "2 3"}  # matplotlib's lines in SVG


def panel(title: str, unit: str, curves: Sequence[Object], log: bool = False) -> Object:
    """A panel of curves that share an axis."""
    return {"title": title, "unit": unit, "log": log, "curves": list(curves)}


def curve(
    name: str,
    step: ArrayLike,
    value: ArrayLike,
    ci95: np.ndarray | None = None,
    colour: str | None = None,
    line: str = "-",
) -> Object:
    """Values over steps; `ci95` is (n, 2)."""
    plain: Object = {"name": name, "colour": colour, "dash": DASH[line]}
    plain |= {"step": numbers(step), "value": numbers(value)}
    if ci95 is None:
        return plain
    low, high = np.asarray(ci95, float).T
    return plain | {"low": numbers(low), "high": numbers(high)}


def llc_curve(llc: "xr.Dataset", restriction: str, name: str, colour: str | None = None) -> Object:
    """The LLC of one restriction, with the diagnostics of each estimate.

    The numbers are those of `devsort llc --json`.
    """
    found = list(rows(llc.sel(restriction=[restriction])))
    interval = np.array([row["ci95"] or [np.nan] * 2 for row in found], float)
    behind = llc.sel(restriction=restriction)
    return {
        **curve(name, _column(found, "step"), _column(found, "llc"), interval, colour),
        **{key: numbers(behind[key].values) for key in SHOWN if key in behind},
        "flags": [row["flags"] for row in found],
        "behind": {key: numbers(behind[key].values) for key in NUMBERS},
    }


def llc_traces(llc: "xr.Dataset") -> Object:
    """L(w) − L(w*) along every chain, burn-in first, in half precision."""
    pairs = (("burnin_loss", "burnin_init_loss"), ("loss", "init_loss"))
    rise = [llc[name] - llc[start] for name, start in pairs]
    axes = ("checkpoint", "restriction", "chain", ...)
    values = [one.transpose(*axes).values for one in rise]
    names = [str(name) for name in llc.restriction.values]
    kept = values[0].shape[-1]
    own = [kept, 1]  # a prolonged chain has more burn-in than is stored, and more steps per draw
    for i, name in enumerate(("burnin_steps", "steps_bw_draws")):
        if name in llc:
            own[i] = llc[name].transpose(*axes[:2]).values
    joined = np.concatenate(values, -1)
    return _traces(llc.checkpoint.values, names, joined, kept, *own)


def of_trajectory(
    trajectory: Trajectory,
    traces: Sequence[Trace] | None = None,
    signals: Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
) -> list[Object]:
    """The panels of a trajectory from anywhere; see `devsort.explorer.explore`."""
    t = trajectory
    ends = np.stack([t.llc - Z95 * t.se, t.llc + Z95 * t.se], 1)
    llc = curve("LLC", t.step, t.llc, ends)
    if traces is not None:
        llc |= _diagnosed(traces)
    elif t.flagged is not None:
        llc["flags"] = [["flagged"] if flagged else [] for flagged in t.flagged]
    panels = [] if t.loss is None else [loss_panel(t.step, t.loss)]
    panels.append(panel("LLC", "", [llc]))
    for i, (name, (step, value)) in enumerate((signals or {}).items()):
        panels.append(panel(name, "", [curve(name, step, value, colour=PALETTE[i % 10])]))
    return panels


def traces_of(step: ArrayLike, traces: Sequence[Trace]) -> Object:
    """L(w) − L(w*) along the chains of one trace a step."""
    burnin = np.array([[t.config.num_burnin_steps] for t in traces])
    every = np.array([[t.config.num_steps_bw_draws] for t in traces])
    kept = min(t.burnin_rise.shape[1] for t in traces)
    chains = [
        np.concatenate([t.burnin_rise[:, t.burnin_rise.shape[1] - kept :], t.rise], axis=1)
        for t in traces
    ]
    return _traces(np.asarray(step), ["LLC"], np.stack(chains)[:, None], kept, burnin, every)


def loss_panel(step: ArrayLike, loss: ArrayLike) -> Object:
    """The loss in nats; its axis is logarithmic where it can be."""
    positive = bool((np.asarray(loss, float) > 0).all())
    return panel("loss", "nats", [curve("loss", step, loss)], log=positive)


def scores_panel(step: ArrayLike, scores: Mapping[str, tuple[ArrayLike, np.ndarray]]) -> Object:
    """Scores between 0 and 1 by name, each with its 95 % interval."""
    curves = []
    for name, (value, ci95) in scores.items():
        other = (PALETTE[5], ":", name.replace("_", " "))
        colour, line, label = SCORES.get(name, other)
        curves.append(curve(label, step, value, ci95, colour, line))
    return panel("head-mode scores", "", curves)


def response(name: str, values: "xr.DataArray", unit: str = "") -> Object:
    """How much each component responds to each part of the data.

    Args:
        name: Name of the response.
        values: Dimensions step, component and part of the data, in this order, whatever their
            names, each with its coordinate.
        unit: Unit of the values.

    Raises:
        ValueError: The number of dimensions is not three.
    """
    if values.ndim != 3:
        raise ValueError(f"{name} has the dimensions {values.dims}, expected step, component, part")
    step, components, parts = (values[axis].values for axis in values.dims)
    size = np.abs(values.values[np.isfinite(values.values)])
    return {
        "name": name,
        "unit": unit,
        "step": numbers(step),
        "components": [str(one) for one in components],
        "parts": [str(one) for one in parts],
        "values": packed(values.values, SINGLE),
        "limit": float(np.percentile(size, CLIP)) if len(size) else 0.0,
    }


def _traces(
    step: np.ndarray,
    names: list[str],
    values: np.ndarray,
    burnin: int,
    burnin_steps: ArrayLike,
    steps_bw_draws: ArrayLike,
) -> Object:
    """Of `values` (checkpoint, restriction, chain, time) the first `burnin` are burn-in.

    `burnin_steps` (checkpoint, restriction) is how long burn-in was, and `steps_bw_draws` how many
    steps lie between draws.
    """
    kept = np.where(np.abs(values) < 6e4, values, np.nan)  # a diverged chain ends there
    return {
        "step": numbers(step),
        "restrictions": names,
        "burnin": burnin,
        "burnin_steps": np.broadcast_to(burnin_steps, values.shape[:2]).tolist(),
        "steps_bw_draws": np.broadcast_to(steps_bw_draws, values.shape[:2]).tolist(),
        "values": packed(kept, HALF),
    }


def _diagnosed(traces: Sequence[Trace]) -> Object:
    found = [estimate(trace) for trace in traces]
    behind = {key: numbers([getattr(e.diagnostics, key) for e in found]) for key in NUMBERS}
    return {
        **{
            key: numbers([getattr(e, key) for e in found])
            for key in SHOWN
            if hasattr(found[0], key)
        },
        "flags": [list(e.flags) for e in found],
        "behind": behind,
    }


def _column(found: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    return [np.nan if row[key] is None else row[key] for row in found]
