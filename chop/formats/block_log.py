"""Block log: powers of two below a shared largest one per block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from chop.errors import FormatError
from chop.formats.base import Format, Options
from chop.formats.block import block_exponents, check_block, in_blocks, out_of_blocks
from chop.formats.checks import check_options, checked_values
from chop.formats.fake import in_float64
from chop.formats.minifloat import Grid, powers_of_two
from chop.formats.rounding import Floats, Ints, Rounding

# The shared exponent has the eight bits of OCP's E8M0, of which the top code is no number.
_SHARED_BITS, _SHARED_MOST = 8, 127

if TYPE_CHECKING:
    import torch

__all__ = ["BlockLog"]


@dataclass(frozen=True, slots=True)
class BlockLog(Format):
    """Blocks of `block_size` values on the last axis: zero or +-2^(E - j), E shared by the block.

    j is in [0, 2^(width - 1) - 2]; zero has the code that is left. 2^E is the power of two nearest
    to the largest magnitude (from the arithmetic mean of two on the larger), E within [-127, 127].
    Raises FormatError for a width outside 2..9 and for an empty block.
    """

    width: int
    block_size: int

    kind: ClassVar[str] = "block_log"
    summary: ClassVar[str] = "powers of two below a shared largest one per block"
    options: ClassVar[frozenset[str]] = frozenset({"width", "block_size"})

    def __post_init__(self) -> None:
        if not 2 <= self.width <= 9:
            raise FormatError(f"{self.kind}: width must be in 2..9, got {self.width}")
        check_block(self.kind, self.block_size)

    def __str__(self) -> str:
        return f"blog{self.width}x{self.block_size}"

    @classmethod
    def fit(cls, values: Floats, options: Options) -> BlockLog:
        """Returns the format, by default with blocks of 32."""
        check_options(cls, options)
        checked_values(values)
        return cls(options.width or 0, 32 if options.block_size is None else options.block_size)

    @property
    def bits(self) -> float:
        return self.width + _SHARED_BITS / self.block_size

    def quantize(
        self, x: torch.Tensor, rounding: Rounding
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Returns the nearest levels; the gradient passes everywhere: a block covers its values."""
        steps = (1 << (self.width - 1)) - 2
        grid = Grid(0, -steps, 1 << steps)

        def nearest(values: Floats) -> Floats:
            blocks = in_blocks(values, self.block_size)
            # Magnitudes are mantissa * 2^(exponent + 1), the mantissa in [1/2, 1).
            largest = np.abs(blocks).max(axis=-1, keepdims=True, initial=0.0)
            above = np.frexp(largest)[0] >= 0.75
            exponents = block_exponents(blocks, -_SHARED_MOST, _SHARED_MOST)
            shared = np.clip(exponents + above, -_SHARED_MOST, _SHARED_MOST)
            elements = grid.nearest(blocks * powers_of_two(-shared), rounding)
            return out_of_blocks(elements * powers_of_two(shared), values.shape)

        return in_float64(x, nearest), None

    def to_integers(self, values: Floats, rounding: Rounding = Rounding.HALF_UP) -> Ints:
        raise FormatError(f"{self}: has no integers; it is fake-quantised in software only")

    def from_integers(self, levels: Ints) -> Floats:
        raise FormatError(f"{self}: has no integers; it is fake-quantised in software only")
