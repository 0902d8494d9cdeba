"""Minifloat without an implicit leading bit, as MASE's `minifloat_denorm`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chop.formats.base import Coding, Integers, Options
from chop.formats.calibrate import best_of, candidate_tops
from chop.formats.checks import check_options, checked_values
from chop.formats.minifloat import Grid, GridFormat, check_fields, standard_bias
from chop.formats.rounding import Floats

__all__ = ["MinifloatDenorm"]


@dataclass(frozen=True, slots=True)
class MinifloatDenorm(GridFormat):
    """Sign, exponent e and a mantissa m without a hidden bit: +-m * 2^(e - bias - M).

    No code is reserved; M = width - exponent_width - 1, 0 <= m < 2^M, 0 <= e < 2^exponent_width. A
    value may have several codes: the levels are those of a float with an implicit leading bit, one
    bit less of mantissa and one exponent more, which is how ROMs hold them (in as many bits).
    Larger values saturate. Raises FormatError for widths without a bit of mantissa, or with more
    than 8 bits of exponent.
    """

    width: int
    exponent_width: int
    exponent_bias: int

    kind: ClassVar[str] = "minifloat_denorm"
    summary: ClassVar[str] = "small float without an implicit leading bit: m * 2^(e - bias - M)"
    options: ClassVar[frozenset[str]] = frozenset({"width", "exponent_width", "exponent_bias"})
    required: ClassVar[frozenset[str]] = frozenset({"width", "exponent_width"})
    hardware: ClassVar[frozenset[str]] = frozenset({"weight", "data"})

    def __post_init__(self) -> None:
        check_fields(self.kind, self.width, self.exponent_width)
        # Checks that float64 holds the levels.
        _ = self.grid

    def __str__(self) -> str:
        name = f"d{self.exponent_width}m{self.mantissa_width}"
        standard = self.exponent_bias == standard_bias(self.exponent_width)
        return name if standard else f"{name}b{self.exponent_bias}"

    @classmethod
    def fit(cls, values: Floats, options: Options) -> MinifloatDenorm:
        """Returns the format; without `exponent_bias`, the bias with the least squared error.

        The calibrations "max" and "percentile" put the top exponent at that of the largest value.
        """
        check_options(cls, options)
        array = checked_values(values)
        width, exponent_width = options.width or 0, options.exponent_width or 0
        check_fields(cls.kind, width, exponent_width)

        def of(bias: int) -> MinifloatDenorm:
            return cls(width, exponent_width, bias)

        if options.exponent_bias is not None:
            return of(options.exponent_bias)
        # The largest mantissa is just below one.
        biases = [(1 << exponent_width) - 2 - top for top in candidate_tops(array, options)]
        return best_of([of(b) for b in biases], of(standard_bias(exponent_width)), array, options)

    @property
    def mantissa_width(self) -> int:
        """The bits of mantissa that a code holds."""
        return self.width - self.exponent_width - 1

    @property
    def grid(self) -> Grid:
        """The levels."""
        mantissa = self.mantissa_width
        high = ((1 << mantissa) - 1) << ((1 << self.exponent_width) - 1)
        return Grid(mantissa - 1, -self.exponent_bias - mantissa, high)

    @property
    def bits(self) -> float:
        return self.width

    def coding(self, constants: Integers) -> Coding:
        return self.grid.coding(constants.values, self.exponent_width + 1)
