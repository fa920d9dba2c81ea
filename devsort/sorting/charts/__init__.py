"""Figures of a run, from its artifacts."""

from collections.abc import Sequence
from pathlib import Path

from devsort.charts.style import BOTH, WIDTH, save_figure
from devsort.sorting.run import Run
from devsort.storage.objects import write_object


def draw_all(run: Run, kinds: Sequence[str] = BOTH, width: float = WIDTH) -> list[Path]:
    """Draws every figure of a run into its figures/ and returns the files.

    Args:
        run: A run with its stages.
        kinds: Kinds of files, see `style.KINDS`.
        width: Width of the figures in inches.

    Raises:
        UserError: An artifact is missing or stale; names the command that makes it.
    """
    from devsort.charts import stage_chart, traces
    from devsort.sorting.artifacts import FIGURES, LLC, MADE_FROM
    from devsort.sorting.charts import circuits, ownership
    from devsort.sorting.charts.story import story_of
    from devsort.sorting.samplers import chance_loss

    figures = {
        "stages": lambda: stage_chart.figure(story_of(run), width),
        "circuits": lambda: circuits.of_run(run, width),
        "ownership": lambda: ownership.of_run(run, width),
        "traces": lambda: traces.figure(run.read(LLC), chance_loss(run), width),
    }
    with run.lock():
        paths = [
            path
            for name, figure in figures.items()
            for path in save_figure(figure(), run.figures, name, kinds)
        ]
        files = {"files": [path.name for path in paths]}
        write_object(run.figures / MADE_FROM, files, run.origin(FIGURES))
    return paths
