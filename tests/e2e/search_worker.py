"""`chop search --worker` as a function: what a process that is forked with all imported runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from chop.cli.main import main

__all__ = ["PRELOADED", "run_worker"]

# What takes seconds to import, for every worker anew.
PRELOADED = ["chop.search.study", "torch._inductor", "sklearn.datasets", "optuna"]


def run_worker(folder: Path, config: Path) -> None:
    """Works in a folder until the study is done; the exit status is the command's."""
    os.chdir(folder)
    sys.exit(main(["search", "--worker", "--config", str(config)]))
