"""How work is spread over cores and processes.

`device` has the device, the cores and torch's threads. `processes` starts and ends worker
processes. `jobs` hands out jobs to them. `progress` shows how far they are.
"""

from devsort.execution.device import cores, one_core, resolve_device, torch_threads
from devsort.execution.jobs import run_jobs, unheard
from devsort.execution.processes import DIED, Advanced, Member, Work, crew
from devsort.execution.progress import progress

__all__ = [
    "DIED",
    "Advanced",
    "Member",
    "Work",
    "cores",
    "crew",
    "one_core",
    "progress",
    "resolve_device",
    "run_jobs",
    "torch_threads",
    "unheard",
]
