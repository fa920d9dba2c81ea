"""What of a run is done, stale, broken or missing, with the command that mends it."""

from collections.abc import Callable

from devsort.artifacts import Run, trained_steps
from devsort.checkpoints import check_training, load_resume_step
from devsort.errors import Stale, Unfinished, UserError

STATES = {Stale: "stale", Unfinished: "unfinished"}


def status(run: Run) -> dict:
    """Verifies every artifact of a run.

    Returns:
        run, and parts: name, detail and state: `done`; `missing`; `unfinished`: its command goes on from there;
        `stale`: made from another config or other inputs; or `broken`: damaged, or without an input that it needs.
    """
    return {"run": str(run.path), "parts": [_part(run, name, check) for name, check in _checks().items()]}


def table(value: dict) -> str:
    """The status for a reader."""
    return "\n".join(f"{p['part']:12} {p['state']:10} {p['detail']}".rstrip() for p in value["parts"])


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
        state = STATES.get(type(e), "broken") if path.exists() else "missing"
        return {"part": name, "state": state, "detail": str(e)}


def _verified_checkpoints(run: Run) -> int:
    last, steps = trained_steps(run)[-1], load_resume_step(run)
    if 0 < steps < last:
        raise Unfinished(f"{run.path} is made again as far as step {steps}", f"run `devsort train {run.path}` first")
    return check_training(run, last)
