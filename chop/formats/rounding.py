"""The one rounding function, and exact integer arithmetic on int64 arrays."""

from __future__ import annotations

from enum import StrEnum

import numpy as np
import numpy.typing as npt

from chop.errors import FormatError

__all__ = [
    "MAX_BITS",
    "Ints",
    "Rounding",
    "exact_matmul",
    "round_half",
    "shift_left",
    "shift_right",
    "shift_right_by",
]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# Products of two carriers, and sums of them, must stay inside int64.
MAX_BITS = 62
# Largest magnitude below which every integer is a float64.
FLOAT64_EXACT = 1 << 53


class Rounding(StrEnum):
    """How a value between two levels finds its level; the same in Python and SystemVerilog."""

    HALF_UP = "half_up"
    FLOOR = "floor"
    HALF_EVEN = "half_even"

    @property
    def code(self) -> int:
        """The value of the RTL parameter `Rounding`."""
        return list(Rounding).index(self)


def shift_right(values: Ints, shift: int, rounding: Rounding) -> Ints:
    """Returns values * 2^-shift, rounded to an integer; a negative shift is an exact left shift.

    Values are of at most 62 bits. Raises FormatError where a left shift does not fit 62 bits.
    """
    if shift <= 0:
        return shift_left(values, -shift)
    # Every value of 62 bits is within a quarter of zero from here on.
    return shift_right_by(values, np.int64(min(shift, 63)), rounding)


def shift_right_by(values: Ints, amounts: Ints | np.int64, rounding: Rounding) -> Ints:
    """Returns values * 2^-amounts, rounded to integers; the amounts, in 0..63, may vary.

    Values are of at most 62 bits.
    """
    floor: Ints = values >> amounts
    if rounding is Rounding.FLOOR:
        return floor
    rest = values - (floor << amounts)
    half = np.int64(1) << np.maximum(amounts - 1, 0)
    up = rest >= half
    if rounding is Rounding.HALF_EVEN:
        up = (rest > half) | (up & (floor & 1 == 1))
    rounded: Ints = floor + (up & (amounts > 0))
    return rounded


def shift_left(values: Ints, shift: int) -> Ints:
    """Returns values * 2^shift. Raises FormatError where that does not fit 62 bits."""
    largest = max(abs(int(values.max())), abs(int(values.min()))) if values.size else 0
    if largest << shift >= 1 << MAX_BITS:
        raise FormatError(
            f"a value of {largest.bit_length()} bits moved left by {shift} does not fit "
            f"{MAX_BITS} bits; use fractions that lie closer together"
        )
    return values << np.int64(shift) if largest else values


def round_half(values: Floats, rounding: Rounding) -> Floats:
    """Returns the float64 values rounded to integers (as float64) in the given mode."""
    if rounding is Rounding.FLOOR:
        return np.floor(values)
    if rounding is Rounding.HALF_EVEN:
        return np.round(values)
    # floor(x + 0.5) is wrong for the float just under one half; the comparison is not.
    floor = np.floor(values)
    return floor + (values - floor >= 0.5)


def exact_matmul(x: Ints, weight: Ints, bound: int) -> Ints:
    """Returns x @ weight.T exactly, for x [N, K] and weight [M, K].

    `bound` is an upper bound on sum_k |x_nk w_mk|. Below 2^53 every partial sum is a float64 in any
    order of summation, so the multiplication runs in BLAS; above it runs in int64.
    """
    if bound < FLOAT64_EXACT:
        product: Floats = x.astype(np.float64) @ weight.astype(np.float64).T
        return product.astype(np.int64)
    result: Ints = x @ weight.T
    return result
