"""The command line.

`app` runs it; the other modules hold the commands, thin over the package. `refusals` turns an
exception into one line.
"""

# the help lists the commands in this order
# isort: off
from devsort.cli import commands
from devsort.cli import heads
from devsort.cli import stages
from devsort.cli import figures
from devsort.cli import responses
from devsort.cli import tools

# isort: on
from devsort.cli.app import main

__all__ = ["commands", "figures", "heads", "main", "responses", "stages", "tools"]
