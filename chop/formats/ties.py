"""Rounding to the nearest integer as one floor, where ties allow it."""

from __future__ import annotations

from fractions import Fraction
from math import gcd

from chop.formats.floors import Line
from chop.formats.multiplier import Span
from chop.formats.rounding import Rounding

__all__ = ["nearest_line"]


def nearest_line(gain: Fraction, offset: Fraction, rounding: Rounding, span: Span) -> Line | None:
    """Returns the line whose floor is gain * A + offset, rounded, for every A of the span.

    Half up is floor(x + 1/2), half down floor of just under it. Half even is either where all ties
    between levels of the span go the same way, and no line (None) where they go both ways: three
    points on a line would have to be below, above and below it.
    """
    p, q = gain.numerator * offset.denominator, gain.denominator * offset.denominator
    r = offset.numerator * gain.denominator
    if rounding is Rounding.FLOOR:
        return _reduced(p, r, q)
    # x + 1/2 = (2p A + 2r + q) / 2q: a tie where that is an integer, and rounds to it if even.
    up = Line(2 * p, 2 * r + q, 2 * q)
    if rounding is Rounding.HALF_UP:
        return _reduced(up.slope, up.offset, up.divisor)
    ways = _ways(up, span)
    if len(ways) > 1:
        return None
    down = False in ways
    return _reduced(up.slope, up.offset - down, up.divisor)


def _reduced(slope: int, offset: int, divisor: int) -> Line:
    """Returns the same function with smaller numbers."""
    common = gcd(slope, divisor)
    return Line(slope // common, offset // common, divisor // common)


def _ways(line: Line, span: Span) -> set[bool]:
    """Returns which ways ties go at levels lowest + 1..highest: True up (to an even integer)."""
    first = max(span.low, line.reaches(span.lowest + 1))
    last = min(span.high, line.reaches(span.highest + 1) - 1)
    # slope * A = -offset modulo divisor.
    common = gcd(line.slope, line.divisor)
    if line.offset % common:
        return set()
    step = line.divisor // common
    start = -line.offset // common * pow(line.slope // common, -1, step) % step
    tie = first + (start - first) % step
    # Ties are equally far apart, and so are their integers: the second pair tells of all.
    ties = [a for a in (tie, tie + step) if a <= last]
    return {line.at(a) % 2 == 0 for a in ties}
