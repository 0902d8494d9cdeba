"""Minifloat after IEEE 754: an implicit leading bit, subnormals, and what the top codes are for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from chop.errors import FormatError, did_you_mean
from chop.formats.base import Coding, Integers, Options
from chop.formats.calibrate import best_of, candidate_tops
from chop.formats.checks import check_options, checked_values
from chop.formats.minifloat import Grid, GridFormat, check_fields, standard_bias
from chop.formats.rounding import Floats

__all__ = ["MinifloatIeee"]


_RESERVED = ("exponent", "code", "none")


@dataclass(frozen=True, slots=True)
class MinifloatIeee(GridFormat):
    """Sign, exponent and mantissa with an implicit leading bit; the lowest exponent is subnormal.

    The value of a code is m * 2^(1 - bias - M) where the exponent field e is 0, and otherwise
    (2^M + m) * 2^(e - bias - M), with M = width - exponent_width - 1 bits of mantissa. `reserved`
    says what is no number: every code of the top exponent ("exponent": IEEE 754, fp16, fp8 e5m2),
    the top code only ("code": OCP fp8 e4m3), or nothing ("none": OCP fp6 and fp4). Larger values
    saturate to the largest number; infinities do so as well. Raises FormatError for widths without
    a bit of mantissa, or with more than 8 bits of exponent.
    """

    width: int
    exponent_width: int
    exponent_bias: int
    reserved: str = "exponent"

    kind: ClassVar[str] = "minifloat_ieee"
    summary: ClassVar[str] = "small IEEE 754 float: sign, exponent, mantissa; subnormals"
    options: ClassVar[frozenset[str]] = frozenset(
        {"width", "exponent_width", "exponent_bias", "reserved"}
    )
    required: ClassVar[frozenset[str]] = frozenset({"width", "exponent_width"})
    hardware: ClassVar[frozenset[str]] = frozenset({"weight", "data"})

    def __post_init__(self) -> None:
        check_fields(self.kind, self.width, self.exponent_width)
        if self.reserved not in _RESERVED:
            raise FormatError(
                f"{self.kind}: nothing is reserved by '{self.reserved}'"
                f"{did_you_mean(self.reserved, _RESERVED)}"
            )
        if self.exponent_width == 1 and self.reserved == "exponent":
            raise FormatError(
                f"{self.kind}: one bit of exponent leaves no numbers beside the reserved; "
                "set exponent_width to at least 2"
            )
        # Checks that float64 holds the levels.
        _ = self.grid

    def __str__(self) -> str:
        short = {"exponent": "", "code": "n", "none": "f"}[self.reserved]
        name = f"e{self.exponent_width}m{self.mantissa_width}{short}"
        standard = self.exponent_bias == standard_bias(self.exponent_width)
        return name if standard else f"{name}b{self.exponent_bias}"

    @classmethod
    def fit(cls, values: Floats, options: Options) -> MinifloatIeee:
        """Returns the format; without `exponent_bias`, the bias with the least squared error.

        The calibrations "max" and "percentile" put the top exponent at that of the largest value.
        """
        check_options(cls, options)
        array = checked_values(values)
        width, exponent_width = options.width or 0, options.exponent_width or 0
        reserved = options.reserved or "exponent"
        check_fields(cls.kind, width, exponent_width)

        def of(bias: int) -> MinifloatIeee:
            return cls(width, exponent_width, bias, reserved)

        if options.exponent_bias is not None:
            return of(options.exponent_bias)
        top_field = (1 << exponent_width) - 1 - (reserved == "exponent")
        biases = [top_field - top for top in candidate_tops(array, options)]
        return best_of([of(b) for b in biases], of(standard_bias(exponent_width)), array, options)

    @property
    def mantissa_width(self) -> int:
        """The bits of mantissa that a code holds."""
        return self.width - self.exponent_width - 1

    @property
    def grid(self) -> Grid:
        """The levels."""
        mantissa = self.mantissa_width
        fields = (1 << self.exponent_width) - 1 - (self.reserved == "exponent")
        last = (2 << mantissa) - 1 - (self.reserved == "code")
        return Grid(mantissa, 1 - self.exponent_bias - mantissa, last << (fields - 1))

    @property
    def bits(self) -> float:
        return self.width

    def coding(self, constants: Integers) -> Coding:
        return self.grid.coding(constants.values, self.exponent_width)
