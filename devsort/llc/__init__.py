"""The local learning coefficient: estimates from draws, flags, and trajectories over training."""

from devsort.llc.estimate import Estimate, estimate
from devsort.llc.flags import FLAGS, Context
from devsort.llc.step import load_llc, run_llc
from devsort.llc.table import text_table

__all__ = ["FLAGS", "Context", "Estimate", "estimate", "load_llc", "run_llc", "text_table"]
