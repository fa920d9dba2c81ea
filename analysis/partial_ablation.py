"""Is it for its size that ablation ranks the numbers otherwise than draws do? A table by its share.

python analysis/partial_ablation.py runs/baseline runs/no-decay

At a run's last checkpoint with susceptibilities a share of a head's output gives way to its mean.
Rank correlation, over numbers and among those of an owner, of the ratio of the variances of the
heads' draws with the difference of the rises of the loss; medians of the rise without the owner and
without the other head, in nats; and over the numbers the rank correlation of the variance over the
owner's draws with the rise without it, and with the number's loss at the checkpoint.
"""

import argparse
from pathlib import Path

import numpy as np
from owner_order import rank, within
from susceptibility_seeds import HEADS, LISTS, increases

from devsort.sorting.artifacts import SUSCEPTIBILITY
from devsort.sorting.checkpoints import load_checkpoint
from devsort.sorting.run import open_run
from devsort.sorting.task import eval_batch

SHARES = (1.0, 0.75, 0.5, 0.25, 0.1)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    titles = ("all", "within", "owner", "other", "variance~rise", "variance~loss")
    print(f"{'run, step':18}{'share':>6}" + "".join(f"{title:>15}" for title in titles))
    for path in parser.parse_args().runs:
        run = open_run(path)
        print(table(run, run.read(SUSCEPTIBILITY).isel(checkpoint=-1)))


def table(run, found):
    step, config = int(found.checkpoint), run.config
    variance = found.variance_number.sel(component=list(HEADS)).values
    batch = eval_batch(config.task, LISTS)
    rises = increases(load_checkpoint(run, step), batch, config.task.numbers, SHARES)
    owner = rises[0].argmax(0)[None]
    lines = []
    for share, rise in zip(SHARES, rises, strict=True):
        values = row(np.log(variance[0] / variance[1]), rise, owner)
        own = np.take_along_axis(variance, owner, 0)[0]
        values += [rank(own, np.take_along_axis(rise, owner, 0)[0])]
        values += [rank(own, found.loss_number.values)]
        told = "".join(f"{value:15.3f}" for value in values)
        lines.append(f"{f'{run.path.name} {step}':18}{share:6.2f}{told}")
    return "\n".join(lines)


def row(ratio, rise, owner):
    """Agreement of all numbers and of an owner's, and the median rises."""
    apart = rise[0] - rise[1]
    medians = [float(np.median(np.take_along_axis(rise, which, 0))) for which in (owner, 1 - owner)]
    return [rank(ratio, apart), within(ratio, apart), *medians]


if __name__ == "__main__":
    main()
