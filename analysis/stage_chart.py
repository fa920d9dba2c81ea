"""The stage chart of one run, over log step.

Loss, LLC, per-head LLC and head-mode scores, with stages and events.

python analysis/stage_chart.py runs/baseline
"""

import sys

from devsort.charts import stage_chart, style
from devsort.sorting.charts.story import story_of
from devsort.sorting.run import open_run


def main(path: str) -> None:
    run = open_run(path)
    story = story_of(run)
    # change anything here: `story` holds the data, `figure.axes` the panels
    figure = stage_chart.figure(story)
    for file in style.save_figure(figure, run.figures, "stages"):
        print(file)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs/baseline")
