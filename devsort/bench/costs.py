"""CPU seconds of an LLC that is right to 1 %: ours and devinterp's, on the same posterior.

The posterior is that of the baseline's checkpoint at step 6000 in relative geometry, whose LLC is
known from slow samplers (`sorting.trained`). Ours is sampled with the defaults. devinterp samples
a module whose parameters are the weights in units of their scales, by SGLD with the largest step
and the fewest lists at which its bias can be below 1 %, as analysis/draw_cost.py found them. Both
use one core. An LLC costs

    seconds per chain-step × relaxation × ((spread / 1 %)² + chains × burn-in)

with the spread of a draw relative to λ̂, the relaxation (integrated autocorrelation time) in steps,
and a burn-in of 5 relaxations for each of 4 chains.
"""

import time

import numpy as np

from devsort.bench.timing import Timed
from devsort.execution import Advanced, torch_threads
from devsort.llc.estimate import estimate
from devsort.sampling import SamplerConfig, Trace
from devsort.sorting.config import Config
from devsort.sorting.geometry import sorter_scales
from devsort.sorting.model import model_shape
from devsort.sorting.restrictions import restriction_mask
from devsort.sorting.task import sampling_set
from devsort.sorting.trained import Point, known, sampled, weights

TARGET, BURN_IN, CHAINS = 0.01, 5, 4  # error of an LLC, burn-in in relaxations, number of chains
RESTRICTIONS = ("full", "h0")
SGLD = {"full": {"lr": 2e-3, "batch_size": 128}, "h0": {"lr": 4e-3, "batch_size": 32}}
DRAWS, THEIR_DRAWS, THEIR_BURN_IN = 5.0, 10.0, 4.0  # in units of `draw_steps`


def point_of(restriction: str) -> Point:
    """The posterior that is sampled."""
    name = f"baseline-6000-{restriction}-relative"
    return next(point for point, _ in known() if point.name == name)


def ours(restriction: str, steps: int, seed: int) -> Timed:
    """LLCs to 1 % per minute of our sampler, and λ̂ of its chains."""
    ticks: list[float] = []
    trace = sampled(point_of(restriction), _clock(ticks), num_draws=round(DRAWS * steps), seed=seed)
    a_step = (ticks[-1] - ticks[0]) / (len(ticks) - 1) / len(trace.loss)
    return Timed(60 / seconds_of(trace, a_step), estimate(trace).llc_chain)


def devinterp(restriction: str, steps: int, seed: int) -> Timed:
    """LLCs to 1 % per minute of devinterp, and λ̂ of its chains."""
    config = SamplerConfig(
        sampling_method="sgld",
        num_burnin_steps=round(THEIR_BURN_IN * steps),
        num_draws=round(THEIR_DRAWS * steps),
        num_chains=CHAINS,
        **SGLD[restriction],
    )
    trace, a_step = by_devinterp(point_of(restriction), config, seed)
    return Timed(60 / seconds_of(trace, a_step), estimate(trace).llc_chain)


def by_devinterp(point: Point, config: SamplerConfig, seed: int) -> tuple[Trace, float]:
    """devinterp's draws at a point, with its nβ and γ, and the CPU seconds of a chain-step.

    The seconds are a median, so that what is between its chains does not count.
    """
    from devsort.sorting.devinterp import SortModule, sample_with_devinterp  # slow to import

    own, params = Config(), weights(point.run, point.step)
    shape = model_shape(own.task, own.model)
    scales = sorter_scales(params, shape) if point.geometry == "relative" else None
    ticks: list[float] = []
    with torch_threads(1):
        trace = sample_with_devinterp(
            params,
            sampling_set(own.task, own.llc.dataset_size),
            config.model_copy(update={"n_beta": point.n_beta, "localization": point.localization}),
            restriction_mask(point.restriction, shape),
            seed,
            lambda: ticks.append(time.process_time()),
            module=SortModule(params, scales),
        )
    return trace, float(np.median(np.diff(ticks[2:])))


def seconds_of(trace: Trace, a_step: float) -> float:
    """CPU seconds of an LLC with an error of TARGET, from the seconds of one chain-step."""
    return a_step * relaxation(trace) * ((spread(trace) / TARGET) ** 2 + CHAINS * BURN_IN)


def relaxation(trace: Trace) -> float:
    """Integrated autocorrelation time of nβ (L − L(w*)) in steps."""
    return trace.config.num_steps_bw_draws * trace.rise.size / estimate(trace).ess


def spread(trace: Trace) -> float:
    """Standard deviation of a draw relative to λ̂."""
    return float(np.std(trace.config.n_beta * trace.rise)) / estimate(trace).llc


def _clock(ticks: list[float]) -> Advanced:
    return lambda _: ticks.append(time.process_time())
