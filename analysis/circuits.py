"""OV and QK circuits of a run at the given steps.

python analysis/circuits.py runs/baseline --steps 100 1000 6000
"""

import argparse
from pathlib import Path

from devsort.charts.style import save_figure
from devsort.sorting.charts import circuits
from devsort.sorting.run import open_run


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument(
        "--steps", type=int, nargs="+", help="saved steps; default: the end of each stage"
    )
    arguments = parser.parse_args()
    run = open_run(arguments.run)
    steps = arguments.steps or circuits.shown_steps(run)
    figure = circuits.plot(circuits.matrices(run, steps), [f"step {s}" for s in steps])
    print(*save_figure(figure, run.figures, "circuits"), sep="\n")


if __name__ == "__main__":
    main()
