"""`python -m chop.cli`: the same as the console script."""

from chop.cli.main import run

run()
