"""Fixed point: the levels k * 2^-frac_width, k a two's complement or unsigned integer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from chop.errors import FormatError
from chop.formats.rounding import Floats, Ints, Rounding, round_half, shift_right

__all__ = ["MAX_WIDTH", "Fixed", "covering"]

# Products of two carriers must stay inside int64.
MAX_WIDTH = 62


@dataclass(frozen=True, slots=True)
class Fixed:
    """A fixed-point format; `frac_width` may be negative or larger than `width`.

    Raises FormatError when width is not in 1..62.
    """

    width: int
    frac_width: int
    signed: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.width <= MAX_WIDTH:
            raise FormatError(
                f"fixed point: width must be in 1..{MAX_WIDTH}, got {self.width}; "
                "use a narrower format or set data_out_width on the layer before"
            )

    def __str__(self) -> str:
        return f"{'s' if self.signed else 'u'}{self.width}.{self.frac_width}"

    @property
    def low(self) -> int:
        """The smallest level, as an integer."""
        return -(1 << (self.width - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        """The largest level, as an integer."""
        return (1 << (self.width - 1)) - 1 if self.signed else (1 << self.width) - 1

    @property
    def scale(self) -> float:
        """The real value of one step."""
        return math.ldexp(1.0, -self.frac_width)

    def to_integers(self, values: Floats, rounding: Rounding = Rounding.HALF_UP) -> Ints:
        """Returns the level of every real value: rounded, then saturated. NaN is a FormatError."""
        scaled = np.ldexp(np.asarray(values, np.float64), self.frac_width)
        if np.isnan(scaled).any():
            raise FormatError(f"{self}: cannot quantise NaN; mend the model or its input")
        return np.clip(round_half(scaled, rounding), self.low, self.high).astype(np.int64)

    def from_integers(self, levels: Ints) -> Floats:
        """Returns the real value of every level, exactly (|level| < 2^53)."""
        return np.ldexp(levels.astype(np.float64), -self.frac_width)

    def requantise(self, levels: Ints, source: Fixed, rounding: Rounding) -> Ints:
        """Returns levels of `source` rounded and saturated to levels of this format."""
        shifted = shift_right(levels, source.frac_width - self.frac_width, rounding)
        return np.clip(shifted, self.low, self.high)


def covering(low: int, high: int, frac_width: int) -> Fixed:
    """Returns the narrowest format that holds every integer in [low, high] at that fraction."""
    signed = low < 0
    width = max(int(high).bit_length() + signed, (-low - 1).bit_length() + 1 if signed else 1, 1)
    return Fixed(width, frac_width, signed)
