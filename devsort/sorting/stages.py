"""The `stages` command: the LLC table and the heads of a run in, stages.json out."""

from typing import TYPE_CHECKING, Any

import numpy as np

from devsort.sorting.artifacts import HEADS, LLC, STAGES
from devsort.sorting.config import HeadsConfig
from devsort.sorting.heads.step import stored_events
from devsort.sorting.run import Run
from devsort.stages import detect, from_llc
from devsort.stages.naming import Scores
from devsort.stages.report import as_json
from devsort.stages.summary import summary
from devsort.storage.objects import write_object

if TYPE_CHECKING:
    import xarray as xr


def run_stages(run: Run, force: bool = False) -> dict[str, Any]:
    """Finds the stages of a run, links its head-mode events, and writes stages.json.

    Args:
        run: A run with llc.zarr and heads.zarr.
        force: Redo what is already there.

    Returns:
        boundaries, stages, events and summary as in docs/stages.md.

    Raises:
        UserError: llc.zarr or heads.zarr is missing; names the command that makes it.
    """
    return run.update(STAGES, _found, write_object, force)


def _found(run: Run) -> dict[str, Any]:
    llc, heads = run.read(LLC), run.read(HEADS)
    trajectory = from_llc(llc, str(run.llc), run.config.stages.signals)
    result = detect(trajectory, run.config.stages)
    found = as_json(result, scores(heads, run.config.heads), stored_events(heads))
    notes = [*trajectory.notes, *found["notes"]]
    return {**found, "summary": summary(llc), "notes": notes}


def scores(heads: "xr.Dataset", config: HeadsConfig | None = None) -> Scores:
    """Head-mode scores over log step.

    Checkpoints at step 0 or without a finite score are left out.
    """
    step = heads.checkpoint.values.astype(float)
    table = heads.scores.transpose("checkpoint", "score")
    kept = (step >= 1) & np.isfinite(table.values).all(1)
    names = [str(s) for s in heads.score.values]
    level = (config or HeadsConfig()).overlap
    values = {name: table.values[kept, i] for i, name in enumerate(names)}
    return Scores(np.log10(step[kept]), values, level)
