"""How the hardware multiplies a stream by constant weights: what chop_linear is told of both."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from chop.formats.base import Coding
from chop.formats.fixed import Fixed, covering
from chop.formats.mxint import MxInt
from chop.formats.rounding import Ints
from chop.ir.tensor_type import Parameter, TensorType

__all__ = ["Products", "products_of"]

# The coding of data and weights that are all +1 or -1: a product is one bit.
_XNOR = "xnor"
# Codes with a sign of their own; the product leaves out the 1 that a negation adds.
_SIGNED_CODES = frozenset({"binary", "ternary", "log", "minifloat"})
# Without a multiplier.
_LOGIC = frozenset({"binary", "ternary", "log", _XNOR})
# An operand of so many bits takes no multiplier (chop_times.sv).
_FEW_BITS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Products:
    """One number of the stream times one weight, in the terms of `chop_product.sv`.

    `codes` [outputs, inputs] are the weights in the ROM, of `code_width` bits. A product takes
    `width` bits; `left_out` [outputs] is what the sum of all products of an output lacks, in
    products' units, and `shift` by how many bits a unit of the hardware's product is larger.
    `number` are the integers that are multiplied: those of the stream, or their mantissas.

    `exponents` [outputs, inputs] of `exponent_width` bits are those of the weights' blocks,
    `in_exponent_width` are the bits of a block's exponent on the stream (0: there are none).
    Numbers that are summed before they are shifted share their exponents: `blocks` are the sizes
    of the blocks that they must not leave.
    """

    kind: str
    codes: Ints
    code_width: int
    mantissa_width: int
    width: int
    left_out: Ints
    shift: int
    number: Fixed
    exponents: Ints
    exponent_width: int
    in_exponent_width: int
    blocks: tuple[int, ...]

    @property
    def scaled(self) -> bool:
        """Whether sums of products are shifted by exponents of blocks."""
        return self.in_exponent_width > 0 or self.exponent_width > 0

    @property
    def shift_width(self) -> int:
        """The bits of the two exponents' sum."""
        widths = (self.in_exponent_width, self.exponent_width)
        return max(widths) + (min(widths) > 0)

    @property
    def multiplies(self) -> bool:
        """Whether a product takes a multiplier."""
        return self.kind not in _LOGIC and min(self._factors) > _FEW_BITS

    @property
    def stored_width(self) -> int:
        """The bits of a number in the input buffer."""
        return 1 if self.kind == _XNOR else self.number.width

    @property
    def luts(self) -> int:
        """The 4-input LUTs of a product, beside its multiplier."""
        shifter = self.width * self._exponent_bits if self.kind in ("log", "minifloat") else 0
        if self.kind in _LOGIC:
            return shifter or self.width
        # An addition, and a choice for each of its operands.
        addition = 0 if self.multiplies else (1 + min(*self._factors, 2)) * (max(self._factors) + 2)
        return shifter + addition

    @property
    def equivalent_luts(self) -> int:
        """The 4-input LUTs of a product and its addition, were its multiplier made of them too."""
        a, b = self._factors
        # As Yosys does it: 8 by 8 bits take 208.
        return self.luts + self.width + 2 + (13 * a * b // 4 if self.multiplies else 0)

    @property
    def ffs(self) -> int:
        """The flip-flops within a product."""
        if self.kind != "minifloat":
            return 0
        return self.number.width + self.mantissa_width + 2 + self._exponent_bits

    @property
    def more_latency(self) -> int:
        """The cycles beyond those of integers: registers in front of the shifters."""
        return self.scaled + (self.kind == "minifloat")

    @property
    def _factors(self) -> tuple[int, int]:
        """The bits of the two numbers that are multiplied."""
        weight = self.mantissa_width + 2 if self.kind == "minifloat" else self.code_width
        return self.number.width + (not self.number.signed), weight

    @property
    def _exponent_bits(self) -> int:
        return self.code_width - self.mantissa_width - 1

    def summable(self, order: Ints, lanes: int) -> bool:
        """Whether groups of that many numbers, in that order, lie in one block each."""
        groups = order.reshape(-1, lanes)
        return all((groups // size == groups[:, :1] // size).all() for size in self.blocks)


# Asked for each of many foldings of a layer.
@lru_cache(maxsize=128)
def products_of(x: TensorType, weight: Parameter) -> Products:
    """Returns how x is multiplied by weights [outputs, inputs]."""
    coding, unit = _simplest(weight.format.coding(weight.integers), weight.values)
    kind = "integer" if coding.kind == "mxint" else coding.kind
    outputs, inputs = weight.values.shape
    exponents = np.zeros_like(weight.values)
    blocks = []
    if isinstance(weight.format, MxInt):
        size = weight.format.block_size
        exponents = weight.format.exponents(weight.values).repeat(size, axis=1)[:, :inputs]
        blocks += [size] if exponents.any() else []
    number, in_exponent_width = x.fixed, 0
    if isinstance(x.format, MxInt):
        number, in_exponent_width = Fixed(x.format.width, 0), x.format.exponent_width
        blocks.append(x.format.block_size)
    if kind == "binary" and _is_sign(x) and not blocks:
        kind, width = _XNOR, 1
    elif kind == "integer":
        width = number.width + coding.width
    else:
        low, high = (number.low, number.high) if in_exponent_width else (x.low, x.high)
        ends = [a * (b >> unit) for a in (low, high) for b in _ends(weight.values)]
        width = covering(min(*ends, 0) - 1, max(ends), 0).width
    return Products(
        kind=kind,
        codes=coding.codes,
        code_width=coding.width,
        mantissa_width=coding.parameters.get("MantissaWidth", 0),
        width=width,
        left_out=np.zeros(outputs, np.int64) if blocks else _left_out(kind, coding) << unit,
        shift=int(kind == _XNOR) + unit,
        number=number,
        exponents=exponents,
        exponent_width=int(exponents.max()).bit_length(),
        in_exponent_width=in_exponent_width,
        blocks=tuple(blocks),
    )


def _simplest(coding: Coding, values: Ints) -> tuple[Coding, int]:
    """Returns the coding that the cheapest product reads, and the bits that a unit of it is worth.

    Of integers: two bits are chosen from, powers of two are shifts, whatever their format is.
    """
    magnitudes = np.unique(np.abs(values[values != 0]))
    if coding.kind != "integer" or not magnitudes.size:
        return coding, 0
    low, high = _ends(values)
    if low >= -2 and high <= 1:
        return Coding("ternary", 2, values & 3), 0
    if (magnitudes & (magnitudes - 1)).any():
        return coding, 0
    unit, most = (int(m).bit_length() - 1 for m in (magnitudes[0], magnitudes[-1]))
    # The code of 2^k is k + 1, that of zero is 0.
    width = (most - unit + 1).bit_length()
    fields = np.ceil(np.log2(2 * np.maximum(np.abs(values), 1))).astype(np.int64) - unit
    codes = np.where(values == 0, 0, fields) | (values < 0).astype(np.int64) << width
    return Coding("log", width + 1, codes), unit


def _left_out(kind: str, coding: Coding) -> Ints:
    """Returns, per output, what the sum of the products lacks (in units of a product)."""
    outputs, inputs = coding.codes.shape
    if kind == _XNOR:
        # The sum of n products +-1 of which k are +1 is 2 k - n.
        return np.full(outputs, -inputs, np.int64)
    if kind not in _SIGNED_CODES:
        return np.zeros(outputs, np.int64)
    negative = coding.codes >> np.int64(coding.width - 1) & 1
    count: Ints = (1 - negative if kind == "binary" else negative).sum(axis=1)
    return count


def _ends(values: Ints) -> tuple[int, int]:
    return int(values.min()), int(values.max())


def _is_sign(x: TensorType) -> bool:
    """Whether a tensor holds nothing but +1 and -1."""
    levels = None if x.format is None else x.format.levels()
    return levels is not None and levels.tolist() == [-1, 1]
