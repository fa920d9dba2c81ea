"""Do mean ablation, resample ablation and the copy effect name the same head?

One row per checkpoint.

python analysis/ablation_agreement.py runs/baseline runs/no-decay
"""

import argparse
from pathlib import Path

import numpy as np

from devsort.sorting.artifacts import HEADS
from devsort.sorting.heads import modes, ranges
from devsort.sorting.run import open_run

ROWS = 5


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    head = f"{'run':20}{'step':>7}{'owned':>8}{'resample agrees':>17}"
    print(f"{head}{'copy effect agrees':>20}{'split':>7}{'by resample':>13}")
    for path in parser.parse_args().runs:
        run = open_run(path)
        heads = run.read(HEADS)
        last = heads.sizes["checkpoint"] - 1
        for i in np.linspace(last // 2, last, ROWS).astype(int):
            print(row(path.name, heads.isel(checkpoint=i), run.config.heads))


def row(name, one, config):
    """Among numbers that need a head: the share on which the two other measures name the same."""
    owner, owned = one.owner.values, one.owner.values >= 0
    resample = one.loss_increase_resample.values
    same = [
        (owner == v.argmax(0))[owned].mean() if owned.any() else np.nan
        for v in (resample, one.copy_effect.values)
    ]
    other = modes.split_score(ranges.shares({"loss_increase": resample}, config), config)
    split = float(one.scores.sel(score="vocabulary_splitting"))
    agreed = f"{owned.mean():8.0%}{same[0]:17.0%}{same[1]:20.0%}"
    return f"{name:20}{int(one.checkpoint):7d}{agreed}{split:7.2f}{other:13.2f}"


if __name__ == "__main__":
    main()
