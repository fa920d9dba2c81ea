"""Sweeps: many runs from one study file, on this machine or on a Ray cluster.

See docs/sweeps.md.

`study` turns the file into cells, `cell` takes one cell through the pipeline, `row` collects its
results, `local` and `cluster` run many cells, `table` gathers the rows, and `step` is the command.
"""

from devsort.sweep.step import Engine, failure, run_sweep, text_table
from devsort.sweep.study import Cell, Study, read_study
from devsort.sweep.table import load_table, load_trajectories

__all__ = [
    "Cell",
    "Engine",
    "Study",
    "failure",
    "load_table",
    "load_trajectories",
    "read_study",
    "run_sweep",
    "text_table",
]
