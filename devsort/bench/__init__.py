"""Speed compared with the peers: the same work, one contender after the other in one process.

The answers are compared too. `samplers`, `trainers` and `networks` have the contenders, `floor` the
rate of the bare matrix products, and `report` the rows of the command.
"""

from devsort.bench.report import Settings, run_bench, table

__all__ = ["Settings", "run_bench", "table"]
