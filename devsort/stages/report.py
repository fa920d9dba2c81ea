"""What stage detection tells: the JSON object of docs/stages.md, and the same as text."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from devsort.stages import link, naming
from devsort.stages.config import StagesConfig
from devsort.stages.detector import Result, detect
from devsort.stages.trajectory import Trajectory


def find_stages(trajectory: Trajectory, config: StagesConfig | None = None) -> dict[str, Any]:
    """Boundaries and stages of a trajectory, as the JSON object of docs/stages.md.

    With notes on what was repaired.
    """
    return {**as_json(detect(trajectory, config)), "notes": list(trajectory.notes)}


def as_json(
    result: Result, scores: naming.Scores | None = None, events: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """The stable JSON object of docs/stages.md: boundaries, stages, events."""
    t = result.trajectory
    shares = naming.loss_shares(result.segments, t.x, t.loss)
    directions = naming.loss_directions(result.segments, t.x, t.loss)
    names = naming.names(result.segments, shares, scores)
    low, high = ([_step(x), _step(x)] for x in (t.x[0], t.x[-1]))
    boundaries = [
        {"step": _step(b.x), "ci95": [_step(b.low), _step(b.high)]} for b in result.boundaries
    ]
    cuts = [boundary["ci95"] for boundary in boundaries]
    return {
        "boundaries": boundaries,
        "stages": [
            {
                "name": name, "from": _step(s.low), "to": _step(s.high),
                "llc": s.direction, "loss": loss,
                "from_ci95": start, "to_ci95": end, "flagged": _flagged(t, s.low, s.high),
                "rate": s.rate, "rate_ci95": list(s.rate_ci),
                "llc_from": s.start[0], "llc_from_ci95": list(s.start[1:]),
                "llc_to": s.end[0], "llc_to_ci95": list(s.end[1:]),
            }
            for s, name, loss, start, end in zip(
                result.segments, names, directions, [low, *cuts], [*cuts, high], strict=True
            )
        ],
        "events": link.linked(events or [], np.array([b.x for b in result.boundaries]), names),
    }  # fmt: skip


def table(value: Mapping[str, Any]) -> str:
    """The stages as text, one line each, and the events below."""
    lines = [f"{'stage':22}{'from':>9}{'to':>9}  {'LLC':8}{'loss':8}{'nats/decade':>12}  95 %"]
    for s in value["stages"]:
        low, high = s["rate_ci95"]
        head = f"{s['name']:22}{s['from']:9.5g}{s['to']:9.5g}  {s['llc']:8}{s['loss'] or '–':8}"
        flagged = f"  [{s['flagged']} flagged]" if s["flagged"] else ""
        lines.append(f"{head}{s['rate']:12.1f}  {low:.1f} to {high:.1f}{flagged}")
    lines += [
        f"boundary at step {b['step']:.5g} (95 %: {b['ci95'][0]:.5g} to {b['ci95'][1]:.5g})"
        for b in value["boundaries"]
    ]
    for e in value["events"]:
        far = e["boundary_distance_log10"]
        distance = "no boundary" if far is None else f"{far:.2f} decades from the nearest boundary"
        stage = f"in stage {e['stage_index'] + 1} ({e['stage']})"
        lines.append(f"{e['event']} at step {e['step']:.5g}: {stage}, {distance}")
    return "\n".join([*lines, *(f"note: {n}" for n in value.get("notes", []))])


def _flagged(t: Trajectory, low: float, high: float) -> int:
    """How many estimates of a stage carry a flag."""
    return 0 if t.flagged is None else int(t.flagged[(t.x >= low) & (t.x <= high)].sum())


def _step(x: float) -> float:
    """A step from its logarithm, to four digits."""
    return float(f"{10**x:.4g}")
