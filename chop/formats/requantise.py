"""From the integers of one tensor to the levels of another format: exact requantisers.

An integer A of channel c stands for g_c A + h_c in steps of the target's carrier, g_c an exact
fraction; its level is the one that `Format.boundaries` gives it. A requantiser computes that level
for every A that can occur, in one of four ways, and says how this was proven:

* shift: g is one power of two for all channels; rounding and saturation are all there is;
* multiply: clip((A M_c + B_c) >> s), with the smallest s for which there are such integers;
* thresholds: the level after #{k : A >= t_ck}, t_ck the smallest integer at the k-th boundary;
* table: a level for every A.

Block formats have no static boundaries: their requantiser (mxint) is the format's own definition.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from typing import Literal

import numpy as np

from chop.errors import FormatError
from chop.formats.base import Format
from chop.formats.fixed import Fixed
from chop.formats.floors import Line
from chop.formats.multiplier import Span, affine_for, is_exact
from chop.formats.requantisers import Multiply, MxIntBlocks, Requantiser, Shift, Table, Thresholds
from chop.formats.rounding import Ints, Rounding
from chop.formats.scale import Scale
from chop.formats.ties import nearest_line

__all__ = ["Kind", "Source", "apply", "requantiser_of"]

Kind = Literal["shift", "multiply", "thresholds", "table", "mxint"]

# Beyond these a set of comparators, or a table, is not worth its search.
_MOST_THRESHOLDS = 1 << 10
_MOST_TABLE_BITS = 12


@dataclass(frozen=True, slots=True)
class Source:
    """The integers to be requantised: low <= A <= high, worth 2^-carrier.frac_width * scale each.

    `offsets` are added, in steps of the target: none, one for all channels, or one per channel.
    """

    low: int
    high: int
    carrier: Fixed
    scale: Scale | None = None
    offsets: tuple[Fraction, ...] = ()


@dataclass(frozen=True, slots=True)
class _Channel:
    """x = gain * A + offset, in steps of the target."""

    gain: Fraction
    offset: Fraction


def apply(values: Ints, requantiser: Requantiser) -> Ints:
    """Returns the levels of int64 values [N, *shape] within the requantiser's range."""
    return requantiser.apply(values)


@cache
def requantiser_of(
    source: Source, format: Format, rounding: Rounding, prefer: Kind | None = None
) -> Requantiser:
    """Returns the cheapest exact requantiser, or the cheapest of the preferred kind.

    Raises FormatError where there is none: a target with a scale per channel, products beyond 62
    bits, ties to even that no multiplication can follow.
    """
    if format.kind == "mxint":
        return _mxint(source, format, rounding)
    if format.scale is not None and format.scale.per_channel:
        raise FormatError(f"{format}: a tensor between layers has one scale; calibrate it as one")
    channels = _channels(source, format)
    makers: dict[Kind, Callable[[], Requantiser | None]] = {
        "shift": lambda: _shift(source, format, rounding, channels),
        "multiply": lambda: _multiply(source, format, rounding, channels),
        "thresholds": lambda: _thresholds(source, format, rounding, channels),
        "table": lambda: _table(source, format, rounding, channels),
    }
    if prefer is None:
        found = makers["shift"]()
        if found is not None:
            return found
    kinds = [prefer] if prefer is not None else list(makers)
    made = [r for kind in kinds if kind in makers and (r := makers[kind]()) is not None]
    if not made:
        kind = f" of kind {prefer}" if prefer else ""
        even = rounding is Rounding.HALF_EVEN
        ties = ", and ties to even on both sides cannot be multiplied" if even else ""
        remedy = "round half_up, or use a narrower format" if even else "use a narrower format"
        raise FormatError(
            f"{format}: no exact requantiser{kind} for integers {source.low}..{source.high} with "
            f"{rounding}: products must fit 62 bits{ties}; {remedy} before (data_in of the nodes "
            "that give these integers)"
        )
    width = source.carrier.width
    return min(made, key=lambda r: r.cost(width, format.held().width).total)


