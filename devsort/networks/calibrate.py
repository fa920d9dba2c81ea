"""Searches for sampler settings for any network.

It tries the grid of `llc.calibrate` at an early, a middle and a late checkpoint.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cloudpickle
import torch

from devsort.execution import Advanced, progress, run_jobs
from devsort.llc import calibrate as grid
from devsort.llc import tuning
from devsort.llc.estimate import estimate
from devsort.llc.steps import chosen_steps
from devsort.llc.trajectory import Job, stacks
from devsort.networks.restrictions import FULL
from devsort.networks.sampler import NetworkSampler, Work, device_of
from devsort.networks.sources import source_of
from devsort.networks.trajectory import Options
from devsort.rng import torch_stream
from devsort.sampling import LossObjective, SamplerConfig, Trace
from devsort.sampling.api import in_geometry, refuse_unresolved
from devsort.sampling.curvature import largest_curvature
from devsort.sampling.data import as_data, data_size
from devsort.sampling.losses import Loss

CHECKPOINTS = 3
ROWS, ITERATIONS = 256, 8  # rows of the data and power iterations used to compute a curvature


@dataclass(frozen=True)
class Calibration:
    """The result of a calibration. `print` shows it as a table, with reasons.

    Attributes:
        config: The proposed settings, for `llc_trajectory`.
        value: The JSON object of `devsort.llc.calibrate.report`.
    """

    config: SamplerConfig
    value: dict[str, Any]

    def __str__(self) -> str:
        return grid.table(self.value)


def calibrate(
    loss: Loss,
    checkpoints: Any,
    data: Any = None,
    config: SamplerConfig | None = None,
    *,
    options: Options | None = None,
) -> Calibration:
    """Tries inverse temperatures, localizations, steps and momenta, and proposes settings.

    Args:
        loss: As for `llc_trajectory`.
        checkpoints: As for `llc_trajectory`. Three of them are tried.
        data: As for `llc_trajectory`.
        config: All other settings. The proposal has its number of chains and draws.
        options: As for `llc_trajectory`.
    """
    o, base = options or Options(), config or SamplerConfig()
    refuse_unresolved(base)
    source = source_of(checkpoints)
    late = [step for step in source.steps if step >= 1]
    steps = chosen_steps(late or source.steps, CHECKPOINTS)
    data = None if data is None else as_data(data)
    masks, device = {FULL: None}, device_of(o.device)
    work = Work(
        loss, replace(source, steps=tuple(steps)), data, base, masks, {}, o.blocks, device, o.memory
    )
    curvature = {
        g: _curvature(work, g) for g in sorted({g for _, g in grid.grid_of(base.geometry)})
    }
    points = grid.grid(base, curvature)
    traces = _traces(_Trials(work), points, o.processes)
    trials = [
        grid.trial(point, step, estimate(trace, chance_loss=o.chance_loss))
        for point, by_step in traces.items()
        for step, trace in by_step.items()
    ]
    tries = tuning.tries(grid.best_point(trials, points), base)
    chains = _traces(_Trials(work), tries, o.processes)
    value = grid.report(steps, curvature, points, trials, chains, base)
    return Calibration(base.model_copy(update=value["proposal"]["settings"]), value)


def _curvature(work: Work, localization: float) -> float:
    """Returns the largest curvature over the checkpoints.

    Each checkpoint is first moved by N(0, 1/γ), into the region that the chain will explore.
    """
    index = None
    if work.data is not None:
        rows = torch.arange(min(ROWS, data_size(work.data)))
        index = rows.expand(2, 1, -1)

    def curvature(step: int) -> float:
        plain = LossObjective(work.loss, work.state(step), work.data, index, chains=2)
        objective = in_geometry(plain, work.config, work.blocks)
        w = objective.center[0]
        noise = torch.randn(w.shape, generator=torch_stream(0, "calibrate"), dtype=w.dtype)
        moved = w + noise.to(w.device) / localization**0.5
        return largest_curvature(lambda v: objective(v, 0)[2], moved, ITERATIONS)

    return max(curvature(step) for step in work.source.steps)


def _traces(
    trials: "_Trials", points: Sequence[SamplerConfig], count: int | None
) -> dict[SamplerConfig, dict[int, Trace]]:
    """Settings → training step → trace."""
    total = sum(p.num_chains * p.num_steps for p in points) * len(trials.work.source.steps)
    processes = NetworkSampler(trials.work, count).processes(total)
    by_point = {}
    with progress(total=total, desc="calibrate", unit="chain-step", unit_scale=True) as bar:
        for point, traces in run_jobs(trials, points, processes, bar.update):
            by_point[point] = traces
    return {point: by_point[point] for point in points}


class _Trials:
    """Samples the checkpoints with given settings."""

    by_value = True

    def __init__(self, work: Work) -> None:
        self.work = work

    def __reduce__(self) -> tuple:
        return _revived, (cloudpickle.dumps(self.work),)

    def __call__(self, point: SamplerConfig, advanced: Advanced) -> dict[int, Trace]:
        """Returns the trace of each checkpoint."""
        with warnings.catch_warnings(action="ignore"):
            sampler = NetworkSampler(replace(self.work, config=point))
            steps = self.work.source.steps
            traces: dict[int, Trace] = {}
            for stack in stacks(len(steps), sampler.stack, 1):
                traces |= sampler.drawn(Job(tuple(steps[i] for i in stack), FULL), advanced)
        return traces


def _revived(data: bytes) -> _Trials:
    return _Trials(cloudpickle.loads(data))
