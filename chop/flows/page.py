"""Where the page about a design finds its files, and where it is put."""

from __future__ import annotations

from pathlib import Path

from chop.errors import DataError
from chop.flows.places import run_directory
from chop.ir.manifest import Manifest
from chop.report.page import write_page

__all__ = ["PAGE", "write_report_page"]

PAGE = "report.html"


def write_report_page(build: Path, run: Path | None = None, output: Path | None = None) -> Path:
    """Writes the page about an emitted folder and returns its path.

    Without `run` it reads runs/<name>: of the folder that holds build/<name>, else of the working
    directory. Without `output` it is written there as report.html. Raises DataError for a folder
    that is no design, for one that is not there, and for malformed files.
    """
    if not build.is_dir():
        raise DataError(f"no folder '{build}'; emit a design with 'chop emit', or name its folder")
    if run is None:
        run = run_directory(Manifest.load(build).name)
        beside = build.resolve().parent.parent / run
        if beside.is_dir() and beside != Path.cwd() / run:
            run = beside
    elif not run.is_dir():
        raise DataError(f"no folder '{run}'; name that of a run, such as runs/<name>")
    target = output or run / PAGE
    if target.is_dir():
        raise DataError(f"'{target}' is a folder; name a file, such as '{target / PAGE}'")
    return write_page(build, run, target)