def _channels(source: Source, format: Format) -> tuple[_Channel, ...]:
    factors = source.scale.factors if source.scale else (Fraction(1),)
    step = Fraction(2) ** (format.held().frac_width - source.carrier.frac_width)
    if format.scale is not None:
        step /= format.scale.factors[0]
    offsets = source.offsets or (Fraction(0),)
    count = max(len(factors), len(offsets))
    if {len(factors), len(offsets)} - {1, count}:
        raise FormatError(f"{len(factors)} scales and {len(offsets)} offsets do not match")
    pairs = zip(factors * (count // len(factors)), offsets * (count // len(offsets)), strict=True)
    return tuple(_Channel(f * step, h) for f, h in pairs)


def _trailing(source: Source) -> int:
    return source.scale.trailing if source.scale else 0


def _levels(format: Format) -> tuple[int, ...] | None:
    listed = format.levels()
    return None if listed is None else tuple(listed.tolist())


def _shift(
    source: Source, format: Format, rounding: Rounding, channels: Sequence[_Channel]
) -> Shift | None:
    first = channels[0]
    exponent = first.gain.denominator.bit_length() - first.gain.numerator.bit_length()
    if (
        any(channel != first for channel in channels)
        or first.offset != 0
        or first.gain != Fraction(1, 2) ** exponent
        or _levels(format) is not None
    ):
        return None
    proof = f"g = 2^{-exponent} for all channels: the shift is the definition"
    return Shift(exponent, rounding, format.low, format.high, proof)


def _multiply(
    source: Source, format: Format, rounding: Rounding, channels: Sequence[_Channel]
) -> Multiply | None:
    if _levels(format) is not None:
        return None
    span = Span(source.low, source.high, format.low, format.high)
    found = [nearest_line(c.gain, c.offset, rounding, span) for c in channels]
    lines = [line for line in found if line is not None]
    if len(lines) < len(found):
        return _dyadic(source, format, rounding, channels)
    affine = affine_for(lines, span)
    if affine is None:
        return None
    rows = zip(lines, affine.multipliers, affine.offsets, strict=True)
    # One channel's line stands for all that are equal.
    wrong = [
        row for row in dict.fromkeys(rows) if not is_exact(row[0], span, *row[1:], affine.shift)
    ]
    if wrong:
        raise AssertionError(f"a multiplier found is not exact: {wrong[0]}")
    proof = (
        f"(A M + B) >> {affine.shift} proven for {_reached(span, lines)} levels of {len(lines)} "
        f"channels, every A in {span.low}..{span.high}; smallest shift"
    )
    return _per_channel(
        Multiply(
            affine.multipliers, affine.offsets, affine.shift, Rounding.FLOOR,
            format.low, format.high, _trailing(source), proof,
        )
    )  # fmt: skip


def _dyadic(
    source: Source, format: Format, rounding: Rounding, channels: Sequence[_Channel]
) -> Multiply | None:
    """Ties to even on both sides: exact where every g and h has a power of two below."""
    below = [d for c in channels for d in (c.gain.denominator, c.offset.denominator)]
    shift = max(below).bit_length() - 1
    if any(d & (d - 1) for d in below) or shift == 0:
        return None
    pairs = [(int(c.gain * 2**shift), int(c.offset * 2**shift)) for c in channels]
    most = max(abs(source.low), abs(source.high))
    if any(abs(m) * most + abs(b) >= 1 << 61 for m, b in pairs):
        return None
    proof = f"g 2^{shift} is an integer for every channel: the product is exact, then rounded"
    multipliers, offsets = zip(*pairs, strict=True)
    return _per_channel(
        Multiply(
            multipliers, offsets, shift, rounding,
            format.low, format.high, _trailing(source), proof,
        )
    )  # fmt: skip


def _reached(span: Span, lines: Sequence[Line]) -> int:
    """Returns how many boundaries of all channels lie within the span."""
    ends = ((line.at(span.low), line.at(span.high)) for line in lines)
    return sum(max(min(last, span.highest) - max(first, span.lowest), 0) for first, last in ends)


def _per_channel(found: Multiply) -> Multiply:
    """Returns one row where all channels have the same."""
    if len(set(zip(found.multipliers, found.offsets, strict=True))) > 1:
        return found
    return replace(found, multipliers=found.multipliers[:1], offsets=found.offsets[:1])


def _thresholds(
    source: Source, format: Format, rounding: Rounding, channels: Sequence[_Channel]
) -> Thresholds | None:
    levels = _levels(format)
    count = len(levels) if levels is not None else format.high - format.low + 1
    if count - 1 > _MOST_THRESHOLDS:
        return None
    if levels is None:
        levels = tuple(range(format.low, format.high + 1))
    rows = {c: _row(source, format, rounding, c) for c in dict.fromkeys(channels)}
    # What no channel can miss, and what none can reach, needs no comparator.
    # A comparison is left where the result is constant: the hardware of none is not built.
    missed = min(min(bisect_right(row, source.low) for row in rows.values()), len(levels) - 2)
    reached = max(max(bisect_right(row, source.high) for row in rows.values()), missed + 1)
    table = tuple(rows[c][missed:reached] for c in channels)
    if len(rows) == 1:
        table = table[:1]
    proof = (
        f"{sum(map(len, table))} thresholds computed from the boundaries of {len(channels)} "
        f"channels, every A in {source.low}..{source.high}"
    )
    return Thresholds(table, levels[missed : reached + 1], _trailing(source), proof)


def _row(source: Source, format: Format, rounding: Rounding, channel: _Channel) -> tuple[int, ...]:
    """Returns the smallest A at or after every boundary, within low..high + 1."""
    g, h = channel.gain, channel.offset
    found = []
    for boundary in format.boundaries(rounding):
        # (at - h) / g = above / below, below > 0.
        above = boundary.at.numerator * h.denominator - h.numerator * boundary.at.denominator
        above *= g.denominator
        below = boundary.at.denominator * h.denominator * g.numerator
        first = -(-above // below) if boundary.inclusive else above // below + 1
        found.append(min(max(first, source.low), source.high + 1))
    return tuple(found)


def _table(
    source: Source, format: Format, rounding: Rounding, channels: Sequence[_Channel]
) -> Table | None:
    carrier = source.carrier
    if len(set(channels)) > 1 or carrier.width > _MOST_TABLE_BITS:
        return None
    exact = _multiply if _levels(format) is None else _thresholds
    definition = exact(source, format, rounding, channels[:1])
    if definition is None:
        return None
    integers = np.arange(carrier.low, carrier.high + 1, dtype=np.int64)
    # What cannot occur may be anything; the nearest that can keeps the table monotone.
    levels = definition.apply(np.clip(integers, source.low, source.high))
    proof = f"a level for each of {len(levels)} codes, every A in {source.low}..{source.high}"
    return Table(carrier.low, tuple(levels.tolist()), proof)


def _mxint(source: Source, format: Format, rounding: Rounding) -> MxIntBlocks:
    from chop.formats.mxint import MxInt

    assert isinstance(format, MxInt)
    factors = source.scale.factors if source.scale else (Fraction(1),)
    (factor, *others) = dict.fromkeys(factors)
    exponent = factor.numerator.bit_length() - factor.denominator.bit_length()
    if others or factor != Fraction(2) ** exponent or any(source.offsets):
        raise FormatError(
            f"{format}: only a scale of one power of two can be cast to blocks exactly, got "
            f"{source.scale}; cast to fixed point first"
        )
    carrier = Fixed(
        source.carrier.width, source.carrier.frac_width - exponent, source.carrier.signed
    )
    return MxIntBlocks(format, carrier, rounding, "the definition: exponents by the leading one")
