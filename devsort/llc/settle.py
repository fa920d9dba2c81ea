"""Chains that are checked as they are drawn, and drawn again where they were too short or too hot.

- Draws that `estimate` would flag as not converged become burn-in, and as many are drawn after
  them.
- Where then the heat of minibatches is over HOT of λ̂, more than first order can take off, and
  over the standard error, the chains are drawn without momentum (Leimkuhler–Matthews) from
  minibatches of twice the size: at c = 0.7 that leaves an eleventh of the heat. Such chains forget
  quickly.

SGLD is left as it is, for parity with devinterp. This goes on up to ROUNDS times; what is not
stationary then keeps its flag. What one lane needs does not depend on the lanes that are sampled
beside it.
"""

from collections.abc import Callable, Collection

from devsort.llc.estimate import estimate
from devsort.sampling.config import SamplerConfig
from devsort.sampling.trace import Trace

ROUNDS, HOT = 3, 0.03

Draw = Callable[[SamplerConfig, Collection[int]], dict[int, Trace]]


def until_settled(draw: Draw, config: SamplerConfig, names: Collection[int]) -> dict[int, Trace]:
    """Traces of some lanes, each with the burn-in, momentum and minibatches that it needs.

    Args:
        draw: Samples the named lanes from their start.
        config: With the least burn-in, and the momentum and minibatches that are tried first.
        names: Of the lanes, such as training steps.

    Returns:
        Name → trace; its config tells what it had.
    """
    found = draw(config, names)
    for _ in range(ROUNDS):
        again: dict[SamplerConfig, list[int]] = {}
        for name, trace in found.items():
            if change := remedy(trace):
                again.setdefault(trace.config.model_copy(update=change), []).append(name)
        for better, some in again.items():
            found |= draw(better, some)
    return found


def remedy(trace: Trace) -> dict[str, float]:
    """The settings to draw these chains with anew; none if they are as they should be."""
    found, config = estimate(trace), trace.config
    if config.sampling_method == "sgld":
        return {}
    if "not_converged" in found.flags:
        return {"num_burnin_steps": config.num_steps}
    if config.momentum and found.heat > max(HOT * found.llc, found.se) > 0:
        return {"momentum": 0.0, "batch_size": 2 * config.batch_size}
    return {}
