"""`python -m devsort` is `devsort`."""

from devsort.cli import main

main()
