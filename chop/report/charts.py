"""Charts as inline SVG, for the page and for the labs: points and lines on axes, bars, coordinates.

A chart has no colour of its own: its classes take theirs from CSS variables, which a page sets for
light and dark; `standalone` brings them along for a file. Every mark carries a <title> whose first
line is its head, so that a chart says everything without a script. The same values give the same
bytes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from chop.report.axes import Axis, Scale, scale_of

__all__ = ["Bar", "Line", "Mark", "Series", "bars", "palette", "parallel", "plot", "standalone"]

# An average character of the text sizes, in a system font.
_CHARACTER = 6.9
_TICK, _ROW = 5.0, 24.0

# Light, and dark: text, second text, grid, paper, and six series told apart by the colour-blind.
_NAMES = ("ink", "soft", "grid", "paper", "s0", "s1", "s2", "s3", "s4", "s5")
_LIGHT = (
    *("#1b2027", "#57606c", "#dfe3e8", "#ffffff"),
    *("#2360b5", "#b3540a", "#0e7660", "#7546b3", "#b0283e", "#5c6775"),
)
_DARK = (
    *("#e6e9ee", "#a2abb8", "#343b45", "#171b21"),
    *("#7fb1fa", "#eda15c", "#52cbac", "#c2a2f2", "#f28a97", "#98a3b2"),
)
STYLE = """
.chart text{font:12px system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
fill:var(--soft);font-variant-numeric:tabular-nums}
.chart .name{fill:var(--ink)}
.chart .grid{stroke:var(--grid);stroke-width:1;fill:none}
.chart .axis{stroke:var(--soft);stroke-width:1;fill:none}
.chart .rule{stroke:var(--ink);stroke-width:1.25;stroke-dasharray:5 4;fill:none}
.chart .line{stroke:var(--c);stroke-width:1.75;fill:none;stroke-linejoin:round}
.chart .dot{fill:var(--c);stroke:var(--paper);stroke-width:1}
.chart .dot.open{fill:var(--paper);stroke:var(--c);stroke-width:1.75}
.chart .faint{opacity:.4}
.chart .bar{fill:var(--c)}
.chart .thread{stroke:var(--c);stroke-width:1.1;fill:none;opacity:.22}
.chart .thread.best{stroke-width:2.2;opacity:1}
""" + "".join(f".chart .s{i}{{--c:var(--s{i})}}\n" for i in range(6))


@dataclass(frozen=True, slots=True)
class Mark:
    """One point; `tip` is what it says when it is pointed at, its first line the head."""

    x: float
    y: float
    tip: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one colour (0..5).

    `style`: "dots", "open" (rings), "line", "both" or "steps" (a front: along x, then along y).
    `faint` puts it into the background.
    """

    name: str
    marks: tuple[Mark, ...]
    colour: int = 0
    style: str = "dots"
    faint: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line across the plot at a value of one axis.

    That of "y" is named in the legend, that of "x" above its end.
    """

    name: str
    value: float
    axis: str = "y"


@dataclass(frozen=True, slots=True)
class Bar:
    """One row of a bar chart; `text` stands behind the bar."""

    name: str
    value: float
    text: str = ""
    colour: int = 0
    tip: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Frame:
    """The plot's place in the picture."""

    left: float
    top: float
    right: float
    bottom: float


