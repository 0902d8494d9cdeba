"""Block floating point: signed fractions that share an exponent per block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from chop.errors import FormatError
from chop.formats.base import Format, Options
from chop.formats.block import check_block_float, nearest_in_blocks
from chop.formats.calibrate import candidate_tops
from chop.formats.checks import check_options, checked_values
from chop.formats.fake import in_float64, inside
from chop.formats.rounding import Floats, Ints, Rounding

if TYPE_CHECKING:
    import torch

__all__ = ["BlockFp"]


@dataclass(frozen=True, slots=True)
class BlockFp(Format):
    """Blocks of `block_size` values on the last axis: signed fractions, and one exponent for all.

    A value is +-m / 2^(width - 1) * 2^e with m < 2^(width - 1). The exponent is just above the
    largest magnitude: e = floor(log2 max |x|) + 1, within
    [-exponent_bias, 2^exponent_width - 1 - exponent_bias]; a block of zeros has the lowest.
    (MASE's `block_fp` takes ceil(log2 max |x|), where a power of two saturates.) Raises FormatError
    for a width outside 2..24, an exponent_width outside 1..8, an empty block.
    """

    width: int
    exponent_width: int
    exponent_bias: int
    block_size: int

    kind: ClassVar[str] = "block_fp"
    summary: ClassVar[str] = "block floating point: signed fractions, an exponent per block"
    options: ClassVar[frozenset[str]] = frozenset(
        {"width", "exponent_width", "exponent_bias", "block_size"}
    )

    def __post_init__(self) -> None:
        check_block_float(self.kind, self.width, self.exponent_width, self.block_size)
        if not -512 <= self.exponent_bias <= 512:
            raise FormatError(
                f"{self.kind}: exponent_bias must be in -512..512, got {self.exponent_bias}"
            )

    def __str__(self) -> str:
        return f"bfp{self.width}e{self.exponent_width}b{self.exponent_bias}x{self.block_size}"

    @classmethod
    def fit(cls, values: Floats, options: Options) -> BlockFp:
        """Returns the format, by default with blocks of 32 and 8 bits of exponent biased by 127.

        A narrower exponent without a bias has its highest value at the largest magnitude's.
        """
        check_options(cls, options)
        array = checked_values(values)
        exponent_width = 8 if options.exponent_width is None else options.exponent_width
        bias = options.exponent_bias
        if bias is None:
            top = 128 if exponent_width == 8 else candidate_tops(array, options)[0] + 1
            bias = (1 << exponent_width) - 1 - top
        size = 32 if options.block_size is None else options.block_size
        return cls(options.width or 0, exponent_width, bias, size)

    @property
    def bits(self) -> float:
        return self.width + self.exponent_width / self.block_size

    def quantize(
        self, x: torch.Tensor, rounding: Rounding
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        highest = (1 << self.exponent_width) - 1 - self.exponent_bias
        # The exponent of the largest magnitude itself is one less.
        window = (-self.exponent_bias - 1, highest - 1)
        largest = float(np.ldexp(1.0 - 2.0 ** (1 - self.width), highest))

        def nearest(values: Floats) -> Floats:
            return nearest_in_blocks(values, self.block_size, self.width, window, rounding)

        return in_float64(x, nearest), inside(x, largest)

    def to_integers(self, values: Floats, rounding: Rounding = Rounding.HALF_UP) -> Ints:
        raise FormatError(f"{self}: has no integers; it is fake-quantised in software only")

    def from_integers(self, levels: Ints) -> Floats:
        raise FormatError(f"{self}: has no integers; it is fake-quantised in software only")
