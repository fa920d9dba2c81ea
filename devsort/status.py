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


def _checks() -> dict[str, tuple[Callable[[Run], object], Callable[[Run], str]]]:
    from devsort.heads import load_heads
    from devsort.llc import load_llc
    from devsort.stages import load_stages

    return {
        "checkpoints": (_verify_checkpoints, lambda run: f"{len(run.steps())} steps"),
        "llc": (load_llc, lambda run: f"{load_llc(run).sizes['checkpoint']} checkpoints"),
        "heads": (load_heads, lambda run: f"{load_heads(run).sizes['checkpoint']} checkpoints"),
        "stages": (load_stages, lambda run: f"{len(load_stages(run)['stages'])} stages"),
    }


def _part(run: Run, name: str, check: tuple[Callable[[Run], object], Callable[[Run], str]]) -> dict:
    verify, detail = check
    path = {"llc": run.llc, "heads": run.heads, "stages": run.stages}.get(name, run.checkpoints)
    try:
        verify(run)
        return {"part": name, "state": "done", "detail": detail(run)}
    except UserError as e:
        return {"part": name, "state": "broken" if path.exists() else "missing", "detail": str(e)}


def _verify_checkpoints(run: Run) -> None:
    steps, config = trained_steps(run), run.config.train
    if missing := sorted(set(checkpoint_steps(config.checkpoints, config.steps)) - set(steps)):
        raise UserError(f"{run.checkpoint(missing[0])} is missing", f"run `devsort train {run.path}` to make it again")
    for step in steps:
        load_checkpoint(run, step)