def plot(
    title: str,
    series: Sequence[Series],
    x: Axis,
    y: Axis,
    *,
    lines: Sequence[Line] = (),
    width: int = 640,
    height: int = 340,
) -> str:
    """Returns an SVG of points and lines on two axes; the legend names series where there are two.

    Axes hold every mark and line; a logarithmic axis leaves out what is not above 0.
    """
    marks = [m for s in series for m in s.marks]
    across = [m.x for m in marks] + [line.value for line in lines if line.axis == "x"]
    up = [m.y for m in marks] + [line.value for line in lines if line.axis == "y"]
    named = [s for s in series if s.name]
    rules = [line for line in lines if line.axis == "y"]
    named = named if len(named) > 1 else []
    legend, below = _legend(named, rules, width) if named or rules else ([], 0.0)
    vertical = scale_of(y, up, height / 44)
    left = 14 + _CHARACTER * max((len(t.text) for t in vertical.ticks), default=1) + _TICK
    last = len(scale_of(x, across, width / 90).ticks[-1].text)
    right = width - max(14.0, 4 + _CHARACTER * last / 2)
    frame = _Frame(left, 26 + below, right, height - 42.0)
    horizontal = scale_of(x, across, (frame.right - frame.left) / 80)
    parts = [
        *legend,
        *_axes(frame, horizontal, vertical, x, y, below),
        *(_rule(frame, line, horizontal, vertical) for line in lines),
        *(_series(s, frame, horizontal, vertical) for s in series),
    ]
    return _svg(title, width, height, parts)


def bars(
    title: str,
    rows: Sequence[Bar],
    axis: Axis,
    *,
    lines: Sequence[Line] = (),
    width: int = 640,
) -> str:
    """Returns an SVG of horizontal bars from 0, a row each, in the order given."""
    top = 24.0 if lines else 6.0
    height = top + _ROW * len(rows) + 40
    left = min(0.42 * width, 10 + _CHARACTER * max((len(r.name) for r in rows), default=1))
    right = width - 12 - _CHARACTER * max((len(r.text) for r in rows), default=0)
    frame = _Frame(left, top, right, height - 40)
    values = [0.0, *(r.value for r in rows), *(line.value for line in lines)]
    scale = scale_of(axis, values, (right - left) / 70)
    parts = _across(frame, scale, axis)
    for i, row in enumerate(rows):
        y = frame.top + _ROW * i
        end = _at(scale, row.value, frame.left, frame.right)
        fits = int((left - 10) / _CHARACTER)
        name = row.name if len(row.name) <= fits else row.name[: fits - 1] + "\u2026"
        parts.append(
            f'<g class="s{row.colour} mark">{_title(row.tip or (row.name, row.text))}'
            f'<text class="name" x="{_n(left - 8)}" y="{_n(y + 16)}" text-anchor="end">'
            f"{escape(name)}</text>"
            f'<rect class="bar" x="{_n(left)}" y="{_n(y + 4)}" rx="1.5" '
            f'width="{_n(max(end - left, 0.5))}" height="{_n(_ROW - 8)}"/>'
            f'<text x="{_n(end + 6)}" y="{_n(y + 16)}">{escape(row.text)}</text></g>'
        )
    parts += [_rule(frame, line, scale, scale) for line in lines]
    return _svg(title, width, round(height), parts)


