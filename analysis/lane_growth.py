"""How time and memory grow with the number of lanes.

One sampler, one checkpoint, and 1 to 4,096 chains of the whole model.

python analysis/lane_growth.py --out docs/figures

Each point runs in a process of its own, so that its peak memory is its own. The peak of the same
process without chains is subtracted.
"""

import argparse
import json
import multiprocessing
import resource
import time
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from devsort.charts.axes import label, over_steps
from devsort.charts.style import INK, PALETTE, WIDTH, look, save_figure
from devsort.execution import one_core
from devsort.sorting.config import default_config
from devsort.sorting.model import init_params
from devsort.sorting.run import Run
from devsort.sorting.samplers import SortSampler

LANES = (1, 4, 16, 64, 256, 1024, 4096)
STEPS = 8


def measure(lanes: int, memory: int) -> tuple[float, float]:
    """Seconds that STEPS steps of the lanes take, and the peak memory of the process in MiB."""
    chains = (f"llc.sampler.num_chains={max(lanes, 1)}", f"llc.sampler.num_draws={STEPS}")
    config = default_config(
        (*chains, "llc.sampler.num_burnin_steps=0", "llc.parts=[]", f"memory={memory}")
    )
    ticks: list[float] = []
    with one_core():
        sampler = SortSampler(Run(Path("growth"), config))
        params = init_params(sampler.shape, config.model.init_scale, 0)
        checkpoint = sampler.checkpoint(params)
        if lanes:
            ticks.append(time.perf_counter())
            sampler.sample({1: checkpoint}, "full", lambda _: ticks.append(time.perf_counter()))
    seconds = ticks[-1] - ticks[0] if lanes else 0.0
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@look()
def draw(seconds: np.ndarray, mebibytes: np.ndarray, memory: int, folder: Path) -> list[Path]:
    figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    linear = seconds[-1] * np.array(LANES) / LANES[-1]
    left.plot(LANES, linear, color="0.6", lw=0.8, label="linear")
    left.plot(LANES, seconds, color=INK, marker="o", ms=3.5, lw=0, label="measured")
    left.set(yscale="log", xlabel="lanes", ylabel=f"seconds for {STEPS} steps")
    label(left.yaxis, "log", *left.get_ylim())
    left.legend()
    right.axhline(memory, color=PALETTE[1], lw=1, label="budget")
    right.plot(
        LANES, np.maximum(mebibytes, 0), color=INK, marker="o", ms=3.5, lw=1, label="measured"
    )
    right.set(
        xlabel="lanes",
        ylabel="memory for lanes (MiB)",
        ylim=(0, 1.25 * max(memory, mebibytes.max())),
    )
    right.legend()
    for axis in (left, right):
        over_steps(axis, "log", LANES[0] / 1.5, LANES[-1] * 1.5)
    return save_figure(figure, folder, "lane-growth")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("comparison"))
    parser.add_argument("--memory", type=int, default=256, help="budget in MiB")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with context.Pool(1, maxtasksperchild=1) as pool:
        results = [pool.apply(measure, (lanes, arguments.memory)) for lanes in (0, *LANES)]
    seconds, peak = np.array(results).T
    mebibytes = peak[1:] - peak[0]
    print(f"{'lanes':>6} {'seconds':>8} {'lane-steps/s':>13} {'MiB':>6}")
    for lanes, s, m in zip(LANES, seconds[1:], mebibytes, strict=True):
        print(f"{lanes:6d} {s:8.2f} {lanes * STEPS / s:13.0f} {m:6.0f}")
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"lanes": LANES, "seconds": list(seconds[1:]), "mib": list(mebibytes)})
        )
    print("\n".join(map(str, draw(seconds[1:], mebibytes, arguments.memory, arguments.out))))


if __name__ == "__main__":
    main()
