"""χ of the observables to lists of some content, over draws of the whole model."""

import numpy as np
import torch
from torch import Tensor

from devsort.execution import one_core
from devsort.rng import name_key
from devsort.sampling import run_chains
from devsort.sorting.model import Params
from devsort.sorting.objective import SortObjective
from devsort.sorting.patterning.lists import members_of
from devsort.sorting.patterning.observables import observe
from devsort.sorting.run import Run
from devsort.sorting.samplers import SortSampler
from devsort.sorting.susceptibility.probe import Probe
from devsort.susceptibility import Moments, Response, susceptibility
from devsort.susceptibility.observe import Pair, PartMeans, Watcher

KEY = "pattern"  # names the noise of these chains


@one_core()
def response_at(
    run: Run, params: Params, probe: Probe, weights: np.ndarray | None = None
) -> Response:
    """χ of (OBSERVABLES, L) to lists that hold a number, and to lists of a class of gaps.

    Args:
        run: Gives the settings of the sampler.
        params: The checkpoint.
        probe: The lists whose losses are followed, and the classes of gaps.
        weights: (N, lists) of the probe's lists in each of N other data sets, whose χ is wanted
            instead: the change of an observable per nβ when the data become these.
    """
    if weights is None:
        weights = members_of(content(probe), probe.edges, run.config.task.numbers).T
    sampler = SortSampler(run)
    moments = []
    for piece in sampler.lanes_of({0: sampler.checkpoint(params)}, "full"):
        evaluate = _Content(piece.plain, probe, weights)
        every = run.config.susceptibility.every
        watcher = Watcher(evaluate, piece.objective, sampler.config, every)
        streams = [(name_key(KEY), *stream) for stream in piece.streams]
        run_chains(piece.objective, sampler.config, streams, watch=watcher)
        moments += watcher.moments
    return susceptibility(Moments.join(moments))


def content(probe: Probe) -> np.ndarray:
    """The numbers of the probe's lists: (lists, L)."""
    return probe.data.tokens[:, : probe.data.targets.shape[1]].numpy()


class _Content:
    """At weights (G, P): the observables and L, with ℓ_x − L of lists by content."""

    def __init__(self, objective: SortObjective, probe: Probe, weights: np.ndarray) -> None:
        self.losses = probe.losses(objective)
        self.shape, self.views = objective.kernel.shape, objective.kernel.layout.views
        parts = dict(enumerate(torch.from_numpy(weights)))
        self.parts = PartMeans(parts, objective.center.device)

    def __call__(self, w: Tensor) -> list[Pair]:
        each = self.losses(w).double().mean(2)  # (G, lists)
        mean = each.mean(1, keepdim=True)
        seen = torch.stack([observe(self.views(row), self.shape) for row in w]).double()
        phi = torch.cat([seen, mean], 1)
        return [(_numpy(phi), _numpy(self.parts(each) - mean))]


def _numpy(values: Tensor) -> np.ndarray:
    return values.cpu().numpy()
