"""`chop report`: the page about a design."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from chop.cli.options import Json

__all__ = ["report"]


def report(
    folder: Annotated[
        Path | None,
        typer.Argument(help="An emitted folder; by default the one emitted last."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file; by default runs/<name>/report.html."),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option("--run", help="Where report.json is; by default runs/<name>."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a page about a design: one HTML file, to be opened in a browser, offline.

    It shows the graph, where cycles and area go, formats, accuracy, what was measured, and what
    searches and compression found, as far as runs/<name> holds their files.
    """
    from chop.flows.page import write_report_page
    from chop.flows.places import chosen_build

    written = write_report_page(chosen_build(folder, None), run, output)
    print(json.dumps({"file": str(written)}, indent=2) if as_json else f"wrote {written}")
