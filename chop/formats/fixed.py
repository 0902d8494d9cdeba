"""Fixed point: the levels k * 2^-frac_width, k a two's complement or unsigned integer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from chop.errors import FormatError
from chop.formats.base import Format, Options
from chop.formats.checks import check_options
from chop.formats.fake import (
    in_float64,
    power_reach,
    round_in_place,
    round_to_integers,
    saturate_in_place,
)
from chop.formats.rounding import MAX_BITS, Floats, Ints, Rounding, round_half

if TYPE_CHECKING:
    import torch

__all__ = ["Fixed", "covering", "round_to_integers"]


@dataclass(frozen=True, slots=True)
class Fixed(Format):
    """A fixed-point format; `frac_width` may be negative or larger than `width`.

    Raises FormatError when width is not in 1..62.
    """

    width: int
    frac_width: int
    signed: bool = True

    kind: ClassVar[str] = "fixed"
    summary: ClassVar[str] = "fixed point: k * 2^-frac_width, k an integer of width bits"
    options: ClassVar[frozenset[str]] = frozenset({"width", "frac_width", "signed"})
    hardware: ClassVar[frozenset[str]] = frozenset({"weight", "bias", "data"})

    def __post_init__(self) -> None:
        if not 1 <= self.width <= MAX_BITS:
            raise FormatError(
                f"fixed point: width must be in 1..{MAX_BITS}, got {self.width}; "
                "use a narrower format or set data_out_width on the layer before"
            )

    def __str__(self) -> str:
        return f"{'s' if self.signed else 'u'}{self.width}.{self.frac_width}"

    @classmethod
    def fit(cls, values: Floats, options: Options) -> Fixed:
        from chop.formats.calibrate import choose_fixed

        check_options(cls, options)
        width = options.width or 0
        if options.frac_width is not None:
            return cls(width, options.frac_width, options.signed)
        return choose_fixed(
            values,
            width,
            options.signed,
            calibration=options.calibration,
            percentile=options.percentile,
        ).format

    @property
    def bits(self) -> float:
        return self.width

    @property
    def carrier(self) -> Fixed:
        return self

    def quantize(
        self, x: torch.Tensor, rounding: Rounding
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        if abs(self.frac_width) > power_reach(x.dtype):
            # Rare: constants of extreme size, whose powers of two the dtype does not hold.
            return in_float64(x, lambda v: self._nearest(v, rounding)), in_float64(x, self._inside)
        scaled, inside = saturate_in_place(x * 2.0**self.frac_width, self.low, self.high)
        return round_in_place(scaled, rounding).mul_(2.0**-self.frac_width), inside

    @property
    def low(self) -> int:
        """The smallest level, as an integer."""
        return -(1 << (self.width - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        """The largest level, as an integer."""
        return (1 << (self.width - 1)) - 1 if self.signed else (1 << self.width) - 1

    @property
    def step(self) -> float:
        """The real value of one step."""
        return math.ldexp(1.0, -self.frac_width)

    def to_integers(self, values: Floats, rounding: Rounding = Rounding.HALF_UP) -> Ints:
        """Returns the level of every real value: rounded, then saturated. NaN is a FormatError."""
        scaled = self._rounded(np.asarray(values, np.float64), rounding)
        if np.isnan(scaled).any():
            raise FormatError(f"{self}: cannot quantise NaN; mend the model or its input")
        # Beyond 53 bits the float of the largest level is the next power of two.
        return np.clip(scaled.astype(np.int64), self.low, self.high)

    def _rounded(self, values: Floats, rounding: Rounding) -> Floats:
        with np.errstate(over="ignore"):
            scaled = np.ldexp(values, self.frac_width)
        return round_half(np.clip(scaled, float(self.low), float(self.high)), rounding)

    def _nearest(self, values: Floats, rounding: Rounding) -> Floats:
        with np.errstate(over="ignore"):
            return np.ldexp(self._rounded(values, rounding), -self.frac_width)

    def _inside(self, values: Floats) -> Floats:
        with np.errstate(over="ignore"):
            scaled = np.ldexp(values, self.frac_width)
        return ((scaled >= self.low) & (scaled <= self.high)).astype(np.float64)

    def from_integers(self, levels: Ints) -> Floats:
        """Returns the real value of every level, exactly.

        Raises FormatError for a level beyond 2^53, which float64 cannot hold.
        """
        if self.width > 53 and levels.size and int(np.abs(levels).max()) > 1 << 53:
            raise FormatError(
                f"{self}: a level beyond 2^53 has no float64; set data_out_width on the last layer"
            )
        return np.ldexp(levels.astype(np.float64), -self.frac_width)


def covering(low: int, high: int, frac_width: int) -> Fixed:
    """Returns the narrowest format that holds every integer in [low, high] at that fraction."""
    signed = low < 0
    above = max(int(high), 0).bit_length() + signed
    below = (-low - 1).bit_length() + 1 if signed else 1
    return Fixed(max(above, below), frac_width, signed)
