"""Block minifloat: minifloats that share a power of two per block (OCP MXFP8, MXFP6, MXFP4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from chop.errors import FormatError
from chop.formats.base import Format, Options
from chop.formats.block import block_exponents, check_block, in_blocks, out_of_blocks
from chop.formats.checks import check_options, checked_values
from chop.formats.fake import in_float64
from chop.formats.minifloat import Grid, check_fields, powers_of_two, standard_bias
from chop.formats.rounding import Floats, Ints, Rounding

# The shared exponent is OCP's E8M0, of which the top code is no number.
_SHARED_BITS, _SHARED_MOST = 8, 127

if TYPE_CHECKING:
    import torch

__all__ = ["BlockMinifloat"]


@dataclass(frozen=True, slots=True)
class BlockMinifloat(Format):
    """Blocks of `block_size` values on the last axis: minifloats, and one power of two for all.

    Elements are those of `minifloat_ieee` with the standard bias and no reserved codes; the shared
    factor is 2^E with E = floor(log2 max |x|) less the elements' largest exponent, within
    [-127, 127]. Elements saturate. Raises FormatError for an element without mantissa or with more
    than 8 bits of exponent, and for an empty block.
    """

    width: int
    exponent_width: int
    block_size: int

    kind: ClassVar[str] = "block_minifloat"
    summary: ClassVar[str] = "OCP MXFP: minifloats with a shared power of two per block"
    options: ClassVar[frozenset[str]] = frozenset({"width", "exponent_width", "block_size"})
    required: ClassVar[frozenset[str]] = frozenset({"width", "exponent_width"})

    def __post_init__(self) -> None:
        check_fields(self.kind, self.width, self.exponent_width)
        check_block(self.kind, self.block_size)

    def __str__(self) -> str:
        mantissa = self.width - self.exponent_width - 1
        return f"mxfp_e{self.exponent_width}m{mantissa}x{self.block_size}"

    @classmethod
    def fit(cls, values: Floats, options: Options) -> BlockMinifloat:
        """Returns the format, by default with blocks of 32."""
        check_options(cls, options)
        checked_values(values)
        size = 32 if options.block_size is None else options.block_size
        return cls(options.width or 0, options.exponent_width or 0, size)

    @property
    def bits(self) -> float:
        return self.width + _SHARED_BITS / self.block_size

    @property
    def grid(self) -> Grid:
        """The levels of an element."""
        mantissa = self.width - self.exponent_width - 1
        bias = standard_bias(self.exponent_width)
        high = ((2 << mantissa) - 1) << ((1 << self.exponent_width) - 2)
        return Grid(mantissa, 1 - bias - mantissa, high)

    def quantize(
        self, x: torch.Tensor, rounding: Rounding
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Returns the nearest levels; the gradient passes everywhere: a block covers its values."""
        grid = self.grid
        top = grid.lowest + grid.high.bit_length() - 1

        def nearest(values: Floats) -> Floats:
            blocks = in_blocks(values, self.block_size)
            shared = block_exponents(blocks, top - _SHARED_MOST, top + _SHARED_MOST) - top
            elements = grid.nearest(blocks * powers_of_two(-shared), rounding)
            return out_of_blocks(elements * powers_of_two(shared), values.shape)

        return in_float64(x, nearest), None

    def to_integers(self, values: Floats, rounding: Rounding = Rounding.HALF_UP) -> Ints:
        raise FormatError(f"{self}: has no integers; it is fake-quantised in software only")

    def from_integers(self, levels: Ints) -> Floats:
        raise FormatError(f"{self}: has no integers; it is fake-quantised in software only")
