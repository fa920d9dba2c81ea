"""Evaluates the losses of the probe at the same draws that the LLC was estimated from."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from devsort.execution import Advanced, one_core
from devsort.llc.trajectory import Job
from devsort.sampling import SamplerConfig, run_chains
from devsort.sorting.objective import Checkpoint
from devsort.sorting.run import Run
from devsort.sorting.samplers import SortSampler
from devsort.sorting.susceptibility.probe import Probe
from devsort.susceptibility import Moments
from devsort.susceptibility.observe import Watcher

Cells = Mapping[tuple[int, str], SamplerConfig]  # (step, restriction) → settings of its draws


@dataclass(frozen=True)
class Followed:
    """The sums of one checkpoint and component.

    Attributes:
        chi: Sums of L with ℓ_x − L.
        kernel: Sums of the losses of numbers with themselves.
        start: (parts,) ℓ_x at w*, in nats.
        loss: (C, T) the losses of minibatches at all draws, as llc.zarr has them.
    """

    chi: Moments
    kernel: Moments
    start: np.ndarray
    loss: np.ndarray


class ResponseSampler:
    """Repeats the draws of the LLC and evaluates the probe at every n-th draw.

    Args:
        run: The run.
        cells: The final settings of each cell of llc.zarr.
    """

    def __init__(self, run: Run, cells: Cells) -> None:
        self.run, self.cells = run, cells
        self.sampler, self.probe = SortSampler(run), Probe(run.config)

    def __reduce__(self) -> tuple:
        """Pickles as its arguments: another process makes its own."""
        return ResponseSampler, (self.run, self.cells)

    def __call__(self, job: Job, advanced: Advanced) -> dict[int, Followed]:
        """The sums of each checkpoint."""
        groups: dict[SamplerConfig, list[int]] = {}
        for step in job.steps:
            groups.setdefault(self.cells[step, job.restriction], []).append(step)
        with one_core():
            checkpoints = self.sampler.load(job.steps)
            found: dict[int, Followed] = {}
            for config, steps in groups.items():
                chosen = {step: checkpoints[step] for step in steps}
                found |= self._followed(config, chosen, job.restriction)
                advanced(len(steps))
            return found

    def _followed(
        self, config: SamplerConfig, checkpoints: Mapping[int, Checkpoint], name: str
    ) -> dict[int, Followed]:
        sampler = self.sampler.with_settings(config)
        pieces = []
        for piece in sampler.lanes_of(checkpoints, name):
            every = self.run.config.susceptibility.every
            evaluate = self.probe.evaluate(piece.plain)
            watcher = Watcher(evaluate, piece.objective, config, every)
            trace = run_chains(piece.objective, config, piece.streams, watch=watcher)
            pieces.append([_of(watcher, trace.loss, lanes) for lanes in piece.by_checkpoint])
        joined = map(_joined, zip(*pieces, strict=True))
        return dict(zip(checkpoints, joined, strict=True))


def _of(watcher: Watcher, loss: np.ndarray, lanes: slice) -> Followed:
    chi, kernel = (moments.lanes(lanes) for moments in watcher.moments)
    mean, away = (value[lanes.start] for value in watcher.start[0])
    return Followed(chi, kernel, mean + away, loss[lanes])


def _joined(pieces: tuple[Followed, ...]) -> Followed:
    return Followed(
        Moments.join([piece.chi for piece in pieces]),
        Moments.join([piece.kernel for piece in pieces]),
        pieces[0].start,
        np.concatenate([piece.loss for piece in pieces]),
    )
