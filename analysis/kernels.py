"""Time of the sorter's loss and gradient on one core: compiled, and in torch.

python analysis/kernels.py                        # a minute

Both take turns on the same lanes, at a stored checkpoint. `of floor` is the share of the rate at
which the matrix products of the torch kernels alone would run at the machine's peak
(devsort/bench/floor.py). The last lines say where the compiled version spends its time.
"""

import time
from collections import Counter
from collections.abc import Callable
from statistics import median

import torch

from devsort.bench.floor import matrix_peak, step_flops
from devsort.execution import one_core, torch_threads
from devsort.sorting.config import Config
from devsort.sorting.kernels import HeadKernel, SortKernel
from devsort.sorting.kernels.compiled import Compiled
from devsort.sorting.model import model_shape
from devsort.sorting.task import sampling_set
from devsort.sorting.trained import weights

LANES = ((8, 64), (4, 128), (2, 256))  # lanes side by side, lists of each
TURNS = 40
PRODUCTS = ("aten::bmm", "aten::baddbmm", "aten::baddbmm_", "aten::addmm_")
CONFIG = Config()
SHAPE = model_shape(CONFIG.task, CONFIG.model)
DATA = sampling_set(CONFIG.task, CONFIG.llc.dataset_size)


def step_of(restriction: str, lanes: int, lists: int, compiled: bool) -> Callable[[], object]:
    """A function that computes loss and gradient of all lanes."""
    full, params = SortKernel(SHAPE, compiled=compiled), weights("baseline", 6000)
    rows = torch.arange(lanes * lists).view(lanes, lists)
    batch = DATA[rows]
    if restriction == "full":
        flat = full.layout.flatten(params).repeat(lanes, 1)
        return lambda: full.value_and_grad(flat, batch)
    one = HeadKernel(SHAPE, compiled=compiled)
    frozen = one.freeze(full, params, DATA, 0)
    own = one.layout.flatten({name: params[name][0] for name in one.layout.shapes})
    flat = own.repeat(lanes, 1)
    return lambda: one.value_and_grad(flat, batch, frozen, rows)


def compare(restriction: str, lanes: int, lists: int) -> None:
    """Prints the time of a step of all lanes, compiled and in torch."""
    steps = {c: step_of(restriction, lanes, lists, c) for c in (True, False)}
    seconds: dict[bool, list[float]] = {True: [], False: []}
    peak = matrix_peak(torch.device("cpu"))
    for _ in range(TURNS):
        for compiled, step in steps.items():
            start = time.perf_counter()
            step()
            seconds[compiled].append(time.perf_counter() - start)
    floor = lanes * step_flops(SHAPE, lists, restriction != "full") / peak
    ours, torchs = (median(seconds[c]) for c in (True, False))
    print(
        f"{restriction:5} {lanes} lanes of {lists:3} lists: compiled {1e3 * ours:5.1f} ms, "
        f"{floor / ours:.0%} of floor; torch {1e3 * torchs:5.1f} ms, {floor / torchs:.0%}; "
        f"ratio {median(b / a for a, b in zip(*seconds.values(), strict=True)):.2f}; "
        f"peak {peak / 1e9:.0f} GFLOP/s",
        flush=True,
    )


def shares(lanes: int, lists: int) -> None:
    """Prints where the compiled version of the whole model spends its time."""
    step, spent = step_of("full", lanes, lists, True), Counter[str]()
    original = Compiled._call

    def timed(self: Compiled, name: str, *args: object) -> None:
        start = time.perf_counter()
        original(self, name, *args)
        spent[name] += time.perf_counter() - start

    step()
    Compiled._call = timed  # type: ignore[method-assign]
    start = time.perf_counter()
    for _ in range(TURNS):
        step()
    total = time.perf_counter() - start
    Compiled._call = original  # type: ignore[method-assign]
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        for _ in range(TURNS):
            step()
    rows = {row.key: row.self_cpu_time_total * 1e-6 for row in profile.key_averages()}
    products = sum(rows.get(name, 0.0) for name in PRODUCTS)
    print(f"{lanes} lanes of {lists} lists, compiled:")
    print(f"  matrix products {products / total:.0%}")
    for name, value in spent.most_common():
        print(f"  {name} {value / total:.1%}")


def main() -> None:
    with torch_threads(1), one_core():
        for restriction in ("full", "h0"):
            for lanes, lists in LANES:
                compare(restriction, lanes, lists)
        shares(*LANES[0])


if __name__ == "__main__":
    main()
