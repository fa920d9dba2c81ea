"""Finds the stages of a trajectory: boundaries with intervals, and names. See docs/stages.md."""

from devsort.stages.config import StagesConfig
from devsort.stages.detector import Result, detect
from devsort.stages.tables import read_csv
from devsort.stages.trajectory import Trajectory, from_llc

__all__ = ["Result", "StagesConfig", "Trajectory", "detect", "from_llc", "read_csv"]
