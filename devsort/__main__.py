"""Makes `python -m devsort` run the `devsort` command."""

from devsort.cli import main

main()
