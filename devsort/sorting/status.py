"""Which artifacts of a run are done, stale, broken or missing, and the command that fixes each."""

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
}  # how `status` gives the size of each artifact


def status(run: Run) -> dict:
    """Verifies every artifact of a run.

    Returns:
        run, and parts: the name, detail and state of each artifact. The state is `done`; `missing`;
        `unfinished`, if its command can be resumed; `stale`, if it was made from another config or
        other inputs; or `broken`, if it is damaged or lacks an input.
    """
    return {"run": str(run.path), "parts": [_part(run, artifact) for artifact in SIZES]}


def table(value: dict) -> str:
    """The status as text."""
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
