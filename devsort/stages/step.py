"""The pipeline step: reads the LLC table and the head-mode scores of a run, writes stages.json."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from devsort import artifacts
from devsort.artifacts import Run
from devsort.config import HeadsConfig, StagesConfig
from devsort.errors import UserError
from devsort.stages import link, naming
from devsort.stages.detector import Result, detect
from devsort.stages.trajectory import Trajectory, from_llc, read_csv

if TYPE_CHECKING:
    import xarray as xr

SECTIONS = (*artifacts.TRAIN_SECTIONS, "llc", "heads", "stages")


def run_stages(run: Run, force: bool = False) -> dict[str, Any]:
    """Finds the stages of a run, links its head-mode events, and writes stages.json.

    Args:
        run: A run with llc.zarr and heads.zarr.
        force: Redo what is already there.

    Returns:
        boundaries, stages, events as in docs/stages.md, and provenance.

    Raises:
        UserError: llc.zarr or heads.zarr is missing; names the command that makes it.
    """
    with run.lock():
        return _found(run, force)


def _found(run: Run, force: bool) -> dict[str, Any]:
    from devsort.heads import events

    llc, heads, origin = _inputs(run)
    if not force and run.stages.is_file():
        try:
            return _checked(run, origin)
        except UserError:
            pass  # made from other inputs: made anew below
    config = run.config.stages
    result = detect(from_llc(llc, str(run.llc), config.signals), config)
    value = {
        "run": str(run.path),
        **as_json(result, scores(heads, run.config.heads), events(heads)),
        "notes": list(result.trajectory.notes),
        "provenance": origin,
    }
    artifacts.write_json(run.stages, {**value, "checksum": _checksum(value)})
    return value


def load_stages(run: Run) -> dict[str, Any]:
    """Reads stages.json and verifies that it belongs to the run's config, LLC table and head-mode scores.

    Raises:
        UserError: One of them is missing, damaged, or from something else; names the command that makes it.
    """
    return _checked(run, _inputs(run)[2])


def stages_of_csv(path: Path, config: StagesConfig | None = None) -> dict[str, Any]:
    """Finds the stages of a trajectory in a CSV file; see `trajectory.read_csv` for what is repaired and refused."""
    trajectory = read_csv(Path(path))
    return {"trajectory": str(path), **as_json(detect(trajectory, config)), "notes": list(trajectory.notes)}


def scores(heads: "xr.Dataset", config: HeadsConfig | None = None) -> naming.Scores:
    """Head-mode scores over log step; checkpoints at step 0 or without a finite score are left out."""
    step = heads.checkpoint.values.astype(float)
    table = heads.scores.transpose("checkpoint", "score")
    kept = (step >= 1) & np.isfinite(table.values).all(1)
    names = [str(s) for s in heads.score.values]
    level = (config or HeadsConfig()).overlap
    return naming.Scores(np.log10(step[kept]), {n: table.values[kept, i] for i, n in enumerate(names)}, level)


def as_json(
    result: Result, scores: naming.Scores | None = None, events: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """The stable JSON object of docs/stages.md: boundaries, stages, events."""
    t = result.trajectory
    shares = naming.loss_shares(result.segments, t.x, t.loss)
    directions = naming.loss_directions(result.segments, t.x, t.loss)
    names = naming.names(result.segments, shares, scores)
    low, high = ([_step(x), _step(x)] for x in (t.x[0], t.x[-1]))
    cuts = [[_step(b.low), _step(b.high)] for b in result.boundaries]
    return {
        "boundaries": [{"step": _step(b.x), "ci95": ci} for b, ci in zip(result.boundaries, cuts, strict=True)],
        "stages": [
            {
                "name": name, "from": _step(s.low), "to": _step(s.high), "llc": s.direction, "loss": loss,
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
        lines.append(f"{head}{s['rate']:12.1f}  {low:.1f} to {high:.1f}")
    lines += [
        f"boundary at step {b['step']:.5g} (95 %: {b['ci95'][0]:.5g} to {b['ci95'][1]:.5g})"
        for b in value["boundaries"]
    ]
    for e in value["events"]:
        far = e["boundary_distance_log10"]
        distance = "no boundary" if far is None else f"{far:.2f} decades from the nearest boundary"
        lines.append(
            f"{e['event']} at step {e['step']:.5g}: in stage {e['stage_index'] + 1} ({e['stage']}), {distance}"
        )
    return "\n".join([*lines, *(f"note: {n}" for n in value.get("notes", []))])


def _checked(run: Run, origin: Mapping[str, str]) -> dict[str, Any]:
    command = f"devsort stages {run.path}"
    value = artifacts.read_json(run.stages, command)
    found = value.get("provenance")
    if not isinstance(found, dict) or not {"boundaries", "stages", "events"} <= value.keys():
        raise UserError(f"{run.stages} is not what devsort wrote", f"run `{command} --force` to make it again")
    artifacts.check_provenance(found, origin, run.stages, f"{command} --force")
    if value.pop("checksum", None) != _checksum(value):
        raise UserError(f"{run.stages} does not match its checksum", f"run `{command} --force` to make it again")
    return {**value, "run": str(run.path)}  # the folder may have another name by now


def _checksum(value: Mapping[str, Any]) -> str:
    """Identity of everything but the folder's name."""
    return artifacts.identity({key: part for key, part in value.items() if key != "run"})


def _flagged(t: Trajectory, low: float, high: float) -> int:
    """How many estimates of a stage carry a flag."""
    return 0 if t.flagged is None else int(t.flagged[(t.x >= low) & (t.x <= high)].sum())


def _inputs(run: Run) -> tuple["xr.Dataset", "xr.Dataset", dict[str, str]]:
    """LLC table, heads, and the origin that stages made from them have."""
    from devsort.heads import load_heads
    from devsort.llc import load_llc

    llc, heads = load_llc(run), load_heads(run)
    return llc, heads, artifacts.provenance(run, *SECTIONS, inputs=_identity(llc, heads))


def _identity(llc: "xr.Dataset", heads: "xr.Dataset") -> str:
    """Identity of the numbers that the stages are made from."""
    arrays = [llc.checkpoint, llc.llc, llc.se, llc.checkpoint_loss, heads.checkpoint, heads.scores]
    return artifacts.identity([np.nan_to_num(a.values, nan=-1.0).astype(float).tolist() for a in arrays])


def _step(x: float) -> float:
    """A step from its logarithm, to four digits."""
    return float(f"{10**x:.4g}")
