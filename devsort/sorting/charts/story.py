"""What the charts of stages show, read from run folders."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from devsort.charts.compare import figure
from devsort.charts.curves import Curve, positive
from devsort.charts.stage_chart import Story, from_datasets
from devsort.charts.style import BOTH, WIDTH, save_figure
from devsort.sorting.artifacts import HEADS, LLC, STAGES
from devsort.sorting.checkpoints import read_log
from devsort.sorting.run import Run, short_names


def story_of(run: Run) -> Story:
    """What the stage chart of a run shows.

    Raises:
        UserError: llc.zarr, heads.zarr or stages.json is missing or stale.
    """
    loss = None
    if run.training_log.is_file():
        pairs = np.array([(line["step"], line["val_loss"]) for line in read_log(run)], float)
        loss = positive(Curve(pairs[:, 0], pairs[:, 1])) if len(pairs) else None
    return from_datasets(run.read(STAGES), run.read(LLC), run.read(HEADS), loss)


def draw_comparison(
    runs: Sequence[Run], folder: Path, kinds: Sequence[str] = BOTH, width: float = WIDTH
) -> list[Path]:
    """Draws the overlay of runs into a folder; returns the paths."""
    names = short_names([run.path for run in runs])
    stories = dict(zip(names, map(story_of, runs), strict=True))
    return save_figure(figure(stories, width), folder, "compare", kinds)
