"""Finds the stages of a user's trajectory, with optional signals and events, and draws them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from devsort.errors import UserError
from devsort.stages.compare import side_by_side
from devsort.stages.config import StagesConfig
from devsort.stages.detector import detect
from devsort.stages.report import as_json
from devsort.stages.summary import summary
from devsort.stages.trajectory import Trajectory, from_llc

if TYPE_CHECKING:
    import xarray as xr

MEASURED = ("geometry", "n_beta", "localization", "prior")  # settings that determine the LLC
Series = tuple[Sequence[float], Sequence[float]]  # steps and values


def find_stages(
    trajectory: "xr.Dataset",
    config: StagesConfig | None = None,
    *,
    signals: Mapping[str, Series] | Sequence[str] = (),
    events: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Finds the boundaries and stages of a trajectory; see docs/stages.md.

    Args:
        trajectory: The result of `llc_trajectory` or `load_trajectory`.
        config: Penalties, number of resamples, seed.
        signals: Signals that have the same boundaries as the LLC: name → (steps, values), or names
            of restrictions, or `loss`. Values are interpolated over log step.
        events: Name → step, or (step, (low, high)) with a 95 % interval. Each event is assigned to
            its stage, with its distance to the nearest boundary.

    Returns:
        The JSON object of docs/stages.md: boundaries, stages, events, summary and notes.

    Raises:
        UserError: If a signal does not cover the checkpoints, or too few of them have an estimate.
    """
    series = dict(signals) if isinstance(signals, Mapping) else {}
    points = from_llc(trajectory, "the trajectory", () if series else tuple(signals))
    if series:
        points = _with_signals(points, series)
    rows = [_event(name, at) for name, at in (events or {}).items()]
    value = as_json(detect(points, config), events=rows)
    notes = [*trajectory.attrs.get("notes", []), *points.notes, *value.get("notes", [])]
    return {**value, "summary": summary(trajectory), "notes": notes}


def stage_chart(
    trajectory: "xr.Dataset",
    stages: Mapping[str, Any],
    path: str | Path,
    *,
    loss: Series | None = None,
    loss_unit: str = "nats",
    signals: Mapping[str, Series] | None = None,
    kinds: Sequence[str] = ("png", "svg"),
    width: Literal["single", "double"] = "double",
) -> list[Path]:
    """Draws stages and events over the loss, the LLC, restricted LLCs and signals.

    Args:
        trajectory: The result of `llc_trajectory`.
        stages: The result of `find_stages`.
        path: Path of the figure. Its suffix is replaced by each of `kinds`.
        loss: Steps and losses. With None, the losses of the checkpoints.
        loss_unit: Unit of the loss, or what it measures; empty if it has none.
        signals: Name → (steps, values). Each signal has a panel of its own.
        kinds: File types: png, svg, pdf.
        width: One column of a paper (3.4 inches) or two (7 inches).

    Returns:
        The paths of the files.

    Raises:
        UserError: If a file type is unknown.
    """
    from devsort.charts.curves import Curve, positive
    from devsort.charts.stage_chart import Story, figure, llc_curve
    from devsort.charts.style import WIDTHS, kinds_of, label_of, save_figure

    names = [str(r) for r in trajectory.restriction.values]
    step = trajectory.checkpoint.values.astype(float)
    own = loss or (step, trajectory.checkpoint_loss.values)
    story = Story(
        stages,
        llc_curve(trajectory, "full"),
        positive(Curve(_floats(own[0]), _floats(own[1]))),
        {label_of(name): llc_curve(trajectory, name) for name in names if name != "full"},
        signals={
            name: positive(Curve(_floats(steps), _floats(values)))
            for name, (steps, values) in (signals or {}).items()
        },
        loss_unit=loss_unit,
    )
    path = Path(path)
    suffixes = kinds_of(",".join(kinds))
    return save_figure(figure(story, WIDTHS[width]), path.parent, path.stem, suffixes)


def compare(found: Mapping[str, tuple["xr.Dataset", Mapping[str, Any]]]) -> dict[str, Any]:
    """Compares trajectories, with intervals for their differences.

    Args:
        found: Name → trajectory and its stages, for two or more trajectories. The first is the
            reference.

    Returns:
        runs, stages, differences and link; see `devsort.stages.compare.side_by_side`.

    Raises:
        UserError: If there are fewer than two, or if settings that determine the LLC differ.
    """
    if len(found) < 2:
        raise UserError(
            "compare needs two or more trajectories", "give name → (trajectory, stages)"
        )
    first, *_ = (trajectory for trajectory, _ in found.values())
    for name, (trajectory, _) in found.items():
        wrong = [k for k in MEASURED if _setting(trajectory, k) != _setting(first, k)]
        if wrong:
            what = f"{name} and {next(iter(found))} were sampled with different {', '.join(wrong)}"
            raise UserError(what, "sample all with the same settings")
    tables = [{"run": name, **stages["summary"]} for name, (_, stages) in found.items()]
    return side_by_side(tables, [stages for _, stages in found.values()])


def _setting(trajectory: "xr.Dataset", name: str) -> Any:
    return trajectory.attrs.get("sampler", {}).get(name)


def _with_signals(trajectory: Trajectory, signals: Mapping[str, Series]) -> Trajectory:
    rows = [_signal(name, *signals[name], trajectory) for name in signals]
    return replace(trajectory, others=np.stack(rows))


def _signal(
    name: str, steps: Sequence[float], values: Sequence[float], trajectory: Trajectory
) -> np.ndarray:
    """Returns (n, 2) values at the checkpoints, and NaN for their unknown errors."""
    step, value = _floats(steps), _floats(values)
    if step.shape != value.shape or step.ndim != 1:
        what = f"signal {name!r} has {step.size} steps and {value.size} values"
        raise UserError(what, "give a value for each step")
    usable = (step >= 1) & np.isfinite(value)
    order = np.argsort(step[usable])
    x, value = np.log10(step[usable][order]), value[usable][order]
    if len(x) < 2 or x[0] > trajectory.x[0] + 1e-9 or x[-1] < trajectory.x[-1] - 1e-9:
        low, high = trajectory.step[0], trajectory.step[-1]
        what = f"signal {name!r} does not cover steps {low:.0f} to {high:.0f}"
        raise UserError(what, "give it for the whole trajectory")
    at = np.interp(trajectory.x, x, value)
    return np.stack([at, np.full(len(at), np.nan)], -1)


def _event(name: str, at: Any) -> dict[str, Any]:
    step, interval = at if isinstance(at, tuple | list) else (at, None)
    ends = None if interval is None else [float(end) for end in interval]
    if not step >= 1 or (ends and not ends[0] <= step <= ends[1]):
        what = f"event {name!r} is at step {step} with the interval {ends}"
        raise UserError(what, "give a step of at least 1, within its interval")
    return {"event": name, "step": float(step), "ci95": ends}


def _floats(values: Sequence[float]) -> np.ndarray:
    return np.asarray(values, dtype=float)
