"""Settings of the sampler."""

from typing import Any, Literal

from pydantic import Field, model_validator

from devsort.storage.settings import NonNegative, Positive, PositiveInt, Section, Seed

DEFAULTS = {
    "relative": {"lr": 4e-3, "localization": 6.66},
    "absolute": {"lr": 1.3e-5, "localization": 1000.0},
}  # of the settings whose unit depends on the geometry


class SamplerConfig(Section):
    """SGLD, with devinterp's names and step rule; the table of symbols is in docs/sampling.md.

    In relative geometry, `sampling.geometry`, step size and localization are pure numbers; in
    absolute geometry they are in units of the weights. Each geometry has its own defaults.
    """

    geometry: Literal["relative", "absolute"] = Field(
        "relative", description="relative: each block of weights in units of its own scale"
    )
    lr: Positive = Field(DEFAULTS["relative"]["lr"], description="ε, step size")
    n_beta: Positive = Field(1000.0, description="nβ, inverse temperature times sample size")
    localization: NonNegative = Field(
        DEFAULTS["relative"]["localization"], description="γ, pull to the checkpoint"
    )
    prior: NonNegative | Literal["weight_decay"] = Field(
        0.0, description="ρ, precision of a Gaussian prior at zero; weight_decay: nβ·λ_wd"
    )
    noise_level: NonNegative = Field(
        1.0, description="factor on the noise; 0 makes the chain plain SGD"
    )
    num_chains: int = Field(4, ge=1, le=10_000, description="independent chains")
    num_draws: int = Field(240, ge=1, le=10**7, description="draws kept per chain")
    num_burnin_steps: int = Field(
        150, ge=0, le=10**7, description="steps before the first kept draw"
    )
    num_steps_bw_draws: int = Field(1, ge=1, le=10**6, description="steps per draw")
    batch_size: PositiveInt = Field(32, description="examples per SGLD step")
    seed: Seed = Field(0, description="seed of minibatches and noise")

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_geometry(cls, data: Any) -> Any:
        known = DEFAULTS.get(data.get("geometry")) if isinstance(data, dict) else None
        return {**known, **data} if known else data

    @model_validator(mode="after")
    def _prior_has_units(self) -> "SamplerConfig":
        if self.geometry == "relative" and self.prior == "weight_decay":
            raise ValueError(
                "prior: weight_decay pulls in the weights' own units, set geometry: absolute"
            )
        return self

    @property
    def num_steps(self) -> int:
        """All steps of a chain, burn-in included."""
        return self.num_burnin_steps + self.num_draws * self.num_steps_bw_draws
