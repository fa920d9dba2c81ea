"""Which head each number needs, over training.

python analysis/ownership.py runs/baseline
"""

import argparse
from pathlib import Path

from devsort.charts.style import save_figure
from devsort.sorting.artifacts import HEADS
from devsort.sorting.charts import ownership
from devsort.sorting.heads.step import stored_events
from devsort.sorting.run import open_run


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    run = open_run(parser.parse_args().run)
    # an xarray.Dataset: heads.loss_increase.sel(head=0, number=17) is a curve over training
    heads = run.read(HEADS)
    figure = ownership.plot(heads, stored_events(heads))
    print(*save_figure(figure, run.figures, "ownership"), sep="\n")


if __name__ == "__main__":
    main()
