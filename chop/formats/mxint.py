"""MXINT: integers that share a power of two per block (OCP Microscaling Formats 1.0, MXINT8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from chop.errors import FormatError
from chop.formats.base import Coding, Format, Integers, Options
from chop.formats.block import (
    bit_length,
    block_exponents,
    check_block_float,
    in_blocks,
    mantissas,
    nearest_in_blocks,
    out_of_blocks,
    shift_each,
)
from chop.formats.calibrate import candidate_tops
from chop.formats.checks import check_options, checked_values
from chop.formats.fake import in_float64, inside
from chop.formats.fixed import Fixed
from chop.formats.rounding import MAX_BITS, Floats, Ints, Rounding

if TYPE_CHECKING:
    import torch

__all__ = ["MxInt"]


@dataclass(frozen=True, slots=True)
class MxInt(Format):
    """Blocks of `block_size` values on the last axis: a mantissa each, and one exponent E for all.

    A value is m * 2^(E - (width - 2)), |m| < 2^(width - 1), with E = floor(log2 max |x|) of the
    block within [-exponent_bias, 2^exponent_width - 1 - exponent_bias]; a block of zeros has the
    lowest. Mantissas saturate. The last block of a row may be shorter. Raises FormatError for a
    width outside 2..24, an exponent_width outside 1..8, an empty block.
    """

    width: int
    exponent_width: int
    exponent_bias: int
    block_size: int

    kind: ClassVar[str] = "mxint"
    summary: ClassVar[str] = "OCP MXINT: integers with a shared power of two per block"
    options: ClassVar[frozenset[str]] = frozenset(
        {"width", "exponent_width", "exponent_bias", "block_size"}
    )
    hardware: ClassVar[frozenset[str]] = frozenset({"weight", "data"})

    def __post_init__(self) -> None:
        check_block_float(self.kind, self.width, self.exponent_width, self.block_size)
        if not -512 <= self.exponent_bias <= 512:
            raise FormatError(
                f"{self.kind}: exponent_bias must be in -512..512, got {self.exponent_bias}"
            )

    def __str__(self) -> str:
        return f"mxint{self.width}e{self.exponent_width}b{self.exponent_bias}x{self.block_size}"

    @classmethod
    def fit(cls, values: Floats, options: Options) -> MxInt:
        """Returns the format; blocks of 32 and 8 bits of exponent (biased by 127) are OCP's.

        A narrower exponent without a bias has its highest value at the largest magnitude's.
        """
        check_options(cls, options)
        array = checked_values(values)
        exponent_width = 8 if options.exponent_width is None else options.exponent_width
        bias = options.exponent_bias
        if bias is None:
            top = 128 if exponent_width == 8 else candidate_tops(array, options)[0]
            bias = (1 << exponent_width) - 1 - top
        size = 32 if options.block_size is None else options.block_size
        return cls(options.width or 0, exponent_width, bias, size)

    @property
    def bits(self) -> float:
        return self.width + self.exponent_width / self.block_size

    @property
    def lowest(self) -> int:
        """The lowest exponent E of a block."""
        return -self.exponent_bias

    @property
    def highest(self) -> int:
        """The highest exponent E of a block."""
        return (1 << self.exponent_width) - 1 - self.exponent_bias

    @property
    def carrier(self) -> Fixed | None:
        """Mantissa << (E - lowest); None where the exponents span too many bits."""
        span = self.highest - self.lowest
        return self._carrier(self.lowest, span) if self.width + span <= MAX_BITS else None

    @property
    def low(self) -> int:
        return -self.high

    @property
    def high(self) -> int:
        self.held()
        return self._top << (self.highest - self.lowest)

    @property
    def stream_width(self) -> int:
        self.held()
        return self.exponent_width + self.width

    def quantize(
        self, x: torch.Tensor, rounding: Rounding
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        largest = float(np.ldexp(float(self._top), self.highest - (self.width - 2)))
        return in_float64(x, lambda v: self._nearest(v, rounding)), inside(x, largest)

    def to_integers(self, values: Floats, rounding: Rounding = Rounding.HALF_UP) -> Ints:
        self.held()
        exponents, rounded = self._blocks(values, rounding)
        return out_of_blocks(rounded << (exponents - self.lowest), values.shape)

    def from_integers(self, levels: Ints) -> Floats:
        return np.ldexp(levels.astype(np.float64), -self.held().frac_width)

    def integers(self, values: Floats, rounding: Rounding = Rounding.HALF_UP) -> Integers:
        """Returns constants on the carrier of the exponents that occur.

        Raises FormatError where these lie too far apart.
        """
        exponents, rounded = self._blocks(values, rounding)
        used = exponents[np.abs(rounded).max(axis=-1, keepdims=True, initial=0) > 0]
        lowest = int(used.min()) if used.size else self.lowest
        span = int(used.max()) - lowest if used.size else 0
        if self.width + span > MAX_BITS:
            raise FormatError(
                f"{self}: blocks from 2^{lowest} to 2^{lowest + span} need integers of "
                f"{self.width + span} bits, of at most {MAX_BITS}; use fewer bits of exponent"
            )
        shift = np.maximum(exponents - lowest, 0)
        return Integers(out_of_blocks(rounded << shift, values.shape), self._carrier(lowest, span))

    def exponents(self, integers: Ints) -> Ints:
        """Returns the exponent of every block, from the carrier's lowest up: [.., blocks].

        It is the only one: a block whose exponent is not the lowest has a mantissa of all bits.
        """
        largest = np.abs(in_blocks(integers, self.block_size)).max(axis=-1, initial=0)
        return np.maximum(bit_length(largest) - (self.width - 1), 0)

    def coding(self, constants: Integers) -> Coding:
        """Returns the mantissas in two's complement; `exponents` has what the blocks share."""
        return Coding("mxint", self.width, self._mantissas(constants.values) & self._mask)

    def encode(self, integers: Ints) -> Ints:
        """Returns the words {E - lowest, mantissa} of carrier integers [N, *shape]."""
        exponents = self.exponents(integers)[..., np.newaxis]
        blocks = np.broadcast_to(exponents, (*exponents.shape[:-1], self.block_size))
        high = out_of_blocks(blocks, integers.shape) << self.width
        return high | (self._mantissas(integers) & self._mask)

    def decode(self, words: Ints) -> Ints:
        """Returns the carrier integers of stream words."""
        mantissa = words & self._mask
        signed = mantissa - ((mantissa >> (self.width - 1)) << self.width)
        integers: Ints = signed << (words >> self.width)
        return integers

    def requantise(self, levels: Ints, source: Fixed, rounding: Rounding) -> Ints:
        """Returns fixed-point levels [.., n] rounded to carrier integers, in integers throughout.

        The definition of the hardware's cast: the block's exponent is where its largest magnitude
        has its leading one, within the window; mantissas are shifted, rounded and saturated.
        """
        self.held()
        blocks = in_blocks(levels, self.block_size)
        largest = np.abs(blocks).max(axis=-1, keepdims=True, initial=0)
        found = bit_length(largest) - 1 - source.frac_width
        exponents = np.where(largest > 0, np.clip(found, self.lowest, self.highest), self.lowest)
        shift = exponents - (self.width - 2) + source.frac_width
        rounded = np.clip(shift_each(blocks, shift, rounding), -self._top, self._top)
        return out_of_blocks(rounded << (exponents - self.lowest), levels.shape)

    @property
    def _top(self) -> int:
        return (1 << (self.width - 1)) - 1

    @property
    def _mask(self) -> int:
        return (1 << self.width) - 1

    def _carrier(self, lowest: int, span: int) -> Fixed:
        return Fixed(self.width + span, self.width - 2 - lowest)

    def _blocks(self, values: Floats, rounding: Rounding) -> tuple[Ints, Ints]:
        """Returns the exponents [.., blocks, 1] and the mantissas [.., blocks, size]."""
        if np.isnan(values).any():
            raise FormatError(f"{self}: cannot quantise NaN; mend the model or its input")
        blocks = in_blocks(np.asarray(values, np.float64), self.block_size)
        exponents = block_exponents(blocks, self.lowest, self.highest)
        return exponents, mantissas(blocks, exponents, self.width, rounding).astype(np.int64)

    def _nearest(self, values: Floats, rounding: Rounding) -> Floats:
        return nearest_in_blocks(
            values, self.block_size, self.width, (self.lowest, self.highest), rounding
        )

    def _mantissas(self, integers: Ints) -> Ints:
        blocks = in_blocks(integers, self.block_size)
        shift = self.exponents(integers)[..., np.newaxis]
        return out_of_blocks(blocks >> shift, integers.shape)
