"""Powers of two: zero and +-2^k, multiplied by shifting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from chop.errors import FormatError
from chop.formats.base import Coding, Integers, Options
from chop.formats.calibrate import best_of, candidate_tops
from chop.formats.checks import check_options, checked_values
from chop.formats.fixed import covering
from chop.formats.minifloat import Grid, GridFormat, floor_log2
from chop.formats.rounding import MAX_BITS, Floats, Rounding

__all__ = ["Log"]


@dataclass(frozen=True, slots=True)
class Log(GridFormat):
    """Sign and an exponent field e of width - 1 bits: zero where e is 0, else +-2^(e - bias).

    So 2^k for k in [1 - bias, 2^(width - 1) - 1 - bias]: MASE's levels, with zero in place of the
    smallest. A real goes to the nearest level in value (not in its logarithm), so from the
    arithmetic mean of two on to the larger; larger values saturate. Raises FormatError for a width
    outside 2..9.
    """

    width: int
    exponent_bias: int

    kind: ClassVar[str] = "log"
    summary: ClassVar[str] = "powers of two: 0 and +-2^k (shifts in place of multipliers)"
    options: ClassVar[frozenset[str]] = frozenset({"width", "exponent_bias"})
    hardware: ClassVar[frozenset[str]] = frozenset({"weight", "data"})

    def __post_init__(self) -> None:
        if not 2 <= self.width <= 9:
            raise FormatError(f"log: width must be in 2..9, got {self.width}")
        # Checks that float64 holds the levels.
        _ = self.grid

    def __str__(self) -> str:
        return f"log{self.width}b{self.exponent_bias}"

    @classmethod
    def fit(cls, values: Floats, options: Options) -> Log:
        """Returns the format; without `exponent_bias`, the bias with the least squared error.

        The calibrations "max" and "percentile" put the top exponent at that of the largest value.
        """
        check_options(cls, options)
        array = checked_values(values)
        width = options.width or 0
        if options.exponent_bias is not None or not 2 <= width <= 9:
            return cls(width, options.exponent_bias or 0)
        top_field = (1 << (width - 1)) - 1
        tops = candidate_tops(array, options)
        standard = cls(width, (1 << max(width - 2, 0)) - 1)
        return best_of([cls(width, top_field - t) for t in tops], standard, array, options)

    @property
    def grid(self) -> Grid:
        """The levels."""
        return Grid(0, 1 - self.exponent_bias, 1 << ((1 << (self.width - 1)) - 2))

    @property
    def bits(self) -> float:
        return self.width

    def integers(self, values: Floats, rounding: Rounding = Rounding.HALF_UP) -> Integers:
        """Returns constants as integers; the carrier holds the exponents that occur.

        Raises FormatError where these lie too far apart.
        """
        if np.isnan(values).any():
            raise FormatError("log: cannot quantise NaN; mend the model or its input")
        nearest = self.grid.nearest(values, rounding)
        exponents = floor_log2(nearest[nearest != 0])
        lowest = int(exponents.min()) if exponents.size else 1 - self.exponent_bias
        span = int(exponents.max()) - lowest if exponents.size else 0
        if span + 2 > MAX_BITS:
            raise FormatError(
                f"{self}: constants from 2^{lowest} to 2^{lowest + span} need integers of "
                f"{span + 2} bits, of at most {MAX_BITS}; use fewer bits"
            )
        integers = np.ldexp(nearest, -lowest).astype(np.int64)
        return Integers(integers, covering(-(1 << span), 1 << span, -lowest))

    def coding(self, constants: Integers) -> Coding:
        return self.grid.coding(constants.values, self.width - 1)
