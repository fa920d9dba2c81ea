"""Known answers in other units: in relative geometry, a potential has the same LLC in any units.

The minimum of a potential K is shifted from 0 to w* = 1, and each tensor is scaled by a factor k:
K'(w) = K(w/k − 1). The scale of each tensor, which is the RMS of w*, is then k. So v = w/s is 1 +
(the parameter of K), and the posterior in v, including localization and step, is that of K in
absolute geometry. The truth is therefore that of K, for every k.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch

from devsort.sampling.config import SamplerConfig
from devsort.sampling.objective import Params
from devsort.validation import potentials
from devsort.validation.case import Case, settings
from devsort.validation.measurements import llc
from devsort.validation.potentials import Potential


def in_units(potential: Potential, *units: float) -> Potential:
    """Returns K'(w) = K(w/k − 1) around w* = k, with one k per tensor, in the order of their names.

    The truth is that of K.

    Raises:
        ValueError: If the minimum of K is not at 0, or there is not one unit for each tensor.
    """
    names = sorted(potential.star)
    if any(bool(value.any()) for value in potential.star.values()) or len(units) != len(names):
        raise ValueError(f"units {units} for {names}, minimum at 0")
    unit = dict(zip(names, units, strict=True))

    def loss(params: Params) -> torch.Tensor:
        return potential.loss({name: value / unit[name] - 1 for name, value in params.items()})

    star = {name: torch.ones_like(value) * unit[name] for name, value in potential.star.items()}
    return replace(potential, loss=loss, star=star)


def relative(config: SamplerConfig) -> SamplerConfig:
    """Returns the same settings in relative geometry."""
    return config.model_copy(update={"geometry": "relative"})


Row = tuple[str, Potential, SamplerConfig, tuple[tuple[float, ...], ...], float, float, bool]
ONE, TWO = ((0.2,), (5.0,)), ((0.2, 5.0), (5.0, 0.2))  # systems of units, one unit per tensor


def unit_cases() -> list[Case]:
    """Returns the cases of quadratic and singular potentials, each in two systems of units."""
    return [_case(row, units) for row in (*_quadratics(), *_singular()) for units in row[3]]


def _quadratics() -> Iterator[Row]:
    lanes = {"num_chains": 4000, "num_burnin_steps": 100, "num_draws": 160, "num_steps_bw_draws": 2}
    early = {"num_chains": 4000, "num_burnin_steps": 1, "num_draws": 4, "num_steps_bw_draws": 2}
    pair, one = potentials.quadratic([1.0, 3.0]), potentials.quadratic([3.0])
    many = potentials.quadratic([1.0] * 20)
    yield "quadratic", one, settings(50, 2, 1e-2, **lanes), ONE, 0.002, 0, True
    yield "start", many, settings(50, 10, 6e-3, **early), ONE, 0.03, 0, True
    yield "prior", pair, settings(50, 10, 2e-3, prior=5, **lanes), ONE, 0.008, 0, True


def _singular() -> Iterator[Row]:
    steps = {"num_chains": 2000, "num_burnin_steps": 1500, "num_draws": 150}
    few = {"num_chains": 2000, "num_burnin_steps": 600, "num_draws": 150, "num_steps_bw_draws": 6}
    arms = {"num_burnin_steps": 8000, "num_draws": 100, "num_steps_bw_draws": 30}
    power, crossing = potentials.powers(4), potentials.crossing(1, 2)
    mixed = potentials.blocks(
        a=potentials.quadratic([1.0, 3.0]), b=potentials.powers(4), c=potentials.radial(2, 2)
    )
    three = ((0.2, 1.0, 5.0), (5.0, 0.2, 1.0))
    at = settings(145, 5, 1e-3, num_steps_bw_draws=10, **steps)
    yield "power-4", power, at, ONE, 0.0016, 0.001, False
    at = settings(30, 1, 5e-4, num_chains=4000, **arms)
    yield "crossing-1-2", crossing, at, ONE, 0.002, 0.0015, False
    yield "blocks", mixed, settings(100, 5, 1e-3, **few), three, 0.006, 0.002, False
    at = settings(30, 1, 5e-4, num_chains=1000, **arms)
    yield "rank-regression", potentials.reduced_rank(1, 2, 5), at, TWO, 0.006, 0.01, False


def _case(row: Row, units: tuple[float, ...]) -> Case:
    name, potential, config, _, bound, slack, fast = row
    original = potentials.quadratic([1.0, 3.0], center=1.0) if name == "prior" else potential
    return Case(
        name=f"units-{name}-{'-'.join(f'{u:g}' for u in units)}".replace(".", ""),
        what=f"{name} in relative geometry, weights in units of {', '.join(map(str, units))}",
        truth=lambda: original.truth(config),
        measure=lambda: llc(in_units(potential, *units), relative(config)),
        se_bound=bound,
        slack=slack,
        fast=fast,
        limit=potential.limit.value,
    )
