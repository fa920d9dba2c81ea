"""What can be said of checkpoints that are no minimum: new chains at some steps of a run.

python analysis/early_checkpoints.py runs/baseline # a minute of CPU

Estimators are those of analysis/variance_estimator.py. `gain` is nβ (L(w*) − L(w̄)): what the chain
gains by training on, up to the centre of its draws. `drift` is the second half of the draws less
the first. `draws` is how many times as many of them V paired needs as λ̂.
"""

import argparse
import time
from pathlib import Path

from torch import Tensor
from variance_estimator import Spread, centred, cost, drawn, estimators, told

from devsort.execution import one_core, torch_threads
from devsort.sampling.losses import means
from devsort.sorting.checkpoints import load_checkpoint
from devsort.sorting.geometry import relative
from devsort.sorting.objective import Checkpoint, SortObjective
from devsort.sorting.run import Run, open_run
from devsort.sorting.samplers import SortSampler

STEPS = (10, 29, 42, 91, 215, 6000)
LENGTH = {"num_chains": 6, "num_burnin_steps": 80, "num_draws": 120}


def sampled(run: Run, steps: list[int]) -> None:
    """The whole model at some steps, from chains of its own."""
    sampler = SortSampler(run)
    sampler = sampler.with_settings(sampler.config.model_copy(update=LENGTH))
    print("| step | loss | λ̂ | V | V paired | C | gain | drift | draws | CPU s, s² |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for step in steps:
        print(row(sampler, load_checkpoint(run, step), step), flush=True)


def row(sampler: SortSampler, params: dict[str, Tensor], step: int) -> str:
    begun = time.process_time()
    checkpoint, config = sampler.checkpoint(params), sampler.config
    plain = SortObjective(
        sampler.kernels, [checkpoint], "full", sampler.batches(range(config.num_chains))
    )
    table = means(checkpoint.losses, 1)  # (n,)
    spread = Spread(plain, "kernel", lambda at: table[plain.batches.at(at)])
    objective = relative(spread, [checkpoint], sampler.shape)
    trace, positions = drawn(objective, config, step)
    seconds = time.process_time() - begun
    loss = float(table.mean())

    def gain_of(v: Tensor) -> float:
        moved = sampler.kernels[0].layout.views(v * objective.scale.flatten())
        return loss - float(Checkpoint(sampler.kernels[0], moved, sampler.data).losses.mean())

    found, gain = estimators(trace), config.n_beta * gain_of(positions.mean((0, 1)))
    rise = config.n_beta * trace.rise
    half = rise.shape[1] // 2
    drift = rise[:, half:].mean() - rise[:, :half].mean()
    return (
        f"| {step} | {loss:.2f} | {told(found['mean'])} | {told(found['var'])} "
        f"| {told(found['paired'])} | {told(centred(trace, positions, gain_of))} "
        f"| {gain:.0f} | {drift:+.0f} | {abs(cost(found['paired'], found['mean'])):.0f} "
        f"| {seconds:.0f}, {spread.seconds:.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--step", type=int, action="append")
    args = parser.parse_args()
    with torch_threads(1), one_core():
        sampled(open_run(args.run), args.step or list(STEPS))


if __name__ == "__main__":
    main()