def parallel(
    title: str,
    axes: Sequence[tuple[Axis, Sequence[str]]],
    threads: Sequence[tuple[tuple[float, ...], tuple[str, ...], int, bool]],
    *,
    width: int = 640,
    height: int = 320,
) -> str:
    """Returns parallel coordinates: an upright axis per (axis, choices), a thread per trial.

    A thread is its values, tip, colour, and whether it stands out. An axis with choices has them as
    ticks at 0, 1, ...; the others are numeric.
    """
    top, bottom = 46.0, height - 16.0
    step = (width - 120.0) / max(1, len(axes) - 1)
    places = [48 + step * i for i in range(len(axes))]
    scales = []
    for i, (axis, choices) in enumerate(axes):
        values = [t[0][i] for t in threads]
        known = Axis(axis.label, low=-0.4, high=len(choices) - 0.6, ticks=tuple(choices))
        scales.append(scale_of(known if choices else axis, values, 5))
    parts = []
    for lane, tip, colour, best in sorted(threads, key=lambda t: t[3]):
        heights = [
            _at(s, v, bottom, top) if s.holds(v) else bottom
            for s, v in zip(scales, lane, strict=True)
        ]
        path = "L".join(f"{_n(x)} {_n(at)}" for x, at in zip(places, heights, strict=True))
        kind = "thread best" if best else "thread"
        parts.append(f'<path class="mark s{colour} {kind}" d="M{path}">{_title(tip)}</path>')
    room = max(4, int(step / _CHARACTER) - 1)
    for i, ((axis, _), scale, x) in enumerate(zip(axes, scales, places, strict=True)):
        parts.append(f'<path class="axis" d="M{_n(x)} {_n(top)}V{_n(bottom)}"/>')
        label = axis.label if len(axis.label) <= room else axis.label[: room - 1] + "\u2026"
        y = 14 + 14 * (i % 2) if room < 14 else 24
        anchor = "start" if i == 0 else "end" if i == len(axes) - 1 else "middle"
        shift = {"start": -40, "middle": 0, "end": 56}[anchor]
        parts.append(
            f'<text class="name" x="{_n(x + shift)}" y="{_n(y)}" text-anchor="{anchor}">'
            f"{_title((axis.label,))}{escape(label)}</text>"
        )
        for tick in scale.ticks:
            at = _at(scale, tick.value, bottom, top)
            text = tick.text if len(tick.text) <= room else tick.text[: room - 1] + "\u2026"
            parts.append(
                f'<text class="halo" x="{_n(x + 4)}" y="{_n(at + 4)}">{escape(text)}</text>'
            )
    return _svg(title, width, height, parts)


def standalone(svg: str) -> str:
    """Returns a chart as the text of a file: light and dark by the viewer's preference."""
    light, dark = palette(dark=False), palette(dark=True)
    style = (
        f"<style>svg{{{light}}}@media(prefers-color-scheme:dark){{svg{{{dark}}}}}"
        f"{' '.join(STYLE.split())}</style>"
    )
    opened = re.match(r"<svg[^>]*>", svg)
    assert opened is not None, "made by this module"
    paper = '<rect width="100%" height="100%" fill="var(--paper)"/>'
    return f"{opened.group()}{style}{paper}{svg[opened.end() :]}\n"


def palette(dark: bool) -> str:
    """Returns the CSS variables of one theme."""
    colours = _DARK if dark else _LIGHT
    return "".join(f"--{name}:{colour};" for name, colour in zip(_NAMES, colours, strict=True))


def _svg(title: str, width: int, height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" role="img" '
        f'aria-label="{escape(title)}" width="{width}" height="{_n(height)}" '
        f'viewBox="0 0 {width} {_n(height)}">' + "".join(parts) + "</svg>"
    )


def _title(lines: Sequence[str]) -> str:
    text = "\n".join(line for line in lines if line)
    return f"<title>{escape(text)}</title>" if text else ""


def _legend(
    series: Sequence[Series], rules: Sequence[Line], width: float
) -> tuple[list[str], float]:
    """Returns the legend above the plot, in as many lines as it needs, and its height."""
    entries = [(s.name, f"s{s.colour}", _sample(s)) for s in series]
    entries += [(rule.name, "", ("rule", None)) for rule in rules]
    parts, x, y = [], 14.0, 14.0
    for name, colour, (kind, radius) in entries:
        wide = 24 + len(name) * _CHARACTER + 12
        if x > 14 and x + wide > width:
            x, y = 14.0, y + 18
        sample = f'<path class="{kind}" d="M{_n(x)} {_n(y - 4)}h14"/>'
        if radius is not None:
            sample = f'<circle class="{kind}" cx="{_n(x + 7)}" cy="{_n(y - 4)}" r="{radius}"/>'
        text = f'<text class="name" x="{_n(x + 20)}" y="{_n(y)}">{escape(name)}</text>'
        parts.append(f'<g class="{colour}">{sample}{text}</g>')
        x += wide
    return parts, y + 6


def _sample(series: Series) -> tuple[str, float | None]:
    """Returns the class of the sample beside a name, and the radius of a dot."""
    if series.style in ("line", "both", "steps"):
        return "line", None
    return ("dot open" if series.style == "open" else "dot"), 4.5


