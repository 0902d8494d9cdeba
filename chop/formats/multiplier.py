"""The smallest integers that compute a rational line exactly: floor(g A + h) as (A M + B) >> s."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chop.formats.floors import Line, largest_weighted_floor, same_floors
from chop.formats.rounding import MAX_BITS

__all__ = ["Affine", "Span", "affine_for", "is_exact"]


@dataclass(frozen=True, slots=True)
class Span:
    """What must agree: integers low <= A <= high, results clipped to lowest..highest."""

    low: int
    high: int
    lowest: int
    highest: int


@dataclass(frozen=True, slots=True)
class Affine:
    """(A * multipliers[c] + offsets[c]) >> shift, channel by channel."""

    multipliers: tuple[int, ...]
    offsets: tuple[int, ...]
    shift: int


@dataclass(frozen=True, slots=True)
class _Channel:
    """The inequalities on (M, B) of one channel.

    The line must be met on first <= A <= last; `below` is the last A whose result is `lowest`,
    `above` the first whose result is `highest`: beyond them the clip does the rest, since M >= 0.
    Either is None where the span does not reach it.
    """

    line: Line
    span: Span
    first: int
    last: int
    below: int | None
    above: int | None

    @staticmethod
    def of(line: Line, span: Span) -> _Channel:
        start, end = line.reaches(span.lowest + 1), line.reaches(span.highest)
        return _Channel(
            line,
            span,
            max(start, span.low),
            min(end - 1, span.high),
            min(start - 1, span.high) if start > span.low else None,
            max(end, span.low) if end <= span.high else None,
        )

    @property
    def constant(self) -> int | None:
        """The only result, where there is one."""
        if self.below == self.span.high:
            return self.span.lowest
        return self.span.highest if self.above == self.span.low else None

    def offsets(self, multiplier: int, shift: int) -> tuple[int, int]:
        """Returns the smallest and the largest B that this M allows; none where they cross."""
        step = 1 << shift
        least, most = [], []
        if self.first <= self.last:
            core = (self.line, self.first, self.last)
            least.append(largest_weighted_floor(*core, -multiplier, step))
            most.append(largest_weighted_floor(*core, multiplier, -step))
        if self.above is not None:
            least.append(self.span.highest * step - multiplier * self.above)
        if self.below is not None:
            most.append(multiplier * self.below - self.span.lowest * step)
        return max(least), step - 1 - max(most)

    def multiplier(self, shift: int) -> int | None:
        """Returns an M for which there is a B, or None where there is none at this shift.

        The room for B is a concave function of M (what the upper inequalities leave less what the
        lower ones need), so from the nearest integer to g * 2^shift it is climbed to its top.
        """

        def room(m: int) -> int:
            least, most = self.offsets(m, shift)
            return most - least

        line = self.line
        start = (2 * line.slope * (1 << shift) + line.divisor) // (2 * line.divisor)
        here = room(start)
        if here >= 0:
            return start
        up = room(start + 1) > here
        if not up and (start == 0 or room(start - 1) <= here):
            return None
        sign, inside, stride = (1 if up else -1), 0, 1

        def climbs(steps: int) -> bool:
            m = start + sign * steps
            return m + sign >= 0 and room(m + sign) > room(m)

        # Without results between the ends there is no top, but then there is room before long.
        while climbs(stride) and room(start + sign * stride) < 0:
            inside, stride = stride, 2 * stride
        # Climbing at `inside`, at the top or with room at `stride`.
        while stride - inside > 1 and room(start + sign * stride) < 0:
            middle = (inside + stride) // 2
            inside, stride = (middle, stride) if climbs(middle) else (inside, middle)
        top = start + sign * stride
        return top if top >= 0 and room(top) >= 0 else None


def affine_for(lines: Sequence[Line], span: Span) -> Affine | None:
    """Returns multipliers and offsets at the smallest shift that all channels share.

    (A M + B) >> shift, clipped, is line.at(A), clipped, for every A of the span: there is no
    smaller shift with integers M >= 0 and B for every line. None where a product would need more
    than 62 bits. Lines rise: their slopes are not 0.
    """
    channels = [_Channel.of(line, span) for line in dict.fromkeys(lines)]
    active = [c for c in channels if c.constant is None]
    largest = max(abs(span.low), abs(span.high))
    shift = 0
    for channel in active:
        # M, B at one shift are 2M, 2B at the next: what is feasible stays so.
        while channel.multiplier(shift) is None:
            shift += 1
            if (channel.line.slope * largest << shift) // channel.line.divisor >> MAX_BITS:
                return None
    found = {channel.line: _solution(channel, shift) for channel in channels}
    if any(abs(m) * largest + abs(b) >= 1 << MAX_BITS for m, b in found.values()):
        return None
    pairs = [found[line] for line in lines]
    return Affine(tuple(m for m, _ in pairs), tuple(b for _, b in pairs), shift)


def _solution(channel: _Channel, shift: int) -> tuple[int, int]:
    if channel.constant is not None:
        return 0, channel.constant << shift
    multiplier = channel.multiplier(shift)
    assert multiplier is not None
    least, most = channel.offsets(multiplier, shift)
    # The offset with the most zeros at its end: the fewest bits where it is wired in.
    zeros = (most - least).bit_length()
    while (most >> zeros) << zeros < least:
        zeros -= 1
    return multiplier, (most >> zeros) << zeros


def is_exact(line: Line, span: Span, multiplier: int, offset: int, shift: int) -> bool:
    """Returns whether (A M + B) >> shift, clipped, is line.at(A), clipped, for every A of the span.

    The check shares no step with the search: sums of floors, not largest ones. Where both are
    between the limits they are compared at every A; the two A beside that range show that the clip
    hides the rest, as both functions rise.
    """
    if multiplier < 0:
        return False
    channel, found = _Channel.of(line, span), Line(multiplier, offset, 1 << shift)
    return (
        (channel.below is None or found.at(channel.below) <= span.lowest)
        and (channel.above is None or found.at(channel.above) >= span.highest)
        and same_floors(line, found, channel.first, channel.last)
    )
