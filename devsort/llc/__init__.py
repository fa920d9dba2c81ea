"""The local learning coefficient: estimates from draws, flags, and trajectories over training."""

from devsort.llc.estimate import Estimate, estimate
from devsort.llc.flags import FLAGS

__all__ = ["FLAGS", "Estimate", "estimate"]
