"""The command line.

`app` runs it, `commands`, `figures`, `responses` and `tools` are thin over the package, and
`refusals` has the one line that tells an exception.
"""

from devsort.cli import commands, figures, responses, tools
from devsort.cli.app import main

__all__ = ["commands", "figures", "main", "responses", "tools"]
