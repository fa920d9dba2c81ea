"""Sampler settings."""

from typing import Any, Literal

from pydantic import Field, model_validator

from devsort.storage.settings import NonNegative, Positive, PositiveInt, Section, Seed

PROBE = 10  # the heating is measured at every tenth draw
DEFAULTS: dict[str, dict[str, Any]] = {
    "relative": {"lr": 4e-3, "localization": 6.66},
    "absolute": {
        "sampling_method": "sgld",
        "lr": 1.3e-5,
        "localization": 1000.0,
        "num_burnin_steps": 150,
        "num_draws": 240,
        "batch_size": 32,
    },
}  # relative: the most accurate settings; absolute: the sampler and units of the literature


class SamplerConfig(Section):
    """Settings of the chains, under devinterp's names. docs/sampling.md defines the symbols.

    In relative geometry (see `sampling.geometry`) the step size and the localization are pure
    numbers; in absolute geometry they have the units of the weights. Each geometry has its own
    defaults.
    """

    geometry: Literal["relative", "absolute"] = Field(
        "relative", description="relative: each block of weights in units of its own scale"
    )
    sampling_method: Literal["sgld", "baoab"] = Field(
        "baoab", description="sgld: as in devinterp; baoab: underdamped, second order in ε"
    )
    lr: Positive = Field(DEFAULTS["relative"]["lr"], description="ε, step size")
    n_beta: Positive = Field(1000.0, description="nβ, inverse temperature times sample size")
    localization: NonNegative = Field(
        DEFAULTS["relative"]["localization"], description="γ, pull towards the checkpoint"
    )
    prior: NonNegative | Literal["weight_decay"] = Field(
        0.0, description="ρ, precision of a Gaussian prior at zero; weight_decay: nβ·λ_wd"
    )
    noise_level: NonNegative = Field(
        1.0, description="factor on the noise; with 0 the chain is plain SGD"
    )
    momentum: float = Field(
        0.7, ge=0, lt=1, description="c, fraction of the momentum that baoab keeps in a step"
    )
    num_chains: int = Field(4, ge=1, le=10_000, description="independent chains")
    num_draws: int = Field(200, ge=1, le=10**7, description="draws per chain")
    num_burnin_steps: int = Field(50, ge=0, le=10**7, description="steps before the first draw")
    num_steps_bw_draws: int = Field(1, ge=1, le=10**6, description="steps per draw")
    batch_size: PositiveInt = Field(64, description="examples per step")
    seed: Seed = Field(0, description="seed of minibatches and noise")

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_geometry(cls, data: Any) -> Any:
        geometry = data.get("geometry") if isinstance(data, dict) else None
        known = DEFAULTS.get(geometry) if isinstance(geometry, str) else None
        return {**known, **data} if known else data

    @model_validator(mode="after")
    def _prior_has_units(self) -> "SamplerConfig":
        if self.geometry == "relative" and self.prior == "weight_decay":
            raise ValueError(
                "prior: weight_decay has the units of the weights, set geometry: absolute"
            )
        return self

    @property
    def num_probes(self) -> int:
        """Number of draws of a chain at which the heating is measured."""
        return 0 if self.sampling_method == "sgld" else -(-self.num_draws // PROBE)

    def probes(self, step: int) -> bool:
        """Whether the heating is measured at this step."""
        return self.keeps(step, PROBE) and self.sampling_method != "sgld"

    def keeps(self, step: int, every: int = 1) -> bool:
        """Whether this step is a draw and, with `every`, one of every `every`-th draws."""
        after = step - self.num_burnin_steps
        return after >= 0 and after % (every * self.num_steps_bw_draws) == 0

    @property
    def num_steps(self) -> int:
        """Number of steps of a chain, including burn-in."""
        return self.num_burnin_steps + self.num_draws * self.num_steps_bw_draws
