"""Speed compared with the peers: the same work, one contender after the other in one process.

The answers are compared too. `works` lists what is measured; `samplers`, `costs`, `draws`,
`networks` and `trainers` have the contenders, `floor` the rate of the bare matrix products, and
`report` the rows of the command.
"""

from devsort.bench.report import run_bench, table
from devsort.bench.works import Settings

__all__ = ["Settings", "run_bench", "table"]
