"""Shared by the scripts on geometry: a run with other sampler settings, and traces of any weights.

Both geometries are always set explicitly, so that nothing here changes with the package's default.
"""

from collections.abc import Mapping
from dataclasses import replace

from devsort.execution import one_core
from devsort.sampling import Trace
from devsort.sampling.config import DEFAULTS
from devsort.sorting.model import Params
from devsort.sorting.run import Run
from devsort.sorting.samplers import SortSampler, settings
from devsort.sorting.task import Batch

RELATIVE = {"geometry": "relative", **DEFAULTS["relative"]}
ABSOLUTE = {"geometry": "absolute", **DEFAULTS["absolute"]}


def with_sampler(run: Run, **changes: object) -> Run:
    """The run with other sampler settings and no parts of the data."""
    sampler = settings(run).model_copy(update=changes)
    llc = run.config.llc.model_copy(update={"sampler": sampler, "parts": ()})
    return replace(run, config=run.config.model_copy(update={"llc": llc}))


def traces(
    run: Run, networks: Mapping[int, Params], restriction: str = "full", data: Batch | None = None
) -> dict[int, Trace]:
    """The trace of each network, sampled on one core; its number names the stream of its noise.

    Args:
        run: Its config gives the sampler's settings and the task.
        networks: Number → weights.
        restriction: Which parameters move.
        data: As many lists, in place of the task's own.
    """
    sampler, results, numbers = SortSampler(run), {}, list(networks)
    if data is not None:
        sampler.data = data
    with one_core():
        for i in range(0, len(numbers), sampler.stack):
            stack = numbers[i : i + sampler.stack]
            checkpoints = {n: sampler.checkpoint(networks[n]) for n in stack}
            results |= sampler.sample(checkpoints, restriction, lambda _: None)
    return results


def rms(params: Params, name: str, head: int | None = None) -> float:
    """Root mean square of a parameter, or of a head's part of it."""
    value = params[name] if head is None else params[name][head]
    return float(value.double().square().mean().sqrt())
