"""The kinds of requantiser as integer programs."""

from __future__ import annotations

import numpy as np

from chop.errors import FormatError
from chop.formats.requantisers import (
    Multiply,
    MxIntBlocks,
    Requantiser,
    Shift,
    Table,
    Thresholds,
)
from chop.formats.rounding import MAX_BITS, Ints
from chop.integer.record import Value

__all__ = ["requantised"]


def requantised(x: Value, requantiser: Requantiser) -> Value:
    """Returns the levels that the requantiser gives the integers of its source."""
    match requantiser:
        case Shift():
            return _shifted(x, requantiser)
        case Multiply(_, _, shift, rounding, low, high):
            multipliers, offsets = requantiser.constants()
            product = x * multipliers + offsets
            return product.shift_right(shift, rounding).clip(low, high)
        case Thresholds(_, _, trailing):
            return _compared(x, *requantiser.constants(), trailing)
        case Table(first, _):
            return x.lookup(requantiser.constants(), first)
        case MxIntBlocks():
            return _in_blocks(x, requantiser)


def _shifted(x: Value, by: Shift) -> Value:
    if by.shift >= 0:
        return x.shift_right(by.shift, by.rounding).clip(by.low, by.high)
    # What saturates must not be shifted first: it could leave int64.
    left = -by.shift
    low, high = -(-by.low >> left), by.high >> left
    result = x.clip(low, high)
    if low or high:
        result = result.shift_left(left)
    if low << left != by.low:
        result = (x - low).where_nonnegative(result, by.low)
    return (x - (high + 1)).where_nonnegative(by.high, result)


def _compared(x: Value, thresholds: Ints, levels: Ints, trailing: int) -> Value:
    first = int(levels[0])
    if len(levels) == 1:
        return x * 0 + first
    count = x.count_reached(thresholds, trailing)
    if (np.diff(levels) == 1).all():
        return count + first
    return count.lookup(levels, 0)


def _in_blocks(x: Value, by: MxIntBlocks) -> Value:
    """The block's exponent is where its largest magnitude has its leading one."""
    format, fraction, width = by.format, by.source.frac_width, by.format.width
    top = (1 << (width - 1)) - 1
    largest = x.absolute().block_maximum(format.block_size)
    exponent = (largest.bit_length() - (1 + fraction)).clip(format.lowest, format.highest)
    shift = exponent + (fraction - (width - 2))
    if shift.high > MAX_BITS and x.magnitude >> (MAX_BITS - 1):
        raise FormatError(f"{format}: integers of {MAX_BITS} bits cannot be cast to blocks")
    # Beyond these amounts nothing, or nothing but the saturated, is left.
    right, left = shift.clip(0, MAX_BITS), (-shift).clip(0, width - 1)
    mantissa = x.shift_right(right, by.rounding).clip(-top, top).shift_left(left).clip(-top, top)
    return mantissa.shift_left(exponent - format.lowest)
