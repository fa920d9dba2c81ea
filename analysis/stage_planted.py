"""Trajectories with planted truth, and scores of the boundaries found in them.

`stage_benchmark.py` makes the tables. Planted and found boundaries are matched one to one: the
planted one must lie within 0.05 log10 steps of the found one, or within its 95 % interval. Coverage
is the share of intervals that contain the truth, over planted boundaries with a found one within
0.3 log10 steps.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from scipy.optimize import linear_sum_assignment

from devsort.rng import stream
from devsort.stages import Trajectory
from devsort.stages.segments import Boundary
from devsort.stages.synthetic import FLAT_SHAPES, SHAPES, SMALL, Noise, Planted, plant

TOLERANCE = 0.05  # log10 steps
NEAR = 0.3  # log10 steps within which a found boundary is taken for the planted one
CALIBRATION_SEED, REPORT_SEED = 1000, 5000
Finder = Callable[[Trajectory], list[Boundary]]


@dataclass(frozen=True)
class Case:
    """What is planted.

    Attributes:
        noise: Errors of the values, and the errors that are reported.
        points: Number of checkpoints.
        last: Last training step.
        shapes: Shapes with boundaries; those without are always planted as well.
    """

    noise: Noise = field(default_factory=Noise)
    points: int = 40
    last: float = 6000.0
    shapes: Sequence[str] = SHAPES

    def plant(self, shape: str, seed: int) -> Planted:
        """One trajectory of a shape."""
        return plant(shape, seed, self.points, self.noise, self.last)


ALONE = {"chains": 0}  # a table with standard errors but without chains
COMMON = {**ALONE, "offset": 10.0, "drift": 1.0}
DENSE = {**COMMON, "linear": True, "relative": 0.01, "floor": 0.5, "correlation_length": 0.0}
LITTLE = {**ALONE, "offset": 30.0, "drift": 3.0, "linear": True, "relative": 0.003, "floor": 0.0}
WRONG = {
    f"{times} times too {way}": factor
    for times in (3, 10, 30)
    for way, factor in (("large", times), ("small", 1 / times))
}  # reported errors relative to true ones
CASES = {
    "as before, 40 checkpoints": Case(),
    "a common offset and drift, chains known": Case(Noise(offset=10.0, drift=1.0)),
    "a common offset and drift, no chains": Case(Noise(**COMMON)),
    **{
        f"reported errors {way}": Case(Noise(**ALONE, factor=factor))
        for way, factor in WRONG.items()
    },
    "500 checkpoints, common errors, reported right": Case(Noise(**DENSE), 500, 50_000.0),
    **{
        f"500 checkpoints, common errors, reported {way}": Case(
            Noise(**DENSE, factor=factor), 500, 50_000.0
        )
        for way, factor in WRONG.items()
    },
    "500 checkpoints, common errors, scatter over 0.05 decades": Case(
        Noise(**{**DENSE, "correlation_length": 0.05}), 500, 50_000.0
    ),
    "500 checkpoints, neighbours averaged by fives": Case(Noise(**DENSE, smooth=5), 500, 50_000.0),
    "dips of 1 to 2 %, common errors": Case(
        Noise(**LITTLE, correlation_length=0.0), 500, 50_000.0, SMALL
    ),
    "dips of 1 to 2 %, neighbours averaged by threes": Case(
        Noise(**LITTLE, smooth=3), 500, 50_000.0, SMALL
    ),
}


@dataclass(frozen=True)
class Plan:
    """Which trajectories are planted.

    Attributes:
        seeds: Trajectories of each shape with boundaries.
        flat_seeds: Trajectories of each shape without boundaries.
        first_seed: Seed of the first one.
        case: What is planted.
        workers: Number of processes.
    """

    seeds: int
    flat_seeds: int
    first_seed: int = REPORT_SEED
    case: Case = field(default_factory=Case)
    workers: int = 1

    def jobs(self) -> list[tuple[str, int]]:
        """Shapes and seeds."""
        planted = dict.fromkeys(self.case.shapes, self.seeds)
        seeds = {**planted, **dict.fromkeys(FLAT_SHAPES, self.flat_seeds)}
        return [
            (shape, self.first_seed + i) for shape, count in seeds.items() for i in range(count)
        ]

    def louder(self, times: float) -> "Plan":
        """The same plan with `times` the noise."""
        noise = replace(self.case.noise, relative=times * self.case.noise.relative)
        return replace(self, case=replace(self.case, noise=noise))


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
        """Share of 95 % intervals that contain the truth."""
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


def one(job: tuple[str, int], finder: Finder, case: Case) -> tuple[str, Score]:
    """Plants one trajectory and scores what is found in it."""
    shape, seed = job
    truth = case.plant(shape, seed)
    return shape, score(finder(truth.trajectory), truth.boundaries)


def table(finder: Finder, plan: Plan) -> dict[str, Score]:
    """Scores by shape."""
    work = partial(one, finder=finder, case=plan.case)
    scores = dict.fromkeys((*plan.case.shapes, *FLAT_SHAPES), Score())
    if plan.workers == 1:
        results = map(work, plan.jobs())
    else:
        with ProcessPoolExecutor(plan.workers) as pool:
            results = list(pool.map(work, plan.jobs(), chunksize=4))
    for shape, result in results:
        scores[shape] = scores[shape] + result
    return scores


def total(scores: dict[str, Score], shapes: Sequence[str]) -> Score:
    return sum((scores[s] for s in shapes), Score())


def second_signal(trajectory: Trajectory, kind: str, shape: str, seed: int) -> Trajectory:
    """A trajectory with a second signal at the same steps, with boundaries of the given kind."""
    truths = {
        "none": None,
        "the same": plant(shape, seed),
        "no boundary": plant("drift", seed),
        "other boundaries": plant("peak", seed + 1),
    }
    if (truth := truths[kind]) is None:
        return trajectory
    value = np.interp(trajectory.x, truth.trajectory.x, truth.truth)
    se = 0.03 * np.abs(value) + 2.0
    value = value + se * stream(seed, "second signal").standard_normal(len(se))
    return replace(trajectory, others=np.stack([value, se], -1)[None])
