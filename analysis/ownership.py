"""Which head each number needs, over training.

python analysis/ownership.py runs/baseline
"""

import argparse
from pathlib import Path

from devsort.charts import ownership
from devsort.charts.style import save_figure
from devsort.sorting.heads import events, load_heads
from devsort.sorting.run import open_run


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    run = open_run(parser.parse_args().run)
    # an xarray.Dataset: heads.loss_increase.sel(head=0, number=17) is a curve over training
    heads = load_heads(run)
    print(*save_figure(ownership.plot(heads, events(heads)), run.figures, "ownership"), sep="\n")


if __name__ == "__main__":
    main()
