"""What of a run is done, stale, broken or missing, with the command that mends it."""

from devsort.errors import Stale, Unfinished, UserError
from devsort.sorting.artifacts import CHECKPOINTS, FIGURES, HEADS, LLC, STAGES
from devsort.sorting.run import Run
from devsort.storage.artifact import Artifact

STATES = {Stale: "stale", Unfinished: "unfinished"}
SIZES = {
    CHECKPOINTS: lambda steps: f"{len(steps)} steps",
    LLC: lambda llc: f"{llc.sizes['checkpoint']} checkpoints",
    HEADS: lambda heads: f"{heads.sizes['checkpoint']} checkpoints",
    STAGES: lambda stages: f"{len(stages['stages'])} stages",
    FIGURES: lambda files: f"{len(files)} files",
}  # of each artifact that is verified


def status(run: Run) -> dict:
    """Verifies every artifact of a run.

    Returns:
        run, and parts: name, detail and state: `done`; `missing`; `unfinished`: its command goes on
            from there;
        `stale`: made from another config or other inputs; or `broken`: damaged, or without an input
            that it needs.
    """
    return {"run": str(run.path), "parts": [_part(run, artifact) for artifact in SIZES]}


def table(value: dict) -> str:
    """The status for a reader."""
    lines = [f"{p['part']:12} {p['state']:10} {p['detail']}" for p in value["parts"]]
    return "\n".join(line.rstrip() for line in lines)


def _part(run: Run, artifact: Artifact) -> dict:
    try:
        detail = SIZES[artifact](run.read(artifact))
        return {"part": artifact.name, "state": "done", "detail": detail}
    except UserError as e:
        there = run.file(artifact).exists()
        state = STATES.get(type(e), "broken") if there else "missing"
        return {"part": artifact.name, "state": state, "detail": str(e)}
