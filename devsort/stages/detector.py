"""The detector: boundaries and segments of a trajectory by the approach that the config names."""

from dataclasses import dataclass

from devsort.config import StagesConfig
from devsort.stages import gaussian_process, piecewise, prominence
from devsort.stages.segments import Boundary, Segment
from devsort.stages.trajectory import Trajectory

APPROACHES = {
    "piecewise": piecewise.find,
    "gaussian-process": gaussian_process.find,
    "prominence": prominence.find,
}


@dataclass(frozen=True)
class Result:
    """What was found.

    Attributes:
        trajectory: The input.
        boundaries: In order of position; k of them.
        segments: k + 1 stretches between them.
    """

    trajectory: Trajectory
    boundaries: list[Boundary]
    segments: list[Segment]


def detect(trajectory: Trajectory, config: StagesConfig | None = None) -> Result:
    """Finds the boundaries of a trajectory; see docs/stages.md for what a boundary is.

    Args:
        trajectory: At least three points over training steps.
        config: Approach, penalty, resamples, seed.
    """
    config = config or StagesConfig()
    boundaries, segments = APPROACHES[config.approach](trajectory, config)
    return Result(trajectory, boundaries, segments)
