"""The levels of small floating point: integers with at most so many bits from the first one on."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from chop.errors import FormatError
from chop.formats.base import Boundary, Coding, Format
from chop.formats.fake import in_float64, inside
from chop.formats.fixed import Fixed, covering
from chop.formats.rounding import MAX_BITS, Floats, Ints, Rounding, round_half

if TYPE_CHECKING:
    import torch

__all__ = ["Grid", "GridFormat", "check_fields", "floor_log2", "powers_of_two", "standard_bias"]

# Powers of two that float64 holds with room for their mantissas.
_REACH = 960
# Values rounded at a time: what passes over them leave behind stays in the cache.
_PIECE = 1 << 13
# Levels listed one by one; beyond, a table of them is of no use.
_MOST_LEVELS = 1 << 17


@dataclass(frozen=True, slots=True)
class Grid:
    """Levels k * 2^lowest, k an integer of mantissa_width + 1 significant bits, |k| <= high.

    So the steps are 1 up to 2^(mantissa_width + 1), and double with every further power of two.
    Ties of half_even go to the even multiple of the smaller step beside the tie: the even mantissa.
    Raises FormatError where the levels leave float64.
    """

    mantissa_width: int
    lowest: int
    high: int

    def __post_init__(self) -> None:
        top = self.lowest + self.high.bit_length()
        if self.lowest < -_REACH or top > _REACH or not 0 <= self.mantissa_width <= 51:
            raise FormatError(
                f"floating point: levels from 2^{self.lowest} to 2^{top} with "
                f"{self.mantissa_width} bits of mantissa leave float64; "
                "use an exponent_bias nearer to zero"
            )

    @property
    def carrier(self) -> Fixed | None:
        """The integers, as a format; None where they do not fit."""
        if self.high.bit_length() + 1 > MAX_BITS:
            return None
        return covering(-self.high, self.high, -self.lowest)

    @property
    def largest(self) -> float:
        """The largest level, as a real."""
        return float(np.ldexp(float(self.high), self.lowest))

    def steps(self, values: Floats, rounding: Rounding) -> Floats:
        """Returns the nearest level of every real, as an integer (in float64); NaN stays NaN."""
        with np.errstate(over="ignore"):
            scaled = np.multiply(values, 2.0**-self.lowest)
        scaled = np.clip(scaled, -float(self.high), float(self.high))
        shift = np.maximum(floor_log2(scaled) - self.mantissa_width, 0)
        return round_half(scaled * powers_of_two(-shift), rounding) * powers_of_two(shift)

    def nearest(self, values: Floats, rounding: Rounding) -> Floats:
        """Returns the nearest level of every real."""
        step = 2.0**self.lowest
        if values.size <= _PIECE:
            return self.steps(values, rounding) * step
        flat, result = values.reshape(-1), np.empty(values.size)
        for start in range(0, flat.size, _PIECE):
            piece = flat[start : start + _PIECE]
            np.multiply(self.steps(piece, rounding), step, out=result[start : start + _PIECE])
        return result.reshape(values.shape)

    def integers(self, values: Floats, rounding: Rounding) -> Ints:
        """Returns the integer of every real's nearest level. Raises FormatError for NaN."""
        if self.carrier is None:
            raise FormatError(
                f"floating point: its levels need integers of {self.high.bit_length() + 1} bits, "
                f"of at most {MAX_BITS}; use fewer bits of exponent"
            )
        steps = self.steps(np.asarray(values, np.float64), rounding)
        if np.isnan(steps).any():
            raise FormatError("floating point: cannot quantise NaN; mend the model or its input")
        return steps.astype(np.int64)

    def levels(self) -> Ints | None:
        """Returns every level as an integer, ascending; None where too many or too wide."""
        octaves = max(self.high.bit_length() - self.mantissa_width, 1)
        if self.carrier is None or octaves << (self.mantissa_width + 1) > _MOST_LEVELS:
            return None
        leading = np.arange(1 << self.mantissa_width, 2 << self.mantissa_width, dtype=np.int64)
        small = np.arange(1, 1 << self.mantissa_width, dtype=np.int64)
        positive = np.concatenate([small, *(leading << np.int64(k) for k in range(octaves))])
        positive = positive[positive <= self.high]
        zero = np.zeros(1, np.int64)
        return np.concatenate([-positive[::-1], zero, positive])

    def boundaries(self, rounding: Rounding) -> tuple[Boundary, ...]:
        """Returns where integers' reals change from one level to the next, ascending."""
        levels = self.levels()
        if levels is None:
            raise FormatError("floating point: too many levels to list their boundaries")
        found = []
        listed = levels.tolist()
        for below, above in pairwise(listed):
            if rounding is Rounding.FLOOR:
                found.append(Boundary(Fraction(above), True))
                continue
            even = above % (2 * (above - below)) == 0
            upwards = rounding is Rounding.HALF_UP or even
            found.append(Boundary(Fraction(below + above, 2), upwards))
        return tuple(found)

    def coding(self, values: Ints, exponent_width: int) -> Coding:
        """Returns the codes {sign, exponent, mantissa} of integers on the grid.

        The value of a code is (exponent == 0 ? m : m + 2^M) << max(exponent - 1, 0). Without bits
        of mantissa that is the kind "log": 0, or 2^(exponent - 1).
        """
        mantissa_width = self.mantissa_width
        magnitude = np.abs(values)
        # On the grid a float64 holds every integer exactly.
        exponent = np.maximum(floor_log2(magnitude.astype(np.float64)) - mantissa_width + 1, 0)
        leading = np.where(exponent > 0, np.int64(1) << mantissa_width, 0)
        mantissa = (magnitude >> np.maximum(exponent - 1, 0)) - leading
        codes = ((values < 0).astype(np.int64) << exponent_width) | exponent
        codes = (codes << mantissa_width) | mantissa
        parameters = {"ExponentWidth": exponent_width}
        if mantissa_width:
            parameters["MantissaWidth"] = mantissa_width
        width = 1 + exponent_width + mantissa_width
        return Coding("minifloat" if mantissa_width else "log", width, codes, parameters)


