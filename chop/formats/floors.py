"""Exact questions about floor((slope * x + offset) / divisor) on a range of integers.

All answers take a number of steps logarithmic in the divisor (Euclid's algorithm on slope and
divisor), whatever the length of the range, in Python's integers.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Line", "floor_sum", "largest_weighted_floor", "same_floors"]


@dataclass(frozen=True, slots=True)
class Line:
    """The function floor((slope * x + offset) / divisor) of integers x; slope >= 0, divisor > 0."""

    slope: int
    offset: int
    divisor: int

    def at(self, x: int) -> int:
        return (self.slope * x + self.offset) // self.divisor

    def reaches(self, level: int) -> int:
        """Returns the smallest x at which the function is at least `level`; the slope is not 0."""
        return -((self.offset - level * self.divisor) // self.slope)


def largest_weighted_floor(
    line: Line, first: int, last: int, x_weight: int, floor_weight: int
) -> int:
    """Returns the largest x_weight * x + floor_weight * line.at(x) over first <= x <= last.

    Where the weights pull apart, a largest value lies at an end or where the floor jumps; the jumps
    are the floors of the inverse line, so the question repeats with slope and divisor exchanged.
    """
    slope, divisor = line.slope, line.divisor
    offset = slope * first + line.offset
    count = last - first
    best: int | None = None
    base = x_weight * first
    while True:
        base += floor_weight * (offset // divisor)
        offset %= divisor
        x_weight += floor_weight * (slope // divisor)
        slope %= divisor
        top = (slope * count + offset) // divisor
        found = max(base, base + x_weight * count + floor_weight * top)
        best = found if best is None else max(best, found)
        if top == 0 or (x_weight >= 0) == (floor_weight >= 0):
            return best
        if x_weight < 0:
            # Jump y is at x = 1 + floor((divisor * (y - 1) + divisor - offset - 1) / slope).
            base += x_weight + floor_weight
        count = top - 1
        offset = divisor - offset - 1
        slope, divisor = divisor, slope
        x_weight, floor_weight = floor_weight, x_weight


def floor_sum(line: Line, first: int, last: int) -> int:
    """Returns the sum of line.at(x) over first <= x <= last; 0 for an empty range."""
    count = last - first + 1
    slope, offset, divisor = line.slope, line.slope * first + line.offset, line.divisor
    total = 0
    while count > 0:
        total += (slope // divisor) * (count * (count - 1) // 2) + (offset // divisor) * count
        slope, offset = slope % divisor, offset % divisor
        top = slope * count + offset
        # Columns become rows: the lattice points below the line, counted the other way.
        count, offset = top // divisor, top % divisor
        slope, divisor = divisor, slope
    return total


def same_floors(a: Line, b: Line, first: int, last: int) -> bool:
    """Returns whether the two functions are equal at every x with first <= x <= last.

    Where one line is nowhere below the other, its floors are nowhere smaller, and they are all
    equal if their sums are. Two lines cross at most once, so there are at most two such parts.
    """
    rise = a.slope * b.divisor - b.slope * a.divisor
    gap = a.offset * b.divisor - b.offset * a.divisor
    # a >= b from `middle` on (or before it, where a rises less).
    middle = first if rise == 0 else min(max(-(gap // rise), first), last + 1)
    parts = ((first, middle - 1), (middle, last))
    return all(floor_sum(a, *part) == floor_sum(b, *part) for part in parts)
