"""The page: its sections in order, rendered into one HTML file that needs nothing else."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import jinja2
from markupsafe import Markup

from chop.ir.files import write_text
from chop.report import design, numbers
from chop.report.blocks import Section
from chop.report.charts import STYLE, palette
from chop.report.compression import compression
from chop.report.inputs import Inputs, read_inputs
from chop.report.search import search

__all__ = ["render_page", "write_page"]


def write_page(build: Path, run: Path, output: Path) -> Path:
    """Reads a build folder and its run, writes the page and returns its path.

    Links in it are relative to the page's own folder. Raises DataError where the folder is no
    design, or a file of the run is malformed.
    """
    write_text(output, render_page(read_inputs(build, run), output))
    return output


def render_page(inputs: Inputs, output: Path) -> str:
    """Returns the page's text; the same files give the same text."""
    found = (
        design.overview(inputs),
        design.structure(inputs),
        design.area(inputs),
        design.measured(inputs),
        numbers.numbers(inputs),
        numbers.sparsity(inputs),
        search(inputs.study),
        compression(inputs.compression),
        design.queues(inputs),
        design.layers(inputs),
        design.files(inputs, output),
    )
    sections: list[Section] = [section for section in found if section is not None]
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_asset("page.html.j2")).render(
        title=inputs.manifest.name,
        sections=sections,
        style=Markup(_asset("page.css") + STYLE),
        light=Markup(palette(dark=False)),
        dark=Markup(palette(dark=True)),
        script=Markup(_asset("page.js")),
        svg=Markup,
    )


def _asset(name: str) -> str:
    return (files("chop.report") / name).read_text(encoding="utf-8")
