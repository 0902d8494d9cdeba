"""How the hardware multiplies a stream by constant weights: what chop_linear is told of both."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from chop.formats.fixed import Fixed, covering
from chop.formats.rounding import Ints
from chop.ir.tensor_type import Parameter, TensorType

__all__ = ["Products", "products_of"]

# The coding of data and weights that are all +1 or -1: a product is one bit.
_XNOR = "xnor"
# Codes with a sign of their own; the product leaves out the 1 that a negation adds.
_SIGNED_CODES = frozenset({"binary", "ternary", "log", "minifloat"})
# Without a multiplier.
_LOGIC = frozenset({"binary", "ternary", "log", _XNOR})


@dataclass(frozen=True, slots=True, eq=False)
class Products:
    """One number of the stream times one weight, in the terms of `chop_product.sv`.

    `codes` [outputs, inputs] are the weights in the ROM, of `code_width` bits. A product takes
    `width` bits; `left_out` [outputs] is what the sum of all products of an output lacks, in
    products' units, and `shift` by how many bits a unit of the hardware's product is larger.
    `number` are the integers that are multiplied: those of the stream, or their mantissas.
    """

    kind: str
    codes: Ints
    code_width: int
    mantissa_width: int
    width: int
    left_out: Ints
    shift: int
    number: Fixed

    @property
    def multiplies(self) -> bool:
        """Whether a product takes a multiplier."""
        return self.kind not in _LOGIC

    @property
    def stored_width(self) -> int:
        """The bits of a number in the input buffer."""
        return 1 if self.kind == _XNOR else self.number.width

    @property
    def luts(self) -> int:
        """The 4-input LUTs of a product, beside its multiplier."""
        if self.kind in ("log", "minifloat"):
            # A selection per bit for each bit of the exponent, the shift's own bits, the sign.
            exponent = self.code_width - self.mantissa_width - 1
            return self.width * (exponent + 1) + 2 * exponent
        return 0 if self.kind == "integer" else self.width


# Asked for each of many foldings of a layer.
@lru_cache(maxsize=128)
def products_of(x: TensorType, weight: Parameter) -> Products:
    """Returns how x is multiplied by weights [outputs, inputs]."""
    coding = weight.format.coding(weight.integers)
    outputs, inputs = weight.values.shape
    mantissa_width = coding.parameters.get("MantissaWidth", 0)
    none = np.zeros(outputs, np.int64)
    if coding.kind == "binary" and _is_sign(x):
        # The sum of n products +-1 of which k are +1 is 2 k - n.
        left_out = none - inputs
        return Products(_XNOR, coding.codes, 1, 0, 1, left_out, 1, x.fixed)
    if coding.kind not in _SIGNED_CODES:
        width = x.fixed.width + coding.width
        return Products(coding.kind, coding.codes, coding.width, 0, width, none, 0, x.fixed)
    negative = coding.codes >> np.int64(coding.width - 1) & 1
    if coding.kind == "binary":
        negative = 1 - negative
    ends = [
        int(a) * int(b) for a in (x.low, x.high) for b in (weight.values.min(), weight.values.max())
    ]
    return Products(
        coding.kind,
        coding.codes,
        coding.width,
        mantissa_width,
        covering(min(*ends, 0) - 1, max(ends), 0).width,
        negative.sum(axis=1),
        0,
        x.fixed,
    )


def _is_sign(x: TensorType) -> bool:
    """Whether a tensor holds nothing but +1 and -1."""
    levels = None if x.format is None else x.format.levels()
    return levels is not None and levels.tolist() == [-1, 1]
