"""The `pattern` command: data is shifted so that an observable moves, and the network retrained."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from devsort.errors import UserError
from devsort.execution import cores, progress, run_jobs
from devsort.rng import stream
from devsort.sorting.checkpoints import load_checkpoint, trained_steps
from devsort.sorting.model import Params, model_shape
from devsort.sorting.patterning.lists import WeightedLists, members_of
from devsort.sorting.patterning.observables import OBSERVABLES, observe
from devsort.sorting.patterning.response import content, response_at
from devsort.sorting.patterning.retrain import retrain
from devsort.sorting.run import Run
from devsort.sorting.susceptibility.probe import Probe
from devsort.sorting.train import Trainer
from devsort.susceptibility import Response
from devsort.susceptibility.patterning import predicted, shift

ARMS = ("without", "with", "random")
SIGNS = {"up": 1.0, "down": -1.0}


@dataclass(frozen=True)
class Pattern:
    """What is wanted, and how far the data may be shifted for it.

    Attributes:
        target: `NAME=up` or `NAME=down`, NAME one of OBSERVABLES.
        start: Training step of the checkpoint whose response chooses the shift; None: the saved
            one nearest to a tenth of training.
        begin: Step from which training goes on with shifted data, 0 for the initial weights; None:
            `start`.
        steps: Steps of training from there.
        seeds: How many seeds of lists.
        size: Standard deviation of the weights of lists.
        bound: Largest weight of a list, and inverse of the smallest.
    """

    target: str
    start: int | None = None
    begin: int | None = None
    steps: int = 300
    seeds: int = 8
    size: float = 0.5
    bound: float = 3.0

    @property
    def wanted(self) -> tuple[str, float]:
        """The observable and the sign of its change.

        Raises:
            UserError: There is no such target.
        """
        name, _, direction = self.target.partition("=")
        if name not in OBSERVABLES or direction not in SIGNS:
            fix = f"use NAME=up or NAME=down, NAME one of {', '.join(OBSERVABLES)}"
            raise UserError(f"--target {self.target!r} is not known", fix)
        return name, SIGNS[direction]


def run_pattern(run: Run, pattern: Pattern) -> dict[str, Any]:
    """Shifts the data towards a target and retrains, beside no shift and random ones.

    Returns:
        run, target, start, begin, the shift by numbers and gap_classes, the change that is
        predicted in equilibrium, and rows: seed, and the target's change over training without,
        with, and with a random shift of the same size; moved: seeds in which it moved as wanted
        relative to without.

    Raises:
        UserError: The target or the checkpoint does not exist, or there is only one head.
    """
    name, sign = pattern.wanted
    if run.config.model.heads < 2:
        raise UserError("patterning steers two heads, the model has one", "use a run of two heads")
    start = _start(run, pattern.start)
    begin = start if pattern.begin is None else pattern.begin
    params, probe = load_checkpoint(run, start), Probe(run.config)
    first = _weights(run, begin)
    response = response_at(run, params, probe)
    if not np.isfinite(response.value).all():
        fix = "raise susceptibility.lists; see `devsort llc` for whether chains fail"
        raise UserError("the response to some number or class of gaps is not known", fix)
    wanted = np.zeros(len(OBSERVABLES) + 1)
    wanted[OBSERVABLES.index(name)] = sign
    h = shift(response, wanted)
    arms = _Arms(run, pattern, first, h, probe.edges)
    rows = _rows(run, pattern, arms)
    return {
        "run": str(run.path),
        "target": pattern.target,
        "start": start,
        "begin": begin,
        "numbers": h[: run.config.task.numbers].tolist(),
        "gap_classes": h[run.config.task.numbers :].tolist(),
        "predicted": _predicted(run, response, probe, arms.lists(h), OBSERVABLES.index(name)),
        "rows": rows,
        "moved": {arm: _moved(rows, arm, sign) for arm in ARMS[1:]},
    }


def text(value: dict[str, Any]) -> str:
    """For a reader: the target's value by seed and arm."""
    steps = f"response at step {value['start']}, training from {value['begin']}"
    lines = [f"{value['target']}, {steps}; predicted: {value['predicted']:.4f} in equilibrium"]
    lines.append(f"{'seed':>5}" + "".join(f"{arm:>12}" for arm in ARMS))
    for row in value["rows"]:
        lines.append(f"{row['seed']:5d}" + "".join(f"{row[arm]:12.4f}" for arm in ARMS))
    moved = ", ".join(f"{arm} {count}" for arm, count in value["moved"].items())
    lines.append(f"moved as wanted, of {len(value['rows'])} seeds: {moved}")
    return "\n".join(lines)


