"""What of a run is done, stale, broken or missing, with the command that mends it."""

from collections.abc import Callable

from devsort.artifacts import Run, load_checkpoint, trained_steps
from devsort.errors import UserError
from devsort.train import checkpoint_steps


def status(run: Run) -> dict:
    """Verifies every artifact of a run.

    Returns:
        run, and parts: name, state (`done`, `missing` or `broken`, which is stale, unfinished or damaged) and detail.
    """
    return {"run": str(run.path), "parts": [_part(run, name, check) for name, check in _checks().items()]}


def table(value: dict) -> str:
    """The status for a reader."""
    return "\n".join(f"{p['part']:12} {p['state']:8} {p['detail']}".rstrip() for p in value["parts"])


def _checks() -> dict[str, Callable[[Run], str]]:
    """For each part what verifies it and tells its size."""
    from devsort.heads import load_heads
    from devsort.llc import load_llc
    from devsort.stages import load_stages

    return {
        "checkpoints": lambda run: f"{_verified_checkpoints(run)} steps",
        "llc": lambda run: f"{load_llc(run).sizes['checkpoint']} checkpoints",
        "heads": lambda run: f"{load_heads(run).sizes['checkpoint']} checkpoints",
        "stages": lambda run: f"{len(load_stages(run)['stages'])} stages",
    }


def _part(run: Run, name: str, check: Callable[[Run], str]) -> dict:
    path = {"llc": run.llc, "heads": run.heads, "stages": run.stages}.get(name, run.checkpoints)
    try:
        return {"part": name, "state": "done", "detail": check(run)}
    except UserError as e:
        return {"part": name, "state": "broken" if path.exists() else "missing", "detail": str(e)}


def _verified_checkpoints(run: Run) -> int:
    steps, config = trained_steps(run), run.config.train
    if missing := sorted(set(checkpoint_steps(config.checkpoints, config.steps)) - set(steps)):
        raise UserError(f"{run.checkpoint(missing[0])} is missing", f"run `devsort train {run.path}` to make it again")
    for step in steps:
        load_checkpoint(run, step)
    return len(steps)
