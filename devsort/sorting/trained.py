"""Trained networks whose LLCs are known from the slow samplers of `validation.reference`.

`trained.safetensors` has the weights of nine checkpoints of the two runs, and `trained.json` the
LLCs measured on them; `analysis/reference.py` makes both. `devsort validate --trained` samples the
same checkpoints with the estimator as it is shipped.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from devsort.execution import Advanced, one_core, unheard
from devsort.layout import Layout
from devsort.llc import estimate
from devsort.rng import stream
from devsort.sampling import Trace
from devsort.sampling.config import SamplerConfig
from devsort.sampling.geometry import flat_scale
from devsort.sampling.masks import free_entries
from devsort.sorting.config import Config
from devsort.sorting.geometry import sorter_scales
from devsort.sorting.kernels import SortKernel
from devsort.sorting.model import Params, model_shape, param_shapes
from devsort.sorting.restrictions import restriction_mask
from devsort.sorting.run import Run
from devsort.sorting.samplers import STACKED, SortSampler
from devsort.sorting.task import Batch, sampling_set
from devsort.validation.case import Case
from devsort.validation.measurements import Measured
from devsort.validation.quadrature import Truth
from devsort.validation.reference import Drawn, Gradient, Target

WEIGHTS, MEASURED = (Path(__file__).with_name(f"trained.{s}") for s in ("safetensors", "json"))
CHAINS, TOLERANCE = 16, 0.02  # of `devsort validate --trained`; the tolerance is relative
EARLY, EARLY_TOLERANCE = 60, 6.0  # before this step λ̂ passes through 0: an absolute tolerance
LANGEVIN, HMC = "underdamped, extrapolated", "hmc"  # methods of the references
CHUNK = 1024  # lists per pass over all of them


@dataclass(frozen=True)
class Point:
    """A posterior whose LLC was measured: one restriction at one checkpoint.

    Attributes:
        run: `baseline` or `no-decay`.
        step: Training step.
        restriction: Which parameters move.
        geometry: relative or absolute.
        n_beta: nβ.
        localization: γ.
    """

    run: str
    step: int
    restriction: str
    geometry: str
    n_beta: float
    localization: float

    @property
    def name(self) -> str:
        """For example `baseline-91-full-relative`."""
        return f"{self.run}-{self.step}-{self.restriction}-{self.geometry}"


def known(method: str = LANGEVIN) -> Iterator[tuple[Point, dict]]:
    """Every point that was measured by a method, with the result: llc, se, rhat and seconds."""
    for row in json.loads(MEASURED.read_text())["rows"]:
        if row["method"] == method:
            yield Point(**{name: row[name] for name in Point.__annotations__}), row


@dataclass(frozen=True)
class TrainedCase(Case):
    """A case whose tolerance is the slack alone."""

    tolerance = property(lambda self: self.slack)


def trained_cases() -> list[Case]:
    """The shipped estimator, with CHAINS chains, at every point in relative geometry.

    The estimate must be within TOLERANCE of the slow samplers' value, and its standard error below
    TOLERANCE; before step EARLY, EARLY_TOLERANCE takes its place. Absolute geometry is left out:
    its default is SGLD, as in the literature, which is known to be biased there. A point that was
    measured by Hamiltonian Monte Carlo too is compared with both.
    """
    rows = [*known(), *known(HMC)]
    return [_case(point, row) for point, row in rows if point.geometry == "relative"]


def _case(point: Point, row: dict) -> Case:
    allowed = EARLY_TOLERANCE if point.step < EARLY else TOLERANCE * row["llc"]
    return TrainedCase(
        name=point.name + ("-hmc" if row["method"] == HMC else ""),
        what=f"step {point.step} of {point.run}, {point.restriction}, {point.geometry} geometry",
        truth=lambda: Truth(row["llc"], row["se"]),
        measure=lambda: _measure(point),
        se_bound=allowed,
        slack=allowed,
        fast=point.step >= 825 and point.restriction == "full" and point.geometry == "relative",
    )


@cache
def _measure(point: Point) -> Measured:
    result = estimate(sampled(point, num_chains=CHAINS))
    return Measured(result.llc, result.se)


def sampled(point: Point, advanced: Advanced = unheard, **changes: object) -> Trace:
    """The trace that the shipped estimator, with some settings changed, draws at a point.

    Calls `advanced` after each step.
    """
    base = {"geometry": point.geometry, "sampling_method": "baoab"}
    base |= {"n_beta": point.n_beta, "localization": point.localization}
    llc = Config().llc.model_copy(update={"sampler": SamplerConfig(**base | changes), "parts": ()})
    sampling = SortSampler(Run(Path(point.run), Config().model_copy(update={"llc": llc})))
    checkpoint = sampling.checkpoint(weights(point.run, point.step))
    with one_core():
        return sampling.sample({point.step: checkpoint}, point.restriction, advanced)[point.step]


def weights(run: str, step: int) -> Params:
    """The stored weights of a checkpoint."""
    start = f"{run}/{step}/"
    stored = load_file(WEIGHTS)
    return {n.removeprefix(start): value for n, value in stored.items() if n.startswith(start)}


class Posterior:
    """The target of the slow samplers at a point.

    It gives L − L(w*) and its gradient with respect to the free parameters, in the geometry of the
    point.
    """

    def __init__(self, point: Point, params: Params, config: Config) -> None:
        shape = model_shape(config.task, config.model)
        self.kernel, self.layout = SortKernel(shape), Layout(param_shapes(shape))
        mask = restriction_mask(point.restriction, shape)
        self.flat = self.layout.flatten(params)
        self.free = free_entries(self.layout, mask)
        self.data = sampling_set(config.task, config.llc.dataset_size)
        scale = flat_scale(self.layout, sorter_scales(params, shape), self.free)
        self.scale = scale if point.geometry == "relative" else torch.ones_like(scale)
        star = self.flat[self.free] / self.scale
        self.target = Target(star, point.n_beta, point.localization)

    @cached_property
    def losses(self) -> Tensor:
        """Loss of w* on every answer: (n, L)."""
        chunks = [self.data[slice(i, i + CHUNK)] for i in range(0, len(self.data), CHUNK)]
        return torch.cat([self.kernel.losses(self.flat[None], c[None])[0] for c in chunks])

    @property
    def drawn(self) -> Drawn:
        """Makes gradients on minibatches of a given size, from a stream that only `seed` names."""

        def make(size: int, seed: int) -> Gradient:
            draw = stream(seed, "reference")
            return lambda v: self.at(v, draw.integers(0, len(self.data), (len(v), size)))

        return make

    def all_lists(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """L − L(w*) (C,) and its gradient (C, F) on all of the data."""
        chunks = np.arange(len(self.data)).reshape(-1, CHUNK)
        parts = [self.at(v, np.broadcast_to(rows, (len(v), CHUNK))) for rows in chunks]
        rise, grad = (sum(column) / len(parts) for column in zip(*parts, strict=True))
        return rise, grad

    def at(self, v: Tensor, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """L − L(w*) (C,) and its gradient (C, F) on these lists, rows (C, B) of the data."""
        lanes = max(1, STACKED // rows.shape[1])
        index = torch.from_numpy(np.ascontiguousarray(rows))
        parts = [self._some(*some) for some in zip(v.split(lanes), index.split(lanes), strict=True)]
        rise, grad = (torch.cat(column) for column in zip(*parts, strict=True))
        return rise, grad

    def _some(self, v: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        w = self.flat.repeat(len(v), 1)
        w[:, self.free] = v * self.scale
        batch = Batch(self.data.tokens[index], self.data.targets[index])
        losses, grad = self.kernel.value_and_grad(w, batch)
        return (losses - self.losses[index]).mean((1, 2)), grad[:, self.free] * self.scale
