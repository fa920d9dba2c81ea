"""Boundaries as the joints of a penalised piecewise-linear fit; the approach that `detect` uses.

The joints and the noise minimise −2 log p (see `evidence`) plus a penalty for each joint. The
penalty is set by simulation (analysis/stage_benchmark.py --calibrate). A joint is a boundary if the
directions on both sides differ, or the rates do by a factor of two with intervals apart; where the
trajectory goes one way and a smooth curve explains it as well as its joints do, they are bends and
no boundaries.
"""

from devsort.stages.boundaries import boundary_joints, describe
from devsort.stages.config import StagesConfig
from devsort.stages.fit import Fit, fit
from devsort.stages.resample import bootstrap
from devsort.stages.segments import Boundary, Segment
from devsort.stages.trajectory import Trajectory


def find(trajectory: Trajectory, config: StagesConfig) -> tuple[list[Boundary], list[Segment], Fit]:
    """Boundaries with intervals, the segments between them, and the fit behind both.

    Args:
        trajectory: What is segmented.
        config: Penalty, number of resamples, seed.
    """
    model = fit(trajectory, config)
    draws = bootstrap(model, trajectory, config)
    kept = boundary_joints(model, draws, config)
    return *describe(model, draws, kept, config), model
