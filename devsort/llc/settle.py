"""Samples chains again if they were too short or too hot.

- If `estimate` flags the draws as not converged, they become burn-in, and the same number of draws
  is sampled after them.
- If the heat of the minibatches then exceeds both HOT · λ̂ (more than the first-order correction can
  remove) and the standard error, the chains are sampled without momentum (Leimkuhler–Matthews) and
  with minibatches of twice the size. At c = 0.7 this leaves an eleventh of the heat. Such chains
  also have a short autocorrelation time. The same is done if the heat is not known: if its error,
  from the scatter of chains, exceeds HOT · λ̂ and is most of the standard error.

This is repeated up to ROUNDS times; chains that are still not stationary keep their flag. SGLD
chains are never sampled again, for parity with devinterp. The result for one lane does not depend
on the lanes that are sampled with it.
"""

from collections.abc import Callable, Collection

from devsort.llc.estimate import Estimate, estimate, heat_of
from devsort.sampling.config import SamplerConfig
from devsort.sampling.trace import Trace

ROUNDS, HOT = 3, 0.03

Draw = Callable[[SamplerConfig, Collection[int]], dict[int, Trace]]


def until_settled(draw: Draw, config: SamplerConfig, names: Collection[int]) -> dict[int, Trace]:
    """Samples lanes, each with the burn-in, momentum and minibatches that it needs.

    Args:
        draw: Samples the named lanes from their start.
        config: The settings of the first attempt, with the shortest burn-in.
        names: Names of the lanes, such as training steps.

    Returns:
        Name → trace, with the settings that were used in its config.
    """
    traces = draw(config, names)
    for _ in range(ROUNDS):
        again: dict[SamplerConfig, list[int]] = {}
        for name, trace in traces.items():
            if change := remedy(trace):
                again.setdefault(trace.config.model_copy(update=change), []).append(name)
        for better, some in again.items():
            traces |= draw(better, some)
    return traces


def remedy(trace: Trace) -> dict[str, float]:
    """Returns the settings to change when sampling these chains again; empty if they are good."""
    result, config = estimate(trace), trace.config
    if config.sampling_method == "sgld":
        return {}
    if "not_converged" in result.flags:
        return {"num_burnin_steps": config.num_steps}
    if config.momentum and (hot(result) or heat_unknown(trace, result)):
        return {"momentum": 0.0, "batch_size": 2 * config.batch_size}
    return {}


def hot(result: Estimate) -> bool:
    """Whether there is more heat than can be subtracted, and than chance."""
    return result.heat > max(HOT * result.llc, result.se) > 0


def heat_unknown(trace: Trace, result: Estimate) -> bool:
    """Whether the scatter of the heat between chains is both large and most of the error of λ̂.

    Where few minibatches hold most of the noise, most chains measure too little of it.
    """
    _, error = heat_of(trace, ~trace.dead)
    return error > HOT * result.llc > 0 and 2 * error**2 > result.se**2
