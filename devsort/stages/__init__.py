"""Stages of a trajectory: boundaries with intervals, names by rules, and head-mode events. See docs/stages.md."""

from devsort.stages.detector import Result, detect
from devsort.stages.step import load_stages, run_stages, stages_of_csv
from devsort.stages.trajectory import Trajectory, from_llc, read_csv

__all__ = ["Result", "Trajectory", "detect", "from_llc", "load_stages", "read_csv", "run_stages", "stages_of_csv"]
