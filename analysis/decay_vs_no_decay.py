"""Weight decay compared with none: the overlay chart and the table of differences.

python analysis/decay_vs_no_decay.py runs/baseline runs/no-decay
"""

import sys
from pathlib import Path

from devsort.sorting.charts.story import draw_comparison
from devsort.sorting.compare import compare_runs
from devsort.sorting.run import open_run
from devsort.stages.compare import markdown


def main(paths: list[str]) -> None:
    runs = [open_run(path) for path in paths]
    print(markdown(compare_runs(runs)))
    for saved in draw_comparison(runs, Path("comparison")):
        print(saved)


if __name__ == "__main__":
    main(sys.argv[1:] or ["runs/baseline", "runs/no-decay"])
