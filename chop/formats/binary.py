"""Binary: one bit a value, -1 or +1 times a scale (products are XNOR and a population count)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from chop.errors import FormatError
from chop.formats.base import Boundary, Coding, Format, Integers, Options
from chop.formats.calibrate import as_scales, rows_of
from chop.formats.checks import check_options, checked_values, given_scales
from chop.formats.fake import saturate_in_place, scale_tensor
from chop.formats.fixed import Fixed
from chop.formats.rounding import Floats, Ints, Rounding
from chop.formats.scale import Scale, along

if TYPE_CHECKING:
    import torch

__all__ = ["Binary"]


@dataclass(frozen=True, slots=True)
class Binary(Format):
    """-1 where a value is below zero and +1 elsewhere, times scales[0], or scales[c] on axis 0.

    Every rounding mode does that: to go down to the next level would leave only -1. Raises
    FormatError for a scale that is not positive and finite.
    """

    scales: tuple[float, ...]

    kind: ClassVar[str] = "binary"
    summary: ClassVar[str] = "one bit: -1 or +1, times a scale per tensor or per channel"
    options: ClassVar[frozenset[str]] = frozenset({"scale", "per_channel"})
    required: ClassVar[frozenset[str]] = frozenset()
    hardware: ClassVar[frozenset[str]] = frozenset({"weight", "data"})

    def __post_init__(self) -> None:
        Scale.of(np.array(self.scales))

    def __str__(self) -> str:
        return f"binary{Scale.of(np.array(self.scales)) or ''}"

    @classmethod
    def fit(cls, values: Floats, options: Options) -> Binary:
        """Returns the format; a scale not given is mean |x|, that of the least squared error.

        Rastegari et al., XNOR-Net (2016), eq. 6. It is so by every calibration.
        """
        check_options(cls, options)
        array = checked_values(values)
        scales = given_scales(cls.kind, array, options)
        if scales is None:
            rows = np.abs(rows_of(array, options.per_channel))
            scales = as_scales(rows.mean(axis=1) if rows.size else np.zeros(1))
        return cls(scales)

    @property
    def bits(self) -> float:
        return 1

    @property
    def carrier(self) -> Fixed:
        return Fixed(2, 0)

    @property
    def scale(self) -> Scale | None:
        return Scale.of(np.array(self.scales))

    @property
    def low(self) -> int:
        return -1

    @property
    def high(self) -> int:
        return 1

    def quantize(
        self, x: torch.Tensor, rounding: Rounding
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Returns the levels; the gradient passes where x lies within a step of the nearest one.

        That is within two scales of zero, the cells of the levels in a format of more of them.
        """
        import torch

        x = x.detach()
        scale = scale_tensor(self.scales, x)
        scaled, inside = saturate_in_place(x / scale, -2.0, 2.0)
        result = torch.ge(x, 0, out=torch.empty_like(x)).mul_(2.0).sub_(1.0).mul_(scale)
        # A NaN is not above zero, nor must it become -1.
        return result.add_(scaled.sub_(scaled)), inside

    def levels(self) -> Ints | None:
        return np.array([-1, 1], np.int64)

    def boundaries(self, rounding: Rounding) -> tuple[Boundary, ...]:
        """Returns the one boundary: zero belongs to +1 in every mode."""
        return (Boundary(Fraction(0), True),)

    def to_integers(self, values: Floats, rounding: Rounding = Rounding.HALF_UP) -> Ints:
        if np.isnan(values).any():
            raise FormatError(f"{self}: cannot quantise NaN; mend the model or its input")
        return np.where(np.asarray(values) >= 0, np.int64(1), np.int64(-1))

    def from_integers(self, levels: Ints) -> Floats:
        return levels * along(self.scales, levels.ndim)

    def coding(self, constants: Integers) -> Coding:
        """Returns one bit each: 1 is +1, 0 is -1."""
        return Coding("binary", 1, (constants.values + 1) >> 1)
