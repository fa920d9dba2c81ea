"""Settings of the sampler."""

from typing import Literal

from pydantic import Field

from devsort.storage.settings import NonNegative, Positive, PositiveInt, Section, Seed


class SamplerConfig(Section):
    """SGLD, with devinterp's names and step rule; the table of symbols is in docs/sampling.md."""

    lr: Positive = Field(1.3e-5, description="ε, step size")
    n_beta: Positive = Field(1000.0, description="nβ, inverse temperature times sample size")
    localization: NonNegative = Field(1000.0, description="γ, pull to the checkpoint")
    prior: NonNegative | Literal["weight_decay"] = Field(
        0.0,
        description="ρ, precision of a Gaussian prior at zero; weight_decay: nβ·λ_wd, which matches training",
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

    @property
    def num_steps(self) -> int:
        """All steps of a chain, burn-in included."""
        return self.num_burnin_steps + self.num_draws * self.num_steps_bw_draws
