"""The `compare` command: runs side by side."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from devsort.errors import UserError
from devsort.sorting.artifacts import HEADS, LLC, STAGES
from devsort.sorting.run import Run
from devsort.stages.compare import side_by_side


def compare_runs(runs: Sequence[Run]) -> dict[str, Any]:
    """Compares runs whose stages are known; see `devsort.stages.compare.side_by_side`.

    Raises:
        UserError: There are fewer than two runs, one is given twice, or one lacks an artifact or
            has no finite LLC.
    """
    if len({run.path.resolve() for run in runs}) < max(2, len(runs)):
        fix = "name them, as in `devsort compare RUN RUN`"
        raise UserError("compare needs two or more different runs", fix)
    geometries = {run.config.llc.sampler.geometry for run in runs}
    if len(geometries) > 1:
        fix = "sample them in one geometry: `devsort llc RUN --set llc.sampler.geometry=relative`"
        raise UserError("the LLCs of these runs are in different geometries", fix)
    return side_by_side([figures(run) for run in runs], [run.read(STAGES) for run in runs])


def figures(run: Run) -> dict[str, Any]:
    """Name and summary of a run, with its final loss, split score and the onset of the split."""
    stages = run.read(STAGES)
    if stages["summary"]["peak_llc"] is None:
        fix = f"see the flags that `devsort llc {run.path}` prints, and sample with other settings"
        raise UserError(f"{run.path} has no finite LLC", fix)
    onset = next((e for e in stages["events"] if e["event"] == "split_onset"), None)
    split = run.read(HEADS).scores.sel(score="vocabulary_splitting").values
    return {
        "run": str(run.path),
        **stages["summary"],
        "loss": _finite(run.read(LLC).checkpoint_loss.values[-1]),
        "split_score": _finite(split[-1]),
        "split_onset": onset and onset["step"],
        "split_onset_ci95": onset and onset["ci95"],
    }


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
