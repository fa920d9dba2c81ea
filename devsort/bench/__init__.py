"""Speed beside the peers: the same work, in one process, in turns, with the answers compared.

`samplers` and `trainers` have the contenders, `floor` the time that the bare matrix products would
take, `report` the command's rows.
"""

from devsort.bench.report import Settings, run_bench, table

__all__ = ["Settings", "run_bench", "table"]
