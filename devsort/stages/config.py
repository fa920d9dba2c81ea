"""Settings of the stage detector."""

from pydantic import Field

from devsort.storage.settings import NonNegative, Positive, PositiveInt, Section, Seed


class StagesConfig(Section):
    """Settings of the segmentation of the LLC trajectory. docs/stages.md has the definitions."""

    signals: tuple[str, ...] = Field(
        (), description="signals with the same boundaries as llc: loss, h0, h1, …"
    )
    bootstrap: PositiveInt = Field(200, description="number of resamples for the intervals")
    seed: Seed = Field(0, description="seed of the bootstrap")
    widen: Positive = Field(
        1.7, description="factor on the bootstrap intervals of boundaries; set by simulation"
    )
    penalty: Positive = Field(
        11.0, description="log-likelihood gain that a joint must give; set by simulation"
    )
    jump_penalty: Positive = Field(20.0, description="the same for a jump between two checkpoints")
    bend_margin: NonNegative = Field(
        4.0, description="log-likelihood units by which joints must be better than a smooth bend"
    )
    rate_factor: float = Field(
        2.0, ge=1, le=100, description="ratio of rates that separates segments of one direction"
    )
    min_points: int = Field(2, ge=1, le=1000, description="fewest checkpoints in a segment")
    outlier: Positive = Field(
        3.5, description="standard deviations beyond which a checkpoint may be an outlier"
    )