class _Arms:
    """Retrains one (seed, arm); the jobs of `execution.run_jobs`."""

    def __init__(
        self, run: Run, pattern: Pattern, params: Params, h: np.ndarray, edges: np.ndarray
    ) -> None:
        self.run, self.pattern, self.params = run, pattern, params
        self.h, self.edges = h, edges

    def __call__(self, job: tuple[int, str], advanced: Callable[[int], None]) -> float:
        seed, arm = job
        pattern = self.pattern
        h = {"without": 0 * self.h, "with": self.h, "random": self._random(seed)}[arm]
        found = retrain(self.run, self.params, self.lists(h), seed, pattern.steps)
        advanced(1)
        shape = model_shape(self.run.config.task, self.run.config.model)
        change = observe(found, shape) - observe(self.params, shape)
        return float(change[OBSERVABLES.index(pattern.wanted[0])])

    def lists(self, h: np.ndarray) -> WeightedLists:
        """The lists that a shift makes."""
        pattern = self.pattern
        return WeightedLists(self.run.config.task, h, self.edges, pattern.size, pattern.bound)

    def _random(self, seed: int) -> np.ndarray:
        drawn = stream(seed, "pattern-random").normal(size=len(self.h))
        return drawn / np.linalg.norm(drawn)


def _rows(run: Run, pattern: Pattern, arms: _Arms) -> list[dict[str, Any]]:
    jobs = [(seed, arm) for seed in range(pattern.seeds) for arm in ARMS]
    bar = progress(desc=f"pattern {run.path.name}", unit="training", total=len(jobs))
    lists = len(jobs) * pattern.steps * run.config.train.batch_size
    with bar, closing(run_jobs(arms, jobs, cores() if lists > ALONE else 1, bar.update)) as work:
        found = dict(work)
    return [
        {"seed": seed, **{arm: found[seed, arm] for arm in ARMS}} for seed in range(pattern.seeds)
    ]


ALONE = 500_000  # lists to train on in all before more processes pay for their start


def _predicted(
    run: Run, response: Response, probe: Probe, lists: WeightedLists, observable: int
) -> float:
    """nβ χ along the weights: the change in equilibrium, to first order."""
    shown = content(probe)
    members = members_of(shown, lists.edges, run.config.task.numbers)
    along = predicted(response, members, lists.weights(shown))[observable]
    return float(run.config.llc.sampler.n_beta * along)


def _moved(rows: Sequence[dict[str, Any]], arm: str, sign: float) -> int:
    return sum(sign * (row[arm] - row["without"]) > 0 for row in rows)


def _start(run: Run, given: int | None) -> int:
    saved = trained_steps(run)
    if given is None:
        return min(saved, key=lambda step: abs(step - run.config.train.steps / 10))
    return _saved(given, saved, "--from")


def _weights(run: Run, step: int) -> Params:
    """The weights of a saved step, or those that training started from."""
    if step == 0:
        return Trainer(run).params()
    return load_checkpoint(run, _saved(step, trained_steps(run), "--begin"))


def _saved(given: int, saved: Sequence[int], option: str) -> int:
    if given not in saved:
        near = min(saved, key=lambda step: abs(step - given))
        raise UserError(f"{option} {given} is no saved step", f"use a saved one, such as {near}")
    return given
