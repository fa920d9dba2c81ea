"""The `calibrate` command: the grid of `devsort.llc.calibrate` on checkpoints of a run."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from devsort.execution import one_core, progress, run_jobs
from devsort.llc import calibrate as grid
from devsort.llc import tuning
from devsort.llc.estimate import estimate
from devsort.llc.trajectory import Job
from devsort.rng import torch_stream
from devsort.sampling.config import SamplerConfig
from devsort.sampling.curvature import largest_curvature
from devsort.sampling.trace import Trace
from devsort.sorting.artifacts import CALIBRATION
from devsort.sorting.checkpoints import chosen_steps, load_checkpoint, trained_steps
from devsort.sorting.geometry import sorter_scales
from devsort.sorting.run import Run
from devsort.sorting.samplers import Advanced, SortSampler, chance_loss, settings
from devsort.sorting.task import Batch
from devsort.storage.objects import write_object

LISTS, ITERATIONS = 256, 8  # lists and power iterations for one estimate of the curvature
Traces = dict[tuple[float, float, int], Trace]  # (nβ, γ, step) → trace


def calibrate(run: Run) -> tuple[dict[str, Any], Traces]:
    """Tries the grid on a trained run and writes calibration.json.

    Returns:
        The JSON object of `devsort.llc.calibrate.report` with the path of the run, and the traces.
    """
    with run.lock():
        every_step = trained_steps(run)
        late = [step for step in every_step if step >= run.config.llc.first_step]
        steps = chosen_steps(late or every_step, grid.CHECKPOINTS)
        base = settings(run)
        localizations = sorted({localization for _, localization in grid.grid_of(base.geometry)})
        points = grid.grid(base, curvature := {g: _curvature(run, steps, g) for g in localizations})
        traces = _sampled(run, _settled, points, steps)
        chance = chance_loss(run)
        trials = [
            grid.trial(p, s, estimate(trace, chance_loss=chance))
            for p in points
            for s, trace in traces[p].items()
        ]
        tries = tuning.tries(grid.best_point(trials, points), base)
        chains = _sampled(run, _drawn, tries, steps)
        found = grid.report(steps, curvature, points, trials, chains, base)
        value = {"run": str(run.path), **found}
        write_object(run.calibration, value, run.origin(CALIBRATION))
    return value, {(p.n_beta, p.localization, s): t for p in points for s, t in traces[p].items()}


def _curvature(run: Run, steps: Sequence[int], localization: float) -> float:
    """Largest curvature over the checkpoints, each offset by N(0, s²/γ) as the chain will move it.

    In relative geometry s is the scale of each weight, and the curvature is taken with respect to
    w / s. In absolute geometry s = 1.
    """
    sampler = SortSampler(_with(run, settings(run)))
    kernel, lists = sampler.kernels[0], sampler.data[slice(0, LISTS)]
    batch = Batch(lists.tokens.expand(2, -1, -1), lists.targets.expand(2, -1, -1))

    def curvature(step: int) -> float:
        params = {n: p.to(sampler.device) for n, p in load_checkpoint(run, step).items()}
        w, s = kernel.layout.flatten(params), torch.ones(())
        if sampler.config.geometry == "relative":
            s = kernel.layout.flatten(sorter_scales(params, sampler.shape))
        noise = torch_stream(0, "calibrate", device=sampler.device)
        offset = torch.randn(w.shape, generator=noise, device=w.device) / localization**0.5
        return largest_curvature(
            lambda v: s * kernel.value_and_grad(s * v, batch)[1], w / s + offset, ITERATIONS
        )

    return max(curvature(step) for step in steps)


def _sampled(
    run: Run, work: Callable, points: Sequence[SamplerConfig], steps: Sequence[int]
) -> dict[SamplerConfig, dict[int, Trace]]:
    """Settings → training step → trace."""
    total = sum(point.num_chains * point.num_steps * len(steps) for point in points)
    count = SortSampler(_with(run, points[0])).processes(total)
    name = f"calibrate {run.path.name}"
    with progress(total=total, desc=name, unit="chain-step", unit_scale=True) as bar:
        found = dict(run_jobs(partial(work, run, tuple(steps)), points, count, bar.update))
    return {point: found[point] for point in points}


def _settled(
    run: Run, steps: tuple[int, ...], point: SamplerConfig, advanced: Advanced
) -> dict[int, Trace]:
    """With the burn-in that each checkpoint needs."""
    return SortSampler(_with(run, point))(Job(steps, "full"), advanced)


def _drawn(
    run: Run, steps: tuple[int, ...], point: SamplerConfig, advanced: Advanced
) -> dict[int, Trace]:
    """From the checkpoint on."""
    sampler = SortSampler(_with(run, point))
    with one_core():
        return sampler.drawn(sampler.load(steps), "full", advanced)


def _with(run: Run, sampler: SamplerConfig) -> Run:
    """The run with other sampler settings and no parts of the data."""
    llc = run.config.llc.model_copy(update={"sampler": sampler, "parts": ()})
    return replace(run, config=run.config.model_copy(update={"llc": llc}))