def _axes(
    frame: _Frame, horizontal: Scale, vertical: Scale, x: Axis, y: Axis, below: float
) -> list[str]:
    parts = []
    for tick in vertical.ticks:
        at = _at(vertical, tick.value, frame.bottom, frame.top)
        parts.append(
            f'<path class="grid" d="M{_n(frame.left)} {_n(at)}H{_n(frame.right)}"/>'
            f'<text x="{_n(frame.left - _TICK - 2)}" y="{_n(at + 4)}" text-anchor="end">'
            f"{escape(tick.text)}</text>"
        )
    parts += _across(frame, horizontal, x)
    parts.append(f'<text class="name" x="14" y="{_n(below + 14)}">{escape(y.label)}</text>')
    return parts


def _across(frame: _Frame, scale: Scale, axis: Axis) -> list[str]:
    """Returns the axis below the plot, its grid and its name."""
    parts = []
    for tick in scale.ticks:
        at = _at(scale, tick.value, frame.left, frame.right)
        parts.append(
            f'<path class="grid" d="M{_n(at)} {_n(frame.top)}V{_n(frame.bottom)}"/>'
            f'<text x="{_n(at)}" y="{_n(frame.bottom + 16)}" text-anchor="middle">'
            f"{escape(tick.text)}</text>"
        )
    base = f"M{_n(frame.left)} {_n(frame.top)}V{_n(frame.bottom)}H{_n(frame.right)}"
    parts.append(f'<path class="axis" d="{base}"/>')
    parts.append(
        f'<text class="name" x="{_n(frame.right)}" y="{_n(frame.bottom + 34)}" text-anchor="end">'
        f"{escape(axis.label)}</text>"
    )
    return parts


def _rule(frame: _Frame, line: Line, horizontal: Scale, vertical: Scale) -> str:
    if line.axis == "x":
        at = _at(horizontal, line.value, frame.left, frame.right)
        left = at > (frame.left + frame.right) / 2
        return (
            f'<path class="rule" d="M{_n(at)} {_n(frame.top)}V{_n(frame.bottom)}"/>'
            f'<text class="name halo" x="{_n(at + (-5 if left else 5))}" y="{_n(frame.top - 6)}" '
            f'text-anchor="{"end" if left else "start"}">{escape(line.name)}</text>'
        )
    at = _at(vertical, line.value, frame.bottom, frame.top)
    return f'<path class="rule" d="M{_n(frame.left)} {_n(at)}H{_n(frame.right)}"/>'


def _series(series: Series, frame: _Frame, horizontal: Scale, vertical: Scale) -> str:
    places = [
        (
            m,
            _at(horizontal, m.x, frame.left, frame.right),
            _at(vertical, m.y, frame.bottom, frame.top),
        )
        for m in series.marks
        if horizontal.holds(m.x) and vertical.holds(m.y)
    ]
    parts = []
    if places and series.style in ("line", "both", "steps"):
        (_, x, y), *rest = places
        path = f"M{_n(x)} {_n(y)}"
        for _, to_x, to_y in rest:
            path += f"H{_n(to_x)}V{_n(to_y)}" if series.style == "steps" else ""
            path += "" if series.style == "steps" else f"L{_n(to_x)} {_n(to_y)}"
        parts.append(f'<path class="line" d="{path}"/>')
    if series.style != "line":
        kind = "dot open" if series.style == "open" else "dot"
        parts += [
            f'<circle class="{kind} mark" cx="{_n(x)}" cy="{_n(y)}" r="4.5">{_title(m.tip)}'
            "</circle>"
            for m, x, y in places
        ]
    faint = " faint" if series.faint else ""
    return f'<g class="s{series.colour}{faint}">{"".join(parts)}</g>'


def _at(scale: Scale, value: float, start: float, end: float) -> float:
    return start + (end - start) * scale.share(value)


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
