"""Charts: axes that hold what is shown, colours that can be read, files that stand alone."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chop.report.axes import Axis, number, scale_of
from chop.report.charts import Bar, Line, Mark, Series, bars, palette, parallel, plot, standalone

_NUMBERS = st.floats(-1e9, 1e9).map(lambda v: round(v, 6))
_SVG = "{http://www.w3.org/2000/svg}"


@given(st.lists(_NUMBERS, min_size=1, max_size=20), st.booleans(), st.booleans())
def test_an_axis_holds_its_values(values: list[float], log: bool, whole: bool) -> None:
    scale = scale_of(Axis("x", log=log, whole=whole), values, 6)
    for value in values:
        if scale.holds(value):
            # A thousandth of a pixel.
            assert -1e-6 <= scale.share(value) <= 1 + 1e-6
    ticks = [tick.value for tick in scale.ticks]
    assert ticks == sorted(ticks)
    assert len(ticks) >= 2
    for tick in scale.ticks:
        step = (ticks[-1] - ticks[0]) / len(ticks)
        assert abs(float(tick.text.replace(",", "")) - tick.value) <= 1e-3 * max(step, tick.value)
    assert scale.share(ticks[0]) == pytest.approx(0)
    assert scale.share(ticks[-1]) == pytest.approx(1)
    if whole and not log:
        assert all(tick == int(tick) for tick in ticks)


@pytest.mark.parametrize("size", [10.0**e for e in range(-6, 7)])
@pytest.mark.parametrize("high", [5.0, 9.0, 10.0, 11.5, 20.0, 31.0])
def test_a_tick_says_what_it_is(size: float, high: float) -> None:
    scale = scale_of(Axis("x"), [-3.0 * size, high * size], 6)
    for tick in scale.ticks:
        assert float(tick.text.replace(",", "")) == pytest.approx(tick.value, abs=1e-6 * size)


@given(_NUMBERS)
def test_a_number_is_written_to_four_digits(value: float) -> None:
    assert float(number(value).replace(",", "")) == pytest.approx(value, rel=6e-4)


def _luminance(colour: str) -> float:
    """Relative luminance, as WCAG 2.1 defines it."""
    found = []
    for i in (1, 3, 5):
        c = int(colour[i : i + 2], 16) / 255
        found.append(c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4)
    return 0.2126 * found[0] + 0.7152 * found[1] + 0.0722 * found[2]


@pytest.mark.parametrize("dark", [False, True])
def test_colours_can_be_read(dark: bool) -> None:
    colours = dict(re.findall(r"--(\w+):(#\w{6});", palette(dark)))
    assert len(colours) == 10

    def contrast(name: str) -> float:
        a, b = sorted((_luminance(colours[name]), _luminance(colours["paper"])))
        return (b + 0.05) / (a + 0.05)

    # WCAG AA: 4.5 for text; series are drawn as text too, in notes and links.
    for name in ("ink", "soft", "s0", "s1", "s2", "s3", "s4", "s5"):
        assert contrast(name) >= 4.5, name


def _plot(width: int) -> str:
    marks = tuple(Mark(x * 100.0, 90 + x % 7, (f"<{x}>", "y: & more")) for x in range(1, 40))
    series = [
        Series("a < b", marks, 0, "both"),
        Series("rings", marks[:5], 1, "open"),
        Series("front", marks[::9], 2, "steps"),
    ]
    bound = [Line("at least", 92.0), Line("budget", 700.0, "x")]
    axes = Axis("LUTs", log=True), Axis("accuracy", unit=" %")
    return plot("t & <t>", series, *axes, lines=bound, width=width)


def _parallel(width: int) -> str:
    axes = [(Axis("width"), ("2", "4")), (Axis("LUTs"), ())]
    threads = [((i % 2, 100.0 * i), (f"trial {i}",), 0, i == 3) for i in range(8)]
    return parallel("threads", axes, threads, width=width)


def _bars(width: int) -> str:
    rows = [Bar("a_long_name_" * 4, 3.0, "3"), Bar("b & c", 0.0, "0"), Bar("c", 9.5, "9.5")]
    return bars("bars", rows, Axis("cycles"), lines=[Line("interval", 8, "x")], width=width)


@pytest.mark.parametrize("width", [344, 560, 1060])
@pytest.mark.parametrize("draw", [_plot, _parallel, _bars])
def test_a_chart_stays_in_its_frame(draw: object, width: int) -> None:
    assert callable(draw)
    svg = draw(width)
    assert svg == draw(width)
    root = ET.fromstring(svg)
    height = float(root.attrib["height"])
    assert float(root.attrib["width"]) == width
    for e in root.iter():
        for x, y in (("x", "y"), ("cx", "cy")):
            if x in e.attrib:
                assert 0 <= float(e.attrib[x]) <= width
                assert 0 <= float(e.attrib[y]) <= height
    for text in root.iter(f"{_SVG}text"):
        # Counted in narrow characters: an estimate, as the drawing's own.
        wide, at = 5.5 * len(text.text or ""), float(text.attrib["x"])
        anchor = text.get("text-anchor", "start")
        left = at - {"end": wide, "middle": wide / 2, "start": 0.0}[anchor]
        assert left >= -6, text.text
        assert left + wide <= width + 6, text.text
    xs = [
        float(v)
        for p in root.iter(f"{_SVG}path")
        for v in re.findall(r"[ML]([\d.-]+) ", p.attrib["d"])
    ]
    assert all(0 <= x <= width for x in xs)


def test_marks_say_what_they_are() -> None:
    root = ET.fromstring(_plot(560))
    dots = [e for e in root.iter(f"{_SVG}circle") if "mark" in e.attrib["class"]]
    assert len(dots) == 39 + 5 + 5
    assert dots[0].findtext(f"{_SVG}title") == "<1>\ny: & more"


def test_a_file_brings_its_colours() -> None:
    text = standalone(_plot(560))
    root = ET.fromstring(text)
    style = root.findtext(f"{_SVG}style") or ""
    used = set(re.findall(r"var\(--(\w+)\)", style + text)) - {"c"}
    defined = set(re.findall(r"--(\w+):#", style))
    assert used <= defined
    assert "prefers-color-scheme:dark" in style
