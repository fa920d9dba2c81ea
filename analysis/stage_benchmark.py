"""How well stages are found on trajectories with planted truth: the tables of docs/stages.md.

    python analysis/stage_benchmark.py                      the detector by shape and noise
    python analysis/stage_benchmark.py --approaches         three approaches and ruptures side by side
    python analysis/stage_benchmark.py --calibrate          false stages and F1 against the penalty of a joint

A planted boundary is matched by a found one within 0.05 log10 steps or within the found one's 95 % interval, one to
one. Coverage counts, over planted boundaries with a found one within 0.3 log10 steps, how often its interval holds the
truth.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.optimize import linear_sum_assignment

from devsort.config import StagesConfig
from devsort.stages import Trajectory, detect
from devsort.stages.segments import Boundary
from devsort.stages.synthetic import FLAT_SHAPES, SHAPES, Noise, plant

TOLERANCE = 0.05  # log10 steps
NEAR = 0.3  # log10 steps within which a found boundary is taken to mean the planted one
RELATIVE = 0.03  # standard error as a share of the LLC, of our trajectories
Finder = Callable[[Trajectory], list[Boundary]]


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
        return Score(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

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
    distance = np.array([[abs(b.x - t) for b in found] for t in planted]).reshape(len(planted), len(found))
    inside = np.array([[b.low <= t <= b.high for b in found] for t in planted], bool).reshape(distance.shape)
    matched = inside | (distance <= TOLERANCE)
    hits = int(matched[linear_sum_assignment(np.where(matched, distance, 1e3))].sum())
    near = [int(np.argmin(row)) for row in distance if len(row) and row.min() < NEAR]
    rows = [i for i, row in enumerate(distance) if len(row) and row.min() < NEAR]
    covered = int(inside[rows, near].sum()) if rows else 0
    return Score(hits, len(found), len(planted), covered, len(rows), int(len(found) > 0 and not len(planted)), 1)


def one(job: tuple[str, int], finder: Finder, points: int, noise: Noise) -> tuple[str, Score]:
    """Plants one trajectory and scores what is found in it."""
    shape, seed = job
    truth = plant(shape, seed, points, noise)
    return shape, score(finder(truth.trajectory), truth.boundaries)


def table(finder: Finder, seeds: int, points: int = 40, times: float = 1.0, workers: int = 1) -> dict[str, Score]:
    """Scores by shape over many seeds."""
    jobs = [(shape, seed) for shape in (*SHAPES, *FLAT_SHAPES) for seed in range(seeds)]
    work = partial(one, finder=finder, points=points, noise=Noise(relative=RELATIVE * times))
    scores = dict.fromkeys((*SHAPES, *FLAT_SHAPES), Score())
    with ProcessPoolExecutor(workers) as pool:
        for shape, result in pool.map(work, jobs, chunksize=4):
            scores[shape] = scores[shape] + result
    return scores


def total(scores: dict[str, Score], shapes: Sequence[str]) -> Score:
    return sum((scores[s] for s in shapes), Score())


def shipped(trajectory: Trajectory, config: StagesConfig) -> list[Boundary]:
    return detect(trajectory, config).boundaries


def with_ruptures(trajectory: Trajectory) -> list[Boundary]:
    """ruptures: continuous piecewise-linear cost, penalised (PELT), on values in units of the median standard error."""
    import ruptures as rpt

    y = trajectory.llc / np.median(trajectory.se)
    ends = rpt.Pelt(model="clinear", min_size=3, jump=1).fit(y[:, None]).predict(pen=3 * np.log(len(y)))
    return [Boundary(float(trajectory.x[i - 1]), *[float(trajectory.x[i - 1])] * 2) for i in ends[:-1]]


def line(name: str, s: Score, flat: Score) -> str:
    coverage = "–" if not s.near else f"{s.coverage:.2f}"
    return f"| {name} | {s.f1:.3f} | {coverage} | {flat.false / max(flat.trajectories, 1):.3f} |"


def report(options: argparse.Namespace) -> None:
    finder = partial(shipped, config=StagesConfig())
    seeds, points = options.seeds, options.points
    for times in (1.0, 3.0):
        began = time.perf_counter()
        scores = table(finder, seeds, points, times, options.workers)
        seconds = (time.perf_counter() - began) * options.workers / (seeds * len(scores))
        print(f"\n{points} checkpoints, {times:g} x the noise, {seeds} trajectories a shape, {seconds:.2f} s each\n")
        print("| shape | precision | recall | F1 | coverage | false stages |\n|---|---|---|---|---|---|")
        for name, s in {**{k: scores[k] for k in SHAPES}, "**all**": total(scores, SHAPES)}.items():
            precision, recall = s.hits / max(s.found, 1), s.hits / s.planted
            print(f"| {name} | {precision:.2f} | {recall:.2f} | {s.f1:.3f} | {s.coverage:.2f} | |")
        for name, s in {**{k: scores[k] for k in FLAT_SHAPES}, "**no boundary**": total(scores, FLAT_SHAPES)}.items():
            print(f"| {name} | | | | | {s.false / s.trajectories:.3f} |", flush=True)


def approaches(options: argparse.Namespace) -> None:
    rows = {
        a: partial(shipped, config=StagesConfig(approach=a)) for a in ("piecewise", "gaussian-process", "prominence")
    }
    for times in (1.0, 3.0):
        print(f"\n{times:g} x the noise, 40 checkpoints, {options.seeds} trajectories a shape\n")
        print("| approach | F1 | F1 on dips | coverage | false stages |\n|---|---|---|---|---|")
        for name, finder in {**rows, "ruptures (PELT, clinear)": with_ruptures}.items():
            scores = table(finder, options.seeds, times=times, workers=options.workers)
            s, turns, flat = (total(scores, group) for group in (SHAPES, ("dip",), FLAT_SHAPES))
            coverage = "–" if name.startswith("ruptures") else f"{s.coverage:.2f}"
            rate = flat.false / flat.trajectories
            print(f"| {name} | {s.f1:.3f} | {turns.f1:.3f} | {coverage} | {rate:.3f} |", flush=True)


def calibrate(options: argparse.Namespace) -> None:
    print("| penalty | F1 | coverage | false stages |\n|---|---|---|---|")
    for penalty in (7, 9, 11, 13, 15):
        config = StagesConfig(penalty=penalty, jump_penalty=2 * penalty - 2, bootstrap=100)
        scores = table(partial(shipped, config=config), options.seeds, workers=options.workers)
        print(line(str(penalty), total(scores, SHAPES), total(scores, FLAT_SHAPES)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--approaches", action="store_true")
    parser.add_argument("--calibrate", action="store_true")
    parser.add_argument("--seeds", type=int, default=50, help="trajectories a shape")
    parser.add_argument("--points", type=int, default=40, help="checkpoints of a trajectory")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    options = parser.parse_args()
    (approaches if options.approaches else calibrate if options.calibrate else report)(options)


if __name__ == "__main__":
    main()
