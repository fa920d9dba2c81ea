"""A case: a known answer and what is measured against it."""

from collections.abc import Callable
from dataclasses import dataclass

from devsort.sampling.config import SamplerConfig
from devsort.validation.measurements import Measured, llc
from devsort.validation.potentials import Potential
from devsort.validation.quadrature import Truth

STANDARD_ERRORS = 4


@dataclass(frozen=True)
class Case:
    """One known answer.

    Attributes:
        name: For `--case`.
        what: What is measured, and the setting that matters.
        truth: The known answer; takes a moment.
        measure: Runs the sampler; takes seconds.
        se_bound: Largest standard error that is accepted.
        slack: Bound on the error of the truth.
        fast: Part of `--fast`.
        limit: λ, where the truth is a value at finite nβ of a potential that has one.
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
        """Largest accepted distance from the truth."""
        return STANDARD_ERRORS * self.se_bound + self.slack


def settings(n_beta: float, localization: float, lr: float, **more: float) -> SamplerConfig:
    """Sampler settings in the order of truth tables: nβ, γ, ε; in absolute geometry."""
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
    """The LLC of a potential through the public entry points."""
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
