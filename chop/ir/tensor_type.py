"""What a tensor is, for one sample: its shape, its number format and the integers it can reach."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from chop.errors import ShapeError, UnsupportedOpError
from chop.formats.base import Format, Integers
from chop.formats.fixed import Fixed, covering
from chop.formats.rounding import Ints
from chop.formats.scale import Scale

__all__ = [
    "FREE_LAYOUT",
    "Layout",
    "Parameter",
    "TensorType",
    "aligned_frac_width",
    "channels_last",
    "same_order",
    "stream_permutation",
]

# The (C, H, W) whose channels-last order a stream has; None is the tensor's own row-major order.
Layout = tuple[int, int, int] | None
# Where an operator that can give any order is asked for none.
FREE_LAYOUT: Layout = (0, 0, 0)


@dataclass(frozen=True, slots=True)
class TensorType:
    """The type of one sample of a tensor; the batch dimension is not part of it.

    `format` is None while the tensor is in floating point. `low` and `high` bound the integers that
    the tensor can hold, often tighter than the format's levels. `layout` is the order in which a
    stream carries the elements; it survives reshapes, which keep the row-major index. A real value
    is its integer * 2^-fixed.frac_width * scale (None: 1).
    """

    shape: tuple[int, ...]
    format: Format | None = None
    low: int = 0
    high: int = 0
    layout: Layout = None
    scale: Scale | None = None

    @staticmethod
    def of(shape: tuple[int, ...], format: Format, layout: Layout = None) -> TensorType:
        """The type of a tensor that may hold every level of its format.

        A format without integers (software only) has no bounds.
        """
        if format.carrier is None:
            return TensorType(shape, format, 0, 0, layout)
        return TensorType(shape, format, format.low, format.high, layout, format.scale)

    @staticmethod
    def bounded(
        shape: tuple[int, ...],
        low: int,
        high: int,
        frac_width: int,
        layout: Layout = None,
        scale: Scale | None = None,
    ) -> TensorType:
        """The type of a tensor in the narrowest format that holds [low, high]."""
        return TensorType(shape, covering(low, high, frac_width), low, high, layout, scale)

    @property
    def elements(self) -> int:
        """Elements per sample."""
        return math.prod(self.shape)

    @property
    def exact(self) -> bool:
        """Whether the tensor is carried by integers: in a format, and one that has them."""
        return self.format is not None and self.format.carrier is not None

    @property
    def fixed(self) -> Fixed:
        """The integers that carry the tensor. Raises ShapeError (our bug) when it is in float."""
        if self.format is None:
            raise ShapeError(f"a tensor of shape {self.shape} is still in floating point")
        return self.format.held()

    @property
    def coded(self) -> bool:
        """Whether a stream carries words of the format's own in place of the integers."""
        return self.format is not None and type(self.format).encode is not Format.encode

    @property
    def stream_width(self) -> int:
        """The bits of one element on a stream."""
        return self.fixed.width if self.format is None else self.format.stream_width

    def __str__(self) -> str:
        shape = "x".join(map(str, self.shape)) or "1"
        return f"{shape} {self.format or 'float'}"


@dataclass(frozen=True, slots=True, eq=False)
class Parameter:
    """A constant of a layer as integers in the format that it was given."""

    integers: Integers
    format: Format

    @property
    def values(self) -> Ints:
        """The integers: real value = values * 2^-fixed.frac_width * scale (axis 0)."""
        return self.integers.values

    @property
    def fixed(self) -> Fixed:
        """The fixed-point format that holds the integers."""
        return self.integers.carrier

    @property
    def scale(self) -> Scale | None:
        """What a step is worth beside 2^-frac_width: one factor, or one per index of axis 0."""
        return self.integers.scale


def aligned_frac_width(addend: Parameter, scale: Scale | None, who: str) -> int:
    """Returns f such that a step of the addend is worth 2^-f of a step of that scale, exactly.

    Raises UnsupportedOpError where the ratio of the two is not one power of two.
    """
    ratio = _ratio(addend.scale, scale)
    if ratio is None:
        raise UnsupportedOpError(
            f"node '{who}': the bias, of scale {addend.scale or 'x1'}, cannot be added to products "
            f"of scale {scale or 'x1'} exactly; give the bias the format of its layer"
        )
    return addend.fixed.frac_width - ratio


def _ratio(a: Scale | None, b: Scale | None) -> int | None:
    """Returns log2(a / b) where it is one integer."""
    left, right = a.factors if a else (Fraction(1),), b.factors if b else (Fraction(1),)
    count = max(len(left), len(right))
    if {len(left), len(right)} - {1, count}:
        return None
    pairs = zip(left * (count // len(left)), right * (count // len(right)), strict=True)
    ratios = {x / y for x, y in pairs}
    (ratio, *others) = ratios
    exponent = ratio.numerator.bit_length() - ratio.denominator.bit_length()
    return None if others or ratio != Fraction(2) ** exponent else exponent


def channels_last(shape: tuple[int, ...]) -> Layout:
    """Returns the layout of a stream of [C, H, W] or [C, L] with its channels innermost.

    None where that is the row-major order: of one channel, and of one pixel.
    """
    channels, height, width = (shape[0], 1, shape[1]) if len(shape) == 2 else shape
    return None if channels == 1 or height * width == 1 else (channels, height, width)


def same_order(a: Layout, b: Layout) -> bool:
    """Returns whether two layouts of tensors of one size are the same order of elements."""
    return a == b or (a is not None and b is not None and a[0] == b[0])


def stream_permutation(elements: int, layout: Layout) -> Ints:
    """Returns the row-major index of the element at every stream position."""
    indices = np.arange(elements, dtype=np.int64)
    if layout is None:
        return indices
    return indices.reshape(layout).transpose(1, 2, 0).reshape(-1)
