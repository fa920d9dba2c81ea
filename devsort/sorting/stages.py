"""The `stages` command: reads the LLC table and the heads of a run, writes stages.json."""

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
        force: Find them again even if stages.json is up to date.

    Returns:
        boundaries, stages, events and summary as in docs/stages.md.

    Raises:
        UserError: llc.zarr or heads.zarr is missing; names the command that makes it.
    """
    return run.update(STAGES, _find, write_object, force)


def _find(run: Run) -> dict[str, Any]:
    llc, heads = run.read(LLC), run.read(HEADS)
    trajectory = from_llc(llc, str(run.llc), run.config.stages.signals)
    result = detect(trajectory, run.config.stages)
    report = as_json(result, scores(heads, run.config.heads), stored_events(heads))
    notes = [*trajectory.notes, *report["notes"]]
    return {**report, "summary": summary(llc), "notes": notes}


def scores(heads: "xr.Dataset", config: HeadsConfig | None = None) -> Scores:
    """Head-mode scores over log step.

    Checkpoints at step 0 or without a finite score are left out.
    """
    step = heads.checkpoint.values.astype(float)
    table = heads.scores.transpose("checkpoint", "score")
    valid = (step >= 1) & np.isfinite(table.values).all(1)
    names = [str(s) for s in heads.score.values]
    level = (config or HeadsConfig()).overlap
    values = {name: table.values[valid, i] for i, name in enumerate(names)}
    return Scores(np.log10(step[valid]), values, level)
