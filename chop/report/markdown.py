"""Pages whose figures a run writes: tables in Markdown, and regions that are written anew.

A region stands between `<!-- begin NAME -->` and `<!-- end NAME -->`, each on a line of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from chop.errors import DataError
from chop.ir.files import write_text

__all__ = ["markdown_table", "update_page"]

_REGION = re.compile(
    r"^(<!-- begin (?P<name>[\w-]+) -->)\n(?P<text>.*?)^(<!-- end (?P=name) -->)$", re.M | re.S
)


def markdown_table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Returns a table; columns whose cells are all numbers are aligned to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    columns = list(zip(*cells, strict=True)) if cells else [()] * len(headers)
    rules = ["---:" if column and all(map(_is_number, column)) else "---" for column in columns]
    lines = [headers, rules, *cells]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def update_page(path: Path, regions: Mapping[str, str]) -> None:
    """Puts the texts into the page's regions of those names.

    Raises DataError unless the page has exactly these regions: none may keep an old figure.
    """
    text = path.read_text(encoding="utf-8")
    there = [match["name"] for match in _REGION.finditer(text)]
    if sorted(there) != sorted(regions):
        raise DataError(
            f"page '{path}': its regions are {', '.join(there) or 'none'}, "
            f"what was written is {', '.join(regions)}; make them the same"
        )

    def put(match: re.Match[str]) -> str:
        return f"{match[1]}\n{regions[match['name']].rstrip()}\n{match[4]}"

    write_text(path, _REGION.sub(put, text))


def _cell(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.2f}".rstrip("0").rstrip(".") if abs(value) < 1000 else f"{value:,.0f}"
    return str(value).replace("|", "\\|")


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"[-+]?[\d,]+(\.\d+)?( ?%| ?x)?|-|", text))
