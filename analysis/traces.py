"""SGLD traces of a run at an early, a middle and a late checkpoint, burn-in shaded, as PNG and SVG.

python analysis/traces.py runs/baseline
"""

import argparse
from pathlib import Path

from devsort.charts import traces
from devsort.charts.style import save_figure
from devsort.sorting.artifacts import LLC
from devsort.sorting.run import open_run
from devsort.sorting.samplers import chance_loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    run = open_run(parser.parse_args().run)
    figure = traces.figure(run.read(LLC), chance_loss(run))
    print(*save_figure(figure, run.figures, "traces"), sep="\n")


if __name__ == "__main__":
    main()
