"""The detector, which finds the boundaries and segments of a trajectory."""

from dataclasses import dataclass, field

from devsort.stages import piecewise
from devsort.stages.config import StagesConfig
from devsort.stages.fit import Fit
from devsort.stages.segments import Boundary, Segment
from devsort.stages.trajectory import Trajectory


@dataclass(frozen=True)
class Result:
    """The result of the detector.

    Attributes:
        trajectory: The input.
        boundaries: The k boundaries, in order of position.
        segments: The k + 1 segments between them.
        fit: The fitted piecewise-linear curve and its noise.
    """

    trajectory: Trajectory
    boundaries: list[Boundary]
    segments: list[Segment]
    fit: Fit = field(compare=False, repr=False)


def detect(trajectory: Trajectory, config: StagesConfig | None = None) -> Result:
    """Finds the boundaries of a trajectory; docs/stages.md defines them.

    Args:
        trajectory: At least three points over training steps.
        config: Penalties, number of resamples, seed.
    """
    return Result(trajectory, *piecewise.find(trajectory, config or StagesConfig()))
