"""A case: a known answer and a measurement to compare with it."""

from collections.abc import Callable
from dataclasses import dataclass

from devsort.sampling.config import SamplerConfig
from devsort.validation.measurements import Measured, llc
from devsort.validation.potentials import Potential
from devsort.validation.quadrature import Truth

STANDARD_ERRORS = 4


@dataclass(frozen=True)
class Case:
    """One known answer and its measurement.

    Attributes:
        name: The name for `--case`.
        what: Describes what is measured, and the settings that matter.
        truth: Computes the known answer, in about a second.
        measure: Runs the sampler, in a few seconds.
        se_bound: The largest standard error that is accepted.
        slack: Bound on the error of the known answer.
        fast: Whether it is part of `--fast`.
        limit: λ, the limit for nβ → ∞, if it is known and the truth is the value at finite nβ.
    """

    name: str
    what: str
    truth: Callable[[], Truth]
    measure: Callable[[], Measured]
    se_bound: float
    slack: float = 0.0
    fast: bool = False
    limit: float | None = None

    @property
    def tolerance(self) -> float:
        """The largest accepted distance from the truth."""
        return STANDARD_ERRORS * self.se_bound + self.slack


def settings(n_beta: float, localization: float, lr: float, **more: float) -> SamplerConfig:
    """Returns sampler settings in absolute geometry, from nβ, γ, ε and others by name."""
    at = {"geometry": "absolute", **more}
    return SamplerConfig(n_beta=n_beta, localization=localization, lr=lr, **at)


def of_potential(
    name: str,
    what: str,
    potential: Potential,
    config: SamplerConfig,
    se_bound: float,
    slack: float = 0.0,
    fast: bool = False,
) -> Case:
    """Returns the case of a potential's LLC, measured with the public functions."""
    return Case(
        name,
        what,
        lambda: potential.truth(config),
        lambda: llc(potential, config),
        se_bound,
        slack,
        fast,
        potential.limit.value,
    )
