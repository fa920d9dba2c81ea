"""The report of stage detection: the JSON object of docs/stages.md, and the same as text."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from devsort.stages import link, naming
from devsort.stages.config import StagesConfig
from devsort.stages.detector import Result, detect
from devsort.stages.fit import Fit, coefficients, design
from devsort.stages.noise import chain_departures
from devsort.stages.segments import INSIDE, Boundary, Segment
from devsort.stages.trajectory import Trajectory

CONTRAST = 2.0  # factor between reported errors and scatter above which there is a note
MOST_NAMED = 5  # the most outliers that a note lists


def find_stages(trajectory: Trajectory, config: StagesConfig | None = None) -> dict[str, Any]:
    """Finds the boundaries and stages of a trajectory.

    Returns:
        The JSON object of docs/stages.md, with notes on what was repaired on reading.
    """
    report = as_json(detect(trajectory, config))
    return {**report, "notes": [*trajectory.notes, *report["notes"]]}


def as_json(
    result: Result, scores: naming.Scores | None = None, events: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """Returns the JSON object of docs/stages.md: boundaries, stages, events, noise, line, notes."""
    t = result.trajectory
    signals = naming.Signals(t.x, t.loss, scores)
    naming_results = naming.named(result.segments, signals)
    edges = np.array([t.x[0], *(b.x for b in result.boundaries), t.x[-1]])
    directions = naming.loss_directions(edges, signals)
    boundaries = [_boundary(b) for b in result.boundaries]
    low, high = ([_step(x), _step(x)] for x in edges[[0, -1]])
    cuts = [low, *(b["ci95"] for b in boundaries), high]
    stages = [
        {**name, **_stage(s, t), "loss": loss, "from_ci95": start, "to_ci95": end}
        for s, name, loss, start, end in zip(
            result.segments, naming_results, directions, cuts[:-1], cuts[1:], strict=True
        )
    ]
    names = [stage["name"] for stage in stages]
    noise = noise_of(result.fit, t)
    return {
        "boundaries": boundaries,
        "stages": stages,
        "events": link.linked(events or [], edges[1:-1], names),
        "noise": noise,
        "line": line(result.fit),
        "notes": noise_notes(noise),
    }


def _boundary(b: Boundary) -> dict[str, Any]:
    return {
        "step": _step(b.x), "ci95": [_step(b.low), _step(b.high)], "jump": b.jump,
        "present": b.present, "vanishes_at_penalty": b.vanishes_at,
        "strength": "strong" if b.strong else "weak",
    }  # fmt: skip


def _stage(s: Segment, t: Trajectory) -> dict[str, Any]:
    inside = (t.x >= s.low) & (t.x <= s.high)
    flagged = 0 if t.flagged is None else int(t.flagged[inside].sum())
    return {
        "from": _step(s.low), "to": _step(s.high), "llc": s.direction, "flagged": flagged,
        "rate": s.rate, "rate_ci95": list(s.rate_ci),
        "llc_from": s.start[0], "llc_from_ci95": list(s.start[1:]),
        "llc_to": s.end[0], "llc_to_ci95": list(s.end[1:]),
        "llc_median": float(np.median(t.llc[inside])) if inside.any() else None,
    }  # fmt: skip


def noise_of(model: Fit, t: Trajectory) -> dict[str, Any]:
    """Describes the noise of a fit.

    Returns:
        scatter, the typical standard deviation of the points about the line, in nats; reported, the
        median reported standard error, or None; common, the standard error of the level that all
        checkpoints have in common; profile; correlation; chains, whether the values of the chains
        are known; outliers, the steps that were left out; scatter_at, [step, nats] for every other
        point.
    """
    known = np.isfinite(t.se).all()
    return {
        "scatter": float(np.median(model.scatter[0])),
        "reported": float(np.median(t.se)) if known else None,
        "common": model.level,
        "profile": model.noise.profile,
        "correlation": str(model.noise.correlation),
        "chains": chain_departures(t) is not None,
        "outliers": t.step[~model.used].tolist(),
        "scatter_at": np.stack([t.step[model.used], model.scatter[0]], 1).tolist(),
    }


def noise_notes(noise: Mapping[str, Any]) -> list[str]:
    """Returns notes on the errors and on points that were left out, one sentence each."""
    return [*_error_notes(noise["scatter"], noise["reported"]), *_outlier_notes(noise["outliers"])]


def _error_notes(scatter: float, reported: float | None) -> list[str]:
    if reported is None:
        return [f"no errors are reported; the points scatter by {scatter:.3g} about the line"]
    if scatter * CONTRAST < reported:
        return [
            f"the reported errors ({reported:.3g}) are taken to be errors of the level, which all "
            f"checkpoints have in common; the shape has an error of {scatter:.3g}, the scatter "
            "between neighbours"
        ]
    if scatter > CONTRAST * reported:
        return [
            f"the points scatter by {scatter:.3g} about the line, which is more than the "
            f"reported errors ({reported:.3g})"
        ]
    return []


def _outlier_notes(steps: list[float]) -> list[str]:
    if not steps:
        return []
    named = ", ".join(f"{step:g}" for step in steps[:MOST_NAMED])
    more = f" and {len(steps) - MOST_NAMED} more" if len(steps) > MOST_NAMED else ""
    return [f"left out as outliers: step {named}{more}"]


def line(model: Fit) -> list[list[float]]:
    """Returns the corners [step, nats] of the fitted line; a jump has two."""
    at = np.sort(np.concatenate([model.x[[0, -1]], model.position, model.position[model.jump]]))
    again = np.append(at[1:] == at[:-1], False)
    x = np.where(again, at - INSIDE, np.where(np.append(False, again[:-1]), at + INSIDE, at))
    weights = coefficients(model, model.z[None], model.position[None])[0, 0]
    values = design(x, model.position, model.jump) @ weights
    return [[_step(a), float(v)] for a, v in zip(x, values, strict=True)]


def table(value: Mapping[str, Any]) -> str:
    """Formats the stages as text, one line each, followed by the boundaries and events."""
    heads = f"{'stage':20} {'from':>10} {'to':>10}  {'LLC':8}{'from':>8} {'to':>8}  {'loss':8}"
    lines = [f"{heads}{'per decade':>12}  95 %"]
    for s in value["stages"]:
        low, high = s["rate_ci95"]
        llc = f"{s['llc']:8}{s['llc_from']:8.4g} {s['llc_to']:8.4g}  {s['loss'] or '–':8}"
        lines.append(
            f"{naming.title(s):20} {s['from']:10.5g} {s['to']:10.5g}  {llc}"
            f"{s['rate']:12.1f}  {low:.1f} to {high:.1f}"
            + (f"  [{s['flagged']} flagged]" if s["flagged"] else "")
        )
    lines += [_boundary_line(b) for b in value["boundaries"]]
    for e in value["events"]:
        far = e["boundary_distance_log10"]
        distance = "no boundary" if far is None else f"{far:.2f} decades from the nearest boundary"
        title = naming.title(value["stages"][e["stage_index"]])
        stage = f"in stage {e['stage_index'] + 1} ({title})"
        lines.append(f"{e['event']} at step {e['step']:.5g}: {stage}, {distance}")
    return "\n".join([*lines, *(f"note: {n}" for n in value.get("notes", []))])


def _boundary_line(b: Mapping[str, Any]) -> str:
    leap = "" if b["jump"] is None else f", the LLC jumps by {b['jump']:+.4g}"
    sure = f"in {b['present']:.0%} of resamples, up to a penalty of {b['vanishes_at_penalty']:.3g}"
    interval = f"95 %: {b['ci95'][0]:.5g} to {b['ci95'][1]:.5g}"
    return f"boundary at step {b['step']:.5g} ({interval}{leap}; {b['strength']}: {sure})"


def _step(x: float) -> float:
    """Returns a step from its logarithm, rounded to four digits."""
    return float(f"{10**x:.4g}")
