"""Burn-in that is checked: chains that still move while they are drawn go on.

Draws that `estimate` would flag as not converged become burn-in and as many are drawn after them,
up to EXTENSIONS times; what is not stationary then keeps its flag. A chain is the same chain
however often it goes on, so nothing depends on what is sampled beside it.
"""

from collections.abc import Callable, Collection

from devsort.llc.estimate import estimate
from devsort.sampling.config import SamplerConfig
from devsort.sampling.trace import Trace

EXTENSIONS = 3

Draw = Callable[[SamplerConfig, Collection[int]], dict[int, Trace]]


def until_settled(draw: Draw, config: SamplerConfig, names: Collection[int]) -> dict[int, Trace]:
    """Traces of some lanes, each with as much burn-in as it needs.

    Args:
        draw: Samples the named lanes from their start.
        config: With the least burn-in.
        names: Of the lanes, such as training steps.

    Returns:
        Name → trace; its config tells the burn-in that it had.
    """
    found = draw(config, names)
    for _ in range(EXTENSIONS):
        moving = [name for name, trace in found.items() if "not_converged" in estimate(trace).flags]
        if not moving:
            break
        config = config.model_copy(update={"num_burnin_steps": config.num_steps})
        found |= draw(config, moving)
    return found
