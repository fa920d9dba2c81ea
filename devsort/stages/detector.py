"""The detector: boundaries and segments of a trajectory."""

from dataclasses import dataclass, field

from devsort.stages import piecewise
from devsort.stages.config import StagesConfig
from devsort.stages.fit import Fit
from devsort.stages.segments import Boundary, Segment
from devsort.stages.trajectory import Trajectory


@dataclass(frozen=True)
class Result:
    """What was found.

    Attributes:
        trajectory: The input.
        boundaries: In order of position; k of them.
        segments: k + 1 stretches between them.
        fit: The broken line and the noise behind them.
    """

    trajectory: Trajectory
    boundaries: list[Boundary]
    segments: list[Segment]
    fit: Fit = field(compare=False, repr=False)


def detect(trajectory: Trajectory, config: StagesConfig | None = None) -> Result:
    """Finds the boundaries of a trajectory; see docs/stages.md for what a boundary is.

    Args:
        trajectory: At least three points over training steps.
        config: Penalties, resamples, seed.
    """
    return Result(trajectory, *piecewise.find(trajectory, config or StagesConfig()))
