"""Charts: figures that read a run's artifacts and draw them; nothing is computed here that is not drawn."""

from collections.abc import Iterator
from pathlib import Path

from devsort.artifacts import Run


def draw_all(run: Run) -> Iterator[Path]:
    """Draws every figure of a run and yields the files as they are written."""
    from devsort.charts import circuits, ownership, stage_chart, traces

    with run.lock():
        for module in (stage_chart, circuits, ownership, traces):
            yield from module.draw(run)
