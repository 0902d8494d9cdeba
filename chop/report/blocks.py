"""What a page is made of: sections of a few kinds of blocks, without a word of HTML.

Texts are plain; the template escapes them. Only charts are markup, from `charts` and `picture`,
which escape what they are given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

__all__ = [
    "BarRow",
    "Bars",
    "Block",
    "Cell",
    "Chart",
    "Column",
    "Columns",
    "Figure",
    "Figures",
    "Links",
    "Note",
    "Picture",
    "Section",
    "Table",
    "chart",
    "count",
    "percent",
    "size",
]

_WIDE, _NARROW = 560, 344


@dataclass(frozen=True, slots=True)
class Figure:
    """One number with its name; `tone` is "", "good" or "bad"."""

    label: str
    value: str
    note: str = ""
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Figures:
    """Numbers side by side."""

    kind: ClassVar[str] = "figures"
    items: tuple[Figure, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """A column's head; `number` aligns it right, `tip` explains it."""

    name: str
    number: bool = False
    tip: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell; `share` 0..1 draws a bar below the text, `sort` is what it is sorted by."""

    text: str
    share: float | None = None
    sort: float | None = None
    href: str = ""
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells; `anchors` are the rows' ids, empty or as many as rows."""

    kind: ClassVar[str] = "table"
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    anchors: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class BarRow:
    """One bar: `share` 0..1 of the whole width."""

    name: str
    share: float
    text: str
    tone: str = ""
    href: str = ""


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars, a row each."""

    kind: ClassVar[str] = "bars"
    title: str
    rows: tuple[BarRow, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart drawn for a wide and for a narrow page."""

    kind: ClassVar[str] = "chart"
    title: str
    wide: str
    narrow: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """The graph; `measures` are (key, name) of what its nodes may be coloured by."""

    kind: ClassVar[str] = "picture"
    title: str
    svg: str
    measures: tuple[tuple[str, str], ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence that stands out; `tone` as in Figure."""

    kind: ClassVar[str] = "note"
    text: str
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Links:
    """Files by group: (group, ((text, address), ...))."""

    kind: ClassVar[str] = "links"
    groups: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]


@dataclass(frozen=True, slots=True)
class Columns:
    """Blocks side by side where the page is wide enough."""

    kind: ClassVar[str] = "columns"
    blocks: tuple[Bars | Chart | Picture | Table | Figures, ...]
    wide_first: bool = False


Block = Figures | Table | Bars | Chart | Picture | Note | Links | Columns


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the page; `lead` says in a sentence what there is to see."""

    anchor: str
    title: str
    lead: str
    blocks: tuple[Block, ...]


def chart(title: str, draw: Callable[[int], str], note: str = "", wide: int = _WIDE) -> Chart:
    """Returns a chart, drawn once for each of the two widths."""
    return Chart(title, draw(wide), draw(_NARROW), note)


def count(value: float | None) -> str:
    """Returns an integer with commas; "-" for None."""
    return "-" if value is None else f"{round(value):,}"


def percent(share: float | None, places: int = 2) -> str:
    """Returns a share as a percentage; "-" for None."""
    return "-" if share is None else f"{100 * share:.{places}f} %"


def size(bits: float) -> str:
    """Returns a size in B or KiB or MiB."""
    octets = bits / 8
    if octets < 1024:
        return f"{octets:,.0f} B"
    if octets < 1024**2:
        return f"{octets / 1024:,.1f} KiB"
    return f"{octets / 1024**2:,.1f} MiB"
