"""What a number format is: its levels, its fake quantiser, and its exact integer carrier."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar, Self

from chop.formats.rounding import Floats, Ints, Rounding
from chop.formats.scale import Scale

if TYPE_CHECKING:
    import torch

    from chop.formats.fixed import Fixed

__all__ = ["Boundary", "Coding", "Format", "Integers", "Options"]


@dataclass(frozen=True, slots=True)
class Options:
    """What a configuration may say of one tensor's format; a format refuses what it has no use for.

    `calibration` is how a range is found where it is not given: "max", "percentile", "mse" or "kl".
    `per_channel` counts along axis 0 (weights and biases), `block_size` along the last axis.
    """

    width: int | None = None
    frac_width: int | None = None
    signed: bool = True
    exponent_width: int | None = None
    exponent_bias: int | None = None
    block_size: int | None = None
    scale: float | tuple[float, ...] | None = None
    per_channel: bool = False
    # What a minifloat's largest codes are not: "exponent" (IEEE), "code" (fp8 e4m3) or "none".
    reserved: str | None = None
    calibration: str = "mse"
    percentile: float = 99.99


@dataclass(frozen=True, slots=True, eq=False)
class Integers:
    """Constants as integers: real value = values * 2^-carrier.frac_width * scale (axis 0)."""

    values: Ints
    carrier: Fixed
    scale: Scale | None = None


@dataclass(frozen=True, slots=True)
class Boundary:
    """Where a rounding changes from one level to the next: from `at` on (or only above it)."""

    at: Fraction
    inclusive: bool


@dataclass(frozen=True, slots=True, eq=False)
class Coding:
    """How constants are stored in a ROM, and how the hardware multiplies by them.

    `kind` is what `chop_product.sv` calls it, `width` the bits of a code, `codes` the unsigned
    codes in the shape of the constants, `parameters` what else the multiplier needs to know.
    """

    kind: str
    width: int
    codes: Ints
    parameters: Mapping[str, int] = field(default_factory=dict)


class Format(ABC):
    """A number format. Values of its subclasses are frozen dataclasses, equal by value.

    A level is a real number that a tensor in the format can hold. A format with hardware gives
    every level an integer, exactly: level = integer * 2^-carrier.frac_width * scale.
    """

    __slots__ = ()

    # Its name in configurations, and a line for `chop list formats`.
    kind: ClassVar[str]
    summary: ClassVar[str]
    # The names of `Options` that it understands beside calibration and percentile; those needed.
    options: ClassVar[frozenset[str]]
    required: ClassVar[frozenset[str]] = frozenset({"width"})
    # What it has hardware for: "weight" and "bias" (constants), "data" (streams).
    hardware: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    @abstractmethod
    def fit(cls, values: Floats, options: Options) -> Self:
        """Returns the format for these values: what is given as given, the rest calibrated.

        Raises FormatError for values that are not finite, and for options out of range.
        """

    @property
    @abstractmethod
    def bits(self) -> float:
        """Bits per element; what a block shares is divided by its size."""

    @abstractmethod
    def quantize(
        self, x: torch.Tensor, rounding: Rounding
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Returns the nearest level of every element, and where the gradient passes (None: all).

        Where it passes is a tensor of x's shape and dtype, 1 where it does and 0 elsewhere: to
        compare into floats and to multiply by them is several times faster than by booleans.
        Never writes to x; outside any autograd graph. Exact in float64; in float32 while levels and
        scales fit 24 bits. Constants have their channels on axis 0, blocks on the last axis.
        """

    @property
    def carrier(self) -> Fixed | None:
        """The integers that hold every level; None where there is no static one."""
        return None

    @property
    def scale(self) -> Scale | None:
        """What a step of the carrier is worth beside 2^-frac_width; None is 1."""
        return None

    @property
    def low(self) -> int:
        """The smallest level as an integer."""
        return self.held().low

    @property
    def high(self) -> int:
        """The largest level as an integer."""
        return self.held().high

    @property
    def stream_width(self) -> int:
        """The bits of one element on a stream."""
        return self.held().width

    def levels(self) -> Ints | None:
        """Returns every level as an integer, ascending; None where each in [low, high] is one."""
        return None

    def boundaries(self, rounding: Rounding) -> tuple[Boundary, ...]:
        """Returns, for every level but the lowest, from where on integers' reals round to it.

        In units of the carrier: x / (2^-frac_width * scale). The default is for levels at every
        integer of [low, high].
        """
        half = Fraction(0 if rounding is Rounding.FLOOR else 1, 2)
        return tuple(
            Boundary(k - half, rounding is not Rounding.HALF_EVEN or k % 2 == 0)
            for k in range(self.low + 1, self.high + 1)
        )

    @abstractmethod
    def to_integers(self, values: Floats, rounding: Rounding = Rounding.HALF_UP) -> Ints:
        """Returns the integer of the nearest level of every real value, saturated.

        Raises FormatError for NaN, and where the format has no integers.
        """

    @abstractmethod
    def from_integers(self, levels: Ints) -> Floats:
        """Returns the real value of every integer, the nearest float64."""

    def integers(self, values: Floats, rounding: Rounding = Rounding.HALF_UP) -> Integers:
        """Returns constants as integers. Block formats choose the carrier from the values."""
        return Integers(self.to_integers(values, rounding), self.held(), self.scale)

    def coding(self, constants: Integers) -> Coding:
        """Returns how a ROM stores the constants. The default is two's complement integers."""
        return Coding("integer", constants.carrier.width, constants.values)

    def encode(self, integers: Ints) -> Ints:
        """Returns the words on a stream for integers [N, *shape]; the default is the integers."""
        return integers

    def held(self) -> Fixed:
        """Returns the carrier. Raises FormatError where there is no static one."""
        from chop.errors import FormatError

        if self.carrier is None:
            raise FormatError(f"{self}: has no fixed integer carrier")
        return self.carrier

    @abstractmethod
    def __str__(self) -> str:
        """A short name with its numbers, as in reports: "s8.4"."""
