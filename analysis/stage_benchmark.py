"""How well stages are found on trajectories with planted truth: the tables of docs/stages.md.

    python analysis/stage_benchmark.py              the detector by shape and noise
    python analysis/stage_benchmark.py --approaches other approaches and ruptures beside it
    python analysis/stage_benchmark.py --calibrate  what the detector's settings change, on other
                                                    seeds

--approaches needs more than devsort installs: pip install scikit-learn ruptures.

Settings were chosen on seeds from CALIBRATION_SEED on; the tables are of seeds from REPORT_SEED on
(--first-seed), which no setting was chosen on.

A planted boundary is matched by a found one within 0.05 log10 steps or within the found one's 95 %
interval, one to one. Coverage counts, over planted boundaries with a found one within 0.3 log10
steps, how often its interval holds the truth.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.stats import binomtest
from turning_points import prominence, zero_slope

from devsort.stages import Trajectory, detect
from devsort.stages.config import StagesConfig
from devsort.stages.segments import Boundary
from devsort.stages.synthetic import FLAT_SHAPES, SHAPES, Noise, plant

TOLERANCE = 0.05  # log10 steps
NEAR = 0.3  # log10 steps within which a found boundary is taken to mean the planted one
RELATIVE = 0.03  # standard error as a share of the LLC, of our trajectories
CALIBRATION_SEED, REPORT_SEED = 1000, 5000
VARIED = (
    {},
    {"penalty": 8},
    {"penalty": 14},
    {"bend_margin": 2},
    {"bend_margin": 6},
    {"widen": 1.35},
    {"widen": 1.7},
)
Finder = Callable[[Trajectory], list[Boundary]]


@dataclass(frozen=True)
class Plan:
    """Which trajectories are planted.

    Attributes:
        seeds: Trajectories of each shape with boundaries.
        flat_seeds: Trajectories of each shape without.
        first_seed: The first one's seed.
        points: Checkpoints.
        workers: Processes.
    """

    seeds: int
    flat_seeds: int
    first_seed: int = REPORT_SEED
    points: int = 40
    workers: int = 1

    def jobs(self) -> list[tuple[str, int]]:
        """Shapes and seeds."""
        many = {**dict.fromkeys(SHAPES, self.seeds), **dict.fromkeys(FLAT_SHAPES, self.flat_seeds)}
        return [(shape, self.first_seed + i) for shape, count in many.items() for i in range(count)]


@dataclass(frozen=True)
class Score:
    """Counts over trajectories; they add up."""

    hits: int = 0
    found: int = 0
    planted: int = 0
    covered: int = 0
    near: int = 0
    false: int = 0
    trajectories: int = 0

    def __add__(self, other: "Score") -> "Score":
        return Score(
            *(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True))
        )

    @property
    def f1(self) -> float:
        """2 hits / (found + planted)."""
        return 2 * self.hits / max(self.found + self.planted, 1)

    @property
    def coverage(self) -> float:
        """Share of 95 % intervals that hold the truth."""
        return self.covered / max(self.near, 1)


def score(found: Sequence[Boundary], planted: np.ndarray) -> Score:
    """Compares found with planted boundaries of one trajectory."""
    shape = len(planted), len(found)
    distance = np.array([[abs(b.x - t) for b in found] for t in planted]).reshape(shape)
    inside = np.array([[b.low <= t <= b.high for b in found] for t in planted], bool)
    inside = inside.reshape(shape)
    matched = inside | (distance <= TOLERANCE)
    hits = int(matched[linear_sum_assignment(np.where(matched, distance, 1e3))].sum())
    near = [int(np.argmin(row)) for row in distance if len(row) and row.min() < NEAR]
    rows = [i for i, row in enumerate(distance) if len(row) and row.min() < NEAR]
    covered = int(inside[rows, near].sum()) if rows else 0
    false = int(len(found) > 0 and not len(planted))
    return Score(hits, len(found), len(planted), covered, len(rows), false, 1)


def one(job: tuple[str, int], finder: Finder, points: int, noise: Noise) -> tuple[str, Score]:
    """Plants one trajectory and scores what is found in it."""
    shape, seed = job
    truth = plant(shape, seed, points, noise)
    return shape, score(finder(truth.trajectory), truth.boundaries)


def table(finder: Finder, plan: Plan, times: float = 1.0) -> dict[str, Score]:
    """Scores by shape, at so many times the noise."""
    work = partial(one, finder=finder, points=plan.points, noise=Noise(relative=RELATIVE * times))
    scores = dict.fromkeys((*SHAPES, *FLAT_SHAPES), Score())
    with ProcessPoolExecutor(plan.workers) as pool:
        for shape, result in pool.map(work, plan.jobs(), chunksize=4):
            scores[shape] = scores[shape] + result
    return scores


def total(scores: dict[str, Score], shapes: Sequence[str]) -> Score:
    return sum((scores[s] for s in shapes), Score())


def shipped(trajectory: Trajectory, config: StagesConfig) -> list[Boundary]:
    return detect(trajectory, config).boundaries


def with_ruptures(trajectory: Trajectory) -> list[Boundary]:
    """ruptures: continuous piecewise-linear cost, penalised (PELT).

    On values in units of the median standard error.
    """
    import ruptures as rpt

    y = trajectory.llc / np.median(trajectory.se)
    fitted = rpt.Pelt(model="clinear", min_size=3, jump=1).fit(y[:, None])
    *ends, _ = fitted.predict(pen=3 * np.log(len(y)))
    return [Boundary(*[float(trajectory.x[i - 1])] * 3) for i in ends]


def false_stages(s: Score) -> str:
    """Trajectories in which a stage was invented.

    With the exact (Clopper-Pearson) 95 % interval of their share.
    """
    low, high = binomtest(s.false, s.trajectories).proportion_ci(method="exact")
    return f"{s.false} of {s.trajectories} ({100 * low:.1f} to {100 * high:.1f} %)"


def report(plan: Plan) -> None:
    finder = partial(shipped, config=StagesConfig())
    for times in (1.0, 3.0):
        began = time.perf_counter()
        scores = table(finder, plan, times)
        seconds = (time.perf_counter() - began) * plan.workers / len(plan.jobs())
        of = f"seeds from {plan.first_seed}, {seconds:.2f} s each"
        print(f"\n{plan.points} checkpoints, {times:g} x the noise, {of}\n")
        row("shape", "trajectories", "precision", "recall", "F1", "coverage", rule=True)
        for name, s in with_all(scores, SHAPES).items():
            ratios = (s.hits / max(s.found, 1), s.hits / s.planted, s.f1, s.coverage)
            row(name, s.trajectories, *(f"{ratio:.3f}" for ratio in ratios))
        print()
        row("without a boundary", "with a false stage (95 % interval)", rule=True)
        for name, s in with_all(scores, FLAT_SHAPES).items():
            row(name, false_stages(s))


def row(*cells: object, rule: bool = False) -> None:
    """Prints a row of a Markdown table, with a rule below the first one."""
    print(f"| {' | '.join(map(str, cells))} |", flush=True)
    if rule:
        print("|" + "---|" * len(cells))


def with_all(scores: dict[str, Score], shapes: Sequence[str]) -> dict[str, Score]:
    """The scores of some shapes, and of all of them together."""
    return {**{shape: scores[shape] for shape in shapes}, "all": total(scores, shapes)}


def approaches(plan: Plan) -> None:
    config = StagesConfig()
    finders = {
        "piecewise (shipped)": partial(shipped, config=config),
        "zero slope of a Gaussian process": partial(zero_slope, config=config),
        "prominence in standard errors": partial(prominence, config=config),
        "ruptures (PELT, clinear)": with_ruptures,
    }
    for times in (1.0, 3.0):
        of = f"{plan.seeds} trajectories a shape"
        print(f"\n{plan.points} checkpoints, {times:g} x the noise, {of}\n")
        row("approach", "F1", "F1 on dips", "coverage", "false stages", rule=True)
        for name, finder in finders.items():
            scores = table(finder, plan, times)
            s, turns, flat = (total(scores, group) for group in (SHAPES, ("dip",), FLAT_SHAPES))
            coverage = "–" if name.startswith("ruptures") else f"{s.coverage:.2f}"
            false = f"{flat.false} of {flat.trajectories}"
            row(name, f"{s.f1:.3f}", f"{turns.f1:.3f}", coverage, false)


def calibrate(plan: Plan) -> None:
    of = f"seeds from {plan.first_seed}; the other settings as shipped"
    print(f"{plan.points} checkpoints, {of}\n")
    found = ("coverage", "false stages")
    row("setting", "F1", *found, "F1 at 3 x the noise", *found, rule=True)
    for changed in VARIED:
        finder = partial(shipped, config=StagesConfig(bootstrap=100, **changed))
        cells = [cell for times in (1.0, 3.0) for cell in _cells(table(finder, plan, times))]
        name = ", ".join(f"{key} {value}" for key, value in changed.items()) or "as shipped"
        row(name, *cells)


def _cells(scores: dict[str, Score]) -> list[str]:
    s, flat = total(scores, SHAPES), total(scores, FLAT_SHAPES)
    return [f"{s.f1:.3f}", f"{s.coverage:.3f}", f"{flat.false} of {flat.trajectories}"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--approaches", action="store_true")
    parser.add_argument("--calibrate", action="store_true")
    parser.add_argument(
        "--seeds", type=int, default=40, help="trajectories of each shape with boundaries"
    )
    parser.add_argument(
        "--flat-seeds", type=int, default=80, help="trajectories of each shape without"
    )
    parser.add_argument("--first-seed", type=int, help="seed of the first trajectory of each shape")
    parser.add_argument("--points", type=int, default=40, help="checkpoints of a trajectory")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    options = parser.parse_args()
    first = options.first_seed
    if first is None:
        first = CALIBRATION_SEED if options.calibrate else REPORT_SEED
    plan = Plan(options.seeds, options.flat_seeds, first, options.points, options.workers)
    (approaches if options.approaches else calibrate if options.calibrate else report)(plan)


if __name__ == "__main__":
    main()
