"""Samples chains again if they started too early, were too short or too hot.

- If `estimate` flags the draws as not converged, they become burn-in. If it does, or if R-hat is
  above LONG, there are also twice as many steps per draw: the chain is twice as long, with as many
  draws. This is done until there are LONGEST times as many.
- If the heat of the minibatches then exceeds both HOT · λ̂ (more than the first-order correction can
  remove) and the standard error, the chains are sampled with minibatches of twice the size, and
  with less momentum: so much less that the heat, which is proportional to (1 + c) / (1 − c) / B, is
  LEFT · λ̂, or none. It is none also if the heat is not known: if its error, from the scatter of
  chains, exceeds HOT · λ̂ and is most of the standard error.

Chains that are still not stationary keep their flag. SGLD chains are never sampled again, for
parity with devinterp. The result for one lane does not depend on the lanes that are sampled with
it.
"""

import math
from collections.abc import Callable, Collection

from devsort.llc.estimate import Estimate, estimate, heat_of
from devsort.sampling.config import SamplerConfig
from devsort.sampling.trace import Trace

HOT, LEFT, LONG, LONGEST = 0.03, 0.01, 1.05, 4
ROUNDS = 6  # more than chains need: length is changed twice at most, momentum once as a rule

Draw = Callable[[SamplerConfig, Collection[int]], dict[int, Trace]]


def until_settled(draw: Draw, config: SamplerConfig, names: Collection[int]) -> dict[int, Trace]:
    """Samples lanes, each with the burn-in, momentum, minibatches and length that it needs.

    Args:
        draw: Samples the named lanes from their start.
        config: The settings of the first attempt, with the shortest burn-in.
        names: Names of the lanes, such as training steps.

    Returns:
        Name → trace, with the settings that were used in its config.
    """
    traces = draw(config, names)
    for _ in range(ROUNDS):
        again = _changed(traces, config.num_steps_bw_draws)
        if not again:
            break
        for better, some in again.items():
            traces |= draw(better, some)
    return traces


def remedy(trace: Trace, every: int = 1) -> dict[str, float]:
    """Returns the settings to change when sampling these chains again; empty if they are good.

    Args:
        trace: The chains.
        every: Steps per draw at the first attempt.
    """
    result, config = estimate(trace), trace.config
    if config.sampling_method == "sgld":
        return {}
    unsettled, spacing = "not_converged" in result.flags, config.num_steps_bw_draws
    if (unsettled or result.rhat > LONG) and spacing < LONGEST * every:
        burnin = {"num_burnin_steps": config.num_steps} if unsettled else {}
        return {"num_steps_bw_draws": 2 * spacing, **burnin}
    unknown = heat_unknown(trace, result)
    if config.momentum and (unknown or hot(result)):
        momentum = 0.0 if unknown else cooler(config.momentum, result.heat / result.llc)
        return {"momentum": momentum, "batch_size": 2 * config.batch_size}
    return {}


def _changed(traces: dict[int, Trace], every: int) -> dict[SamplerConfig, list[int]]:
    """Returns the settings of the next attempt, and the names of the lanes that need it."""
    again: dict[SamplerConfig, list[int]] = {}
    for name, trace in traces.items():
        if change := remedy(trace, every):
            again.setdefault(trace.config.model_copy(update=change), []).append(name)
    return again


def cooler(momentum: float, share: float) -> float:
    """Returns the momentum that leaves LEFT · λ̂ of a heat of `share` · λ̂, with twice the batch.

    It is rounded down to a multiple of 0.05, so that lanes with like heat are sampled together. If
    no momentum leaves so little, it is zero.
    """
    factor = 2 * (1 + momentum) / (1 - momentum) * LEFT / share if share > 0 else 1.0
    return math.floor(20 * max(0.0, (factor - 1) / (factor + 1))) / 20


def hot(result: Estimate) -> bool:
    """Whether there is more heat than can be subtracted, and than chance."""
    return result.heat > max(HOT * result.llc, result.se) > 0


def heat_unknown(trace: Trace, result: Estimate) -> bool:
    """Whether the scatter of the heat between chains is both large and most of the error of λ̂.

    Where few minibatches hold most of the noise, most chains measure too little of it.
    """
    _, error = heat_of(trace, ~trace.dead)
    return error > HOT * result.llc > 0 and 2 * error**2 > result.se**2
