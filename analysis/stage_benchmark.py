"""How well stages are found on trajectories with planted truth: the tables of docs/stages.md.

    python analysis/stage_benchmark.py              the detector, by shape and noise
    python analysis/stage_benchmark.py --errors     errors that checkpoints share, wrong reported
                                                    errors, dense and smoothed curves
    python analysis/stage_benchmark.py --signals    a second signal with the same boundaries, with
                                                    none, or with other ones
    python analysis/stage_benchmark.py --approaches the detector compared with other approaches
    python analysis/stage_benchmark.py --calibrate  the effect of the detector's settings, on other
                                                    seeds

--approaches needs packages that devsort does not install: pip install scikit-learn ruptures.

Settings were chosen on seeds from CALIBRATION_SEED on. The tables use seeds from REPORT_SEED on
(--first-seed), on which no setting was chosen.

`stage_planted.py` says how boundaries are matched.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from scipy.stats import binomtest
from stage_planted import (
    CALIBRATION_SEED,
    CASES,
    REPORT_SEED,
    Case,
    Plan,
    Score,
    score,
    second_signal,
    table,
    total,
)
from turning_points import prominence, zero_slope

from devsort.stages import Trajectory, detect
from devsort.stages.config import StagesConfig
from devsort.stages.segments import Boundary
from devsort.stages.synthetic import FLAT_SHAPES, SHAPES

VARIED = (
    {},
    {"penalty": 8},
    {"penalty": 14},
    {"bend_margin": 2},
    {"bend_margin": 6},
    {"widen": 1.5},
    {"widen": 1.9},
)


def shipped(trajectory: Trajectory, config: StagesConfig) -> list[Boundary]:
    return detect(trajectory, config).boundaries


def with_ruptures(trajectory: Trajectory) -> list[Boundary]:
    """ruptures: penalised continuous piecewise-linear cost (PELT).

    Values are in units of the median standard error.
    """
    import ruptures as rpt

    y = trajectory.llc / np.median(trajectory.se)
    model = rpt.Pelt(model="clinear", min_size=3, jump=1).fit(y[:, None])
    *ends, _ = model.predict(pen=3 * np.log(len(y)))
    return [Boundary(*[float(trajectory.x[i - 1])] * 3) for i in ends]


def false_stages(s: Score) -> str:
    """Number of trajectories with a false stage.

    It comes with the exact (Clopper-Pearson) 95 % interval of their share.
    """
    low, high = binomtest(s.false, s.trajectories).proportion_ci(method="exact")
    return f"{s.false} of {s.trajectories} ({100 * low:.1f} to {100 * high:.1f} %)"


def report(plan: Plan) -> None:
    finder = partial(shipped, config=StagesConfig())
    for times in (1.0, 3.0):
        start = time.process_time()
        scores = table(finder, plan.louder(times))
        seconds = (time.process_time() - start) / len(plan.jobs())
        of = f"seeds from {plan.first_seed}, {seconds:.2f} s each"
        print(f"\n{plan.case.points} checkpoints, {times:g} x the noise, {of}\n")
        row("shape", "trajectories", "precision", "recall", "F1", "coverage", rule=True)
        for name, s in with_all(scores, SHAPES).items():
            row(name, s.trajectories, *ratios(s))
        print()
        row("without a boundary", "with a false stage (95 % interval)", rule=True)
        for name, s in with_all(scores, FLAT_SHAPES).items():
            row(name, false_stages(s))


def ratios(s: Score) -> list[str]:
    """Precision, recall, F1 and coverage."""
    values = (s.hits / max(s.found, 1), s.hits / max(s.planted, 1), s.f1, s.coverage)
    return [f"{value:.3f}" for value in values]


def errors(plan: Plan, wanted: str) -> None:
    """One row for each case whose name contains `wanted`."""
    finder = partial(shipped, config=StagesConfig())
    row("errors", "precision", "recall", "F1", "coverage", "false stages", "s each", rule=True)
    for name, case in CASES.items():
        if wanted in name:
            start, own = time.process_time(), replace(plan, case=case)
            scores = table(finder, own)
            seconds = (time.process_time() - start) / len(own.jobs())
            flat = false_stages(total(scores, FLAT_SHAPES))
            row(name, *ratios(total(scores, case.shapes)), flat, f"{seconds:.2f}")


def signals(plan: Plan) -> None:
    """The effect of a second signal, if the first has three times the usual noise."""
    loud = plan.louder(3.0)
    row("second signal", "precision", "recall", "F1", "coverage", "false stages", rule=True)
    for kind in ("none", "the same", "no boundary", "other boundaries"):
        s, flat = Score(), Score()
        for shape, seed in loud.jobs():
            truth = loud.case.plant(shape, seed)
            both = second_signal(truth.trajectory, kind, shape, seed)
            result = score(shipped(both, StagesConfig()), truth.boundaries)
            s, flat = (s, flat + result) if shape in FLAT_SHAPES else (s + result, flat)
        row(kind, *ratios(s), false_stages(flat))


def row(*cells: object, rule: bool = False) -> None:
    """Prints a row of a Markdown table, with a rule below it if it is the header."""
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
        print(f"\n{plan.case.points} checkpoints, {times:g} x the noise, {of}\n")
        row("approach", "F1", "F1 on dips", "coverage", "false stages", rule=True)
        for name, finder in finders.items():
            scores = table(finder, plan.louder(times))
            s, turns, flat = (total(scores, group) for group in (SHAPES, ("dip",), FLAT_SHAPES))
            coverage = "–" if name.startswith("ruptures") else f"{s.coverage:.2f}"
            false = f"{flat.false} of {flat.trajectories}"
            row(name, f"{s.f1:.3f}", f"{turns.f1:.3f}", coverage, false)


def calibrate(plan: Plan) -> None:
    of = f"seeds from {plan.first_seed}; the other settings as shipped"
    print(f"{plan.case.points} checkpoints, {of}\n")
    names = ("coverage", "false stages")
    row("setting", "F1", *names, "F1 at 3 x the noise", *names, rule=True)
    for changes in VARIED:
        finder = partial(shipped, config=StagesConfig(bootstrap=100, **changes))
        cells = [cell for times in (1.0, 3.0) for cell in _cells(table(finder, plan.louder(times)))]
        name = ", ".join(f"{key} {value}" for key, value in changes.items()) or "as shipped"
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
        "--errors", metavar="WORDS", nargs="?", const="", help="cases with these words in the name"
    )
    parser.add_argument("--signals", action="store_true")
    parser.add_argument(
        "--seeds", type=int, default=40, help="trajectories of each shape with boundaries"
    )
    parser.add_argument(
        "--flat-seeds", type=int, default=80, help="trajectories of each shape without boundaries"
    )
    parser.add_argument("--first-seed", type=int, help="seed of the first trajectory of each shape")
    parser.add_argument("--points", type=int, default=40, help="checkpoints of a trajectory")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    options = parser.parse_args()
    first = options.first_seed
    if first is None:
        first = CALIBRATION_SEED if options.calibrate else REPORT_SEED
    case = Case(points=options.points)
    plan = Plan(options.seeds, options.flat_seeds, first, case, options.workers)
    if options.errors is not None:
        return errors(plan, options.errors)
    modes = {approaches: options.approaches, calibrate: options.calibrate, signals: options.signals}
    return next((command for command, wanted in modes.items() if wanted), report)(plan)


if __name__ == "__main__":
    main()
