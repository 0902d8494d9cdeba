"""A sum of two tensors of different scales, rounded once: floor of a plane as two multipliers.

Y = clip(round(g1 X1 + g2 X2)), in steps of the result, for exact fractions g1 and g2, is computed
as clip((M1 X1 + M2 X2 + B) >> s).

With integers n1, n2, h and D such that the rounding is floor((n1 X1 + n2 X2 + h) / D), the sum is
at least 1/D below the next integer. So every approximation that is never below it and less than 1/D
above it has its floor: M = round(g 2^s) is off by at most (|X1| + |X2|) / 2^(s+1), B moves that to
one side, and s with 2^s >= D (|X1| + |X2| + 1) will do. Where the pairs (X1, X2) are few, the
smallest s that does is found by trying all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm

import numpy as np

from chop.errors import FormatError
from chop.formats.base import Format
from chop.formats.requantise import Source
from chop.formats.rounding import MAX_BITS, Rounding

__all__ = ["FusedSum", "fused_sum"]

# Pairs of integers beyond which they are not tried one by one.
_MOST_PAIRS = 1 << 18


@dataclass(frozen=True, slots=True)
class FusedSum:
    """clip(round((X1 * multipliers[0] + X2 * multipliers[1] + offset) * 2^-shift), low, high)."""

    multipliers: tuple[int, int]
    offset: int
    shift: int
    rounding: Rounding
    low: int
    high: int
    proof: str

    @property
    def kind(self) -> str:
        return "fused sum"


@dataclass(frozen=True, slots=True)
class _Plane:
    """floor((slopes[0] X1 + slopes[1] X2 + offset) / divisor)."""

    slopes: tuple[int, int]
    offset: int
    divisor: int


def fused_sum(a: Source, b: Source, subtract: bool, format: Format, rounding: Rounding) -> FusedSum:
    """Returns the integers of a + b (a - b) in the format, proven for every pair.

    Raises FormatError for a format whose levels are not evenly spaced, for scales per channel, for
    ties to even, and where a product would need more than 62 bits.
    """
    if format.levels() is not None or type(format).encode is not Format.encode:
        raise FormatError(
            f"{format}: a sum needs evenly spaced levels; cast the sum's result to it"
        )
    gains = (_gain(a, format), _gain(b, format) * (-1 if subtract else 1))
    divisor = lcm(2, *(g.denominator for g in gains))
    slopes = (int(gains[0] * divisor), int(gains[1] * divisor))
    if divisor & (divisor - 1) == 0:
        shift = divisor.bit_length() - 1
        proof = f"both gains are integers times 2^-{shift}: the sum is exact, then rounded"
        return _checked(FusedSum(slopes, 0, shift, rounding, format.low, format.high, proof), a, b)
    half = 0 if rounding is Rounding.FLOOR else divisor // 2
    if rounding is Rounding.HALF_EVEN and half % gcd(*slopes, divisor) == 0:
        raise FormatError(
            f"sums of scales {a.scale or 'x1'} and {b.scale or 'x1'} can lie midway between levels "
            f"of {format}, where half_even is no shift; round half_up"
        )
    plane = _Plane(slopes, half, divisor)
    return _checked(_tried(plane, a, b, format) or _bounded(plane, a, b, format), a, b)


def _gain(source: Source, format: Format) -> Fraction:
    step = Fraction(2) ** (format.held().frac_width - source.carrier.frac_width)
    for scale, inverse in ((source.scale, False), (format.scale, True)):
        if scale is None:
            continue
        if scale.per_channel:
            raise FormatError("a sum takes one scale for all channels; give it a data_in format")
        step = step / scale.factors[0] if inverse else step * scale.factors[0]
    return step


def _magnitude(source: Source) -> int:
    return max(abs(source.low), abs(source.high))


def _scaled(slope: int, divisor: int, shift: int) -> int:
    """Returns slope / divisor * 2^shift rounded to the nearest integer."""
    return (2 * (slope << shift) + divisor) // (2 * divisor)


def _bounded(plane: _Plane, a: Source, b: Source, format: Format) -> FusedSum:
    """By the bound on the error alone."""
    reach = _magnitude(a) + _magnitude(b)
    shift = (plane.divisor * (reach + 1) - 1).bit_length()
    m, n = (_scaled(slope, plane.divisor, shift) for slope in plane.slopes)
    # The offset, and half of the largest error, rounded up.
    offset = -(-(2 * (plane.offset << shift) + reach * plane.divisor) // (2 * plane.divisor))
    proof = (
        f"(X1 M1 + X2 M2 + B) >> {shift} is never below the sum and less than 1/{plane.divisor} "
        "above it, which is the least distance to the next boundary"
    )
    return FusedSum((m, n), offset, shift, Rounding.FLOOR, format.low, format.high, proof)


def _tried(plane: _Plane, a: Source, b: Source, format: Format) -> FusedSum | None:
    """The smallest shift with which the nearest multipliers are right for every pair, if any."""
    pairs = (a.high - a.low + 1) * (b.high - b.low + 1)
    bound = sum(abs(slope) * _magnitude(x) for slope, x in zip(plane.slopes, (a, b), strict=True))
    if pairs > _MOST_PAIRS or bound + plane.divisor >= 1 << MAX_BITS:
        return None
    x1 = np.arange(a.low, a.high + 1, dtype=np.int64)[:, np.newaxis]
    x2 = np.arange(b.low, b.high + 1, dtype=np.int64)
    exact = (x1 * plane.slopes[0] + x2 * plane.slopes[1] + plane.offset) // plane.divisor
    levels = np.clip(exact, format.low, format.high)
    above, below = levels > format.low, levels < format.high
    last = (plane.divisor * (_magnitude(a) + _magnitude(b) + 1)).bit_length()
    for shift in range(last):
        m, n = (_scaled(slope, plane.divisor, shift) for slope in plane.slopes)
        most = abs(m) * _magnitude(a) + abs(n) * _magnitude(b)
        if most + (max(abs(format.low), format.high) + 2 << shift) >= 1 << MAX_BITS:
            return None
        rest = (levels << np.int64(shift)) - (x1 * m + x2 * n)
        least = int(rest[above].max()) if above.any() else None
        largest = int(rest[below].min()) + (1 << shift) - 1 if below.any() else None
        if least is not None and largest is not None and least > largest:
            continue
        proof = f"(X1 M1 + X2 M2 + B) >> {shift} compared with the sum for all {pairs} pairs"
        offset = _roundest(least, largest)
        return FusedSum((m, n), offset, shift, Rounding.FLOOR, format.low, format.high, proof)
    return None


def _roundest(least: int | None, most: int | None) -> int:
    """Returns an integer between the two with many zeros at its end."""
    if least is None or most is None:
        return most if least is None and most is not None else least or 0
    zeros = (most - least).bit_length()
    while (most >> zeros) << zeros < least:
        zeros -= 1
    return (most >> zeros) << zeros


def _checked(found: FusedSum, a: Source, b: Source) -> FusedSum:
    m, n = found.multipliers
    most = abs(m) * _magnitude(a) + abs(n) * _magnitude(b) + abs(found.offset)
    if most + ((1 << found.shift) >> 1) >= 1 << MAX_BITS:
        raise FormatError(
            f"a sum of scales {a.scale or 'x1'} and {b.scale or 'x1'} needs products of more than "
            f"{MAX_BITS} bits; cast both to one format first (data_in), or to fewer bits"
        )
    return found
