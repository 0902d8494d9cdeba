"""Requantisation by a power of two, as an integer program."""

from __future__ import annotations

from chop.formats.fixed import Fixed
from chop.formats.rounding import MAX_BITS, Rounding
from chop.integer.record import Value

__all__ = ["requantised_by_shift"]


def requantised_by_shift(x: Value, source: Fixed, target: Fixed, rounding: Rounding) -> Value:
    """Returns levels of `source` rounded and saturated to levels of `target`."""
    shift = source.frac_width - target.frac_width
    if shift >= 0:
        return x.shift_right(shift, rounding).clip(target.low, target.high)
    # What saturates must not be shifted first: it could leave int64.
    low, high = -(-target.low >> -shift), target.high >> -shift
    result = x.clip(low, high).shift_left(min(-shift, MAX_BITS - 1) if low or high else 0)
    if low << -shift != target.low:
        result = (x - low).where_nonnegative(result, target.low)
    return (x - (high + 1)).where_nonnegative(target.high, result)
