"""Where draws are best spent: where chains start, and where checkpoints lie.

python analysis/draw_placement.py runs                # both tables, some 15 minutes on one core
python analysis/draw_placement.py runs --only start

`start`: chains at a checkpoint start at w*, as they do by default, or where the chains of the
checkpoint before it ended (with the same displacement in units of each block's scale). The script
prints how far the mean over each stretch of steps is from the mean over the last 120 of 240 steps
of both.

`place`: the baseline's LLC is estimated at every other checkpoint from step 46 on, twice, with
different noise. From the first estimates some checkpoints are chosen: evenly over log step, or half
of them evenly and the others one by one, each in the middle of the stretch that bends most. The
curve through their LLCs is compared with the second estimates.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from geometry_tools import RELATIVE, traces, with_sampler
from torch import Tensor

from devsort.execution import one_core
from devsort.llc import estimate
from devsort.sampling import Trace, run_chains
from devsort.sorting.checkpoints import load_checkpoint, trained_steps
from devsort.sorting.run import Run, open_run
from devsort.sorting.samplers import SortSampler
from devsort.stages import Trajectory, detect

PAIRS = ((68, 91), (147, 178), (316, 383), (681, 825), (2300, 2800), (5500, 6000))
STRETCHES = ((0, 15), (15, 30), (30, 60), (60, 90), (90, 120))
CHAINS, STEPS = 8, 240
FIRST, NUMBERS = 46, (8, 12, 16)  # checkpoints of a trajectory


class Start:
    """Moves the chains to their starting point before their first step, and keeps their state.

    Args:
        moved: Displacement from w* in units of the scales; None: no displacement.
    """

    every = 1

    def __init__(self, moved: Tensor | None) -> None:
        self.moved = moved

    def __call__(self, w: Tensor) -> None:
        """See `devsort.sampling.chains.Watch`."""
        if self.moved is not None:
            w += self.moved
            self.moved = None
        self.state = w


def chains(
    sampler: SortSampler, step: int, starts: Sequence[Tensor | None]
) -> tuple[np.ndarray, list[Tensor]]:
    """nβ (L − L(w*)) as (C, T), and how far each piece of the chains is from w* at the end."""
    losses, ends = [], []
    for piece, moved in zip(sampler.lanes_of(sampler.load([step]), "full"), starts, strict=True):
        watch, center = Start(moved), piece.objective.center
        trace = run_chains(piece.objective, sampler.config, piece.streams, watch=watch)
        losses.append(sampler.config.n_beta * (trace.loss - trace.init_loss))
        ends.append(watch.state - center)
    return np.concatenate(losses), ends


def compare_starts(run: Run) -> None:
    """Prints the first table."""
    settings = {**RELATIVE, "num_chains": CHAINS, "num_burnin_steps": 0, "num_draws": STEPS}
    sampler = SortSampler(with_sampler(run, **settings))
    there = trained_steps(run)
    print("step  from            " + "  ".join(f"{a:3d}–{b:<3d}    " for a, b in STRETCHES))
    for wanted in PAIRS:
        before, step = (min(there, key=lambda s: abs(s - w)) for w in wanted)
        nowhere = [None] * len(sampler.pieces)
        _, ends = chains(sampler, before, nowhere)
        arms = {"w*": chains(sampler, step, nowhere)[0]}
        arms[f"step {before}"] = chains(sampler, step, ends)[0]
        truth = np.mean([arm[:, STEPS // 2 :].mean() for arm in arms.values()])
        for name, arm in arms.items():
            means = [arm[:, a:b].mean(1) / truth - 1 for a, b in STRETCHES]
            columns = [f"{m.mean():+6.1%} ± {m.std(ddof=1) / CHAINS**0.5:.1%}" for m in means]
            print(f"{step:4d}  {name:12s} " + "  ".join(columns), flush=True)


def evenly(x: np.ndarray, number: int) -> list[int]:
    """Indices of `number` points, spread evenly over x."""
    grid = np.linspace(x[0], x[-1], number)
    return sorted({int(np.abs(x - g).argmin()) for g in grid})


def where_it_bends(x: np.ndarray, y: np.ndarray, number: int) -> list[int]:
    """Half of the points evenly, then one by one in the middle of the stretch that bends most."""
    chosen = evenly(x, number // 2)
    while len(chosen) < number:
        slopes = np.diff(y[chosen]) / np.diff(x[chosen])
        bends = np.abs(np.diff(slopes, prepend=slopes[0], append=slopes[-1]))
        scores = (bends[:-1] + bends[1:]) * np.diff(x[chosen]) ** 2
        scores *= np.diff(chosen) > 1
        i = int(scores.argmax())
        middle = (x[chosen[i]] + x[chosen[i + 1]]) / 2
        inside = np.arange(chosen[i] + 1, chosen[i + 1])
        chosen.insert(i + 1, int(inside[np.abs(x[inside] - middle).argmin()]))
    return chosen


def curve(run: Run, steps: Sequence[int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """LLC and standard error at each of the steps."""
    run = with_sampler(run, **RELATIVE, seed=seed)
    by_step: dict[int, Trace] = traces(run, {s: load_checkpoint(run, s) for s in steps})
    estimates = [estimate(by_step[s]) for s in steps]
    return np.array([e.llc for e in estimates]), np.array([e.se for e in estimates])


def features(x: np.ndarray, y: np.ndarray, se: np.ndarray) -> tuple[float, float, list[float]]:
    """The largest value, the final value as a share of it, and the boundaries in decades."""
    stages = detect(Trajectory(10**x, y, se))
    return y.max(), y[-1] / y.max(), [b.x for b in stages.boundaries]


def compare_places(run: Run) -> None:
    """Prints the second table."""
    steps = [s for s in trained_steps(run) if s >= FIRST][::2]
    x = np.log10(steps)
    y, se = curve(run, steps, 0)
    truth = curve(run, steps, 1)
    print(f"all {len(steps)}, other noise:", features(x, *truth), flush=True)
    print("number  chosen        off by (rms)  peak  final/peak  boundaries, log10 step")
    for number in NUMBERS:
        for name, chosen in (
            ("evenly", evenly(x, number)),
            ("where it bends", where_it_bends(x, y, number)),
        ):
            through = np.interp(x, x[chosen], y[chosen])
            off = np.sqrt(np.mean((through - truth[0]) ** 2))
            peak, final, edges = features(x[chosen], y[chosen], se[chosen])
            where = " ".join(f"{e:.2f}" for e in edges)
            print(
                f"{len(chosen):6d}  {name:14s} {off:8.1f}  {peak:6.1f}  {final:.3f}  {where}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, help="folder with the run `baseline`")
    parser.add_argument("--only", choices=("start", "place"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    run = open_run(args.runs / "baseline")
    with one_core():
        if args.only != "place":
            compare_starts(run)
        if args.only != "start":
            compare_places(run)


if __name__ == "__main__":
    main()