class GridFormat(Format):
    """A format whose levels are a `Grid`: the minifloats, and powers of two."""

    __slots__ = ()

    @property
    @abstractmethod
    def grid(self) -> Grid:
        """The levels."""

    @property
    def carrier(self) -> Fixed | None:
        return self.grid.carrier

    @property
    def low(self) -> int:
        return -self.grid.high

    @property
    def high(self) -> int:
        return self.grid.high

    def quantize(
        self, x: torch.Tensor, rounding: Rounding
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        grid = self.grid
        return in_float64(x, lambda v: grid.nearest(v, rounding)), inside(x, grid.largest)

    def levels(self) -> Ints | None:
        return self.grid.levels()

    def boundaries(self, rounding: Rounding) -> tuple[Boundary, ...]:
        """Returns where integers' reals change level; ties of half_even go to the even mantissa."""
        return self.grid.boundaries(rounding)

    def to_integers(self, values: Floats, rounding: Rounding = Rounding.HALF_UP) -> Ints:
        return self.grid.integers(values, rounding)

    def from_integers(self, levels: Ints) -> Floats:
        return np.ldexp(levels.astype(np.float64), self.grid.lowest)


def floor_log2(values: Floats) -> Ints:
    """Returns floor(log2 |x|) of every float64, exactly; -1023 for zero and for subnormals.

    From the bits: NumPy's frexp and ldexp take one element at a time.
    """
    bits = np.asarray(values, np.float64).view(np.int64)
    result: Ints = ((bits >> 52) & 0x7FF) - 1023
    return result


def powers_of_two(exponents: Ints) -> Floats:
    """Returns 2^k in float64 for every k in [-1022, 1023]."""
    return ((np.asarray(exponents, np.int64) + 1023) << 52).view(np.float64)


def check_fields(kind: str, width: int, exponent_width: int) -> None:
    """Raises FormatError unless the widths leave a sign, 1..8 bits of exponent and a mantissa."""
    if not 1 <= exponent_width <= 8:
        raise FormatError(f"{kind}: exponent_width must be in 1..8, got {exponent_width}")
    if not exponent_width + 2 <= width <= 32:
        raise FormatError(
            f"{kind}: width must be in {exponent_width + 2}..32 (a sign, {exponent_width} bits of "
            f"exponent, at least one of mantissa), got {width}"
        )


def standard_bias(exponent_width: int) -> int:
    """Returns the bias of IEEE 754: ones, of one bit less."""
    return (1 << (exponent_width - 1)) - 1
