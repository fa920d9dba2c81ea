"""Finds boundaries as joints of a penalized piecewise-linear fit. `detect` uses this approach.

The joints and the noise minimize −2 log p (see `evidence`) plus a penalty for each joint. The
penalty is set by simulation (analysis/stage_benchmark.py --calibrate). A joint is a boundary if the
directions on its two sides differ, or if the rates differ by a factor of two and their intervals do
not overlap. If the trajectory is monotonic and a smooth curve explains it as well as the joints do,
they are bends and not boundaries.
"""

from devsort.stages.boundaries import boundary_joints, describe
from devsort.stages.config import StagesConfig
from devsort.stages.fit import Fit, fit
from devsort.stages.resample import bootstrap
from devsort.stages.segments import Boundary, Segment
from devsort.stages.trajectory import Trajectory


def find(trajectory: Trajectory, config: StagesConfig) -> tuple[list[Boundary], list[Segment], Fit]:
    """Returns the boundaries with intervals, the segments between them, and the fit.

    Args:
        trajectory: The trajectory.
        config: Penalty, number of resamples, seed.
    """
    model = fit(trajectory, config)
    draws = bootstrap(model, trajectory, config)
    corners = boundary_joints(model, draws, config)
    return *describe(model, draws, corners, config), model
