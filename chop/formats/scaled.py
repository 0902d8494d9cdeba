"""Scaled integers: the levels k * e, with a scale e per tensor or per channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from chop.errors import FormatError
from chop.formats.base import Format, Options
from chop.formats.checks import check_options
from chop.formats.fake import round_in_place, saturate_in_place, scale_tensor
from chop.formats.fixed import Fixed
from chop.formats.rounding import Floats, Ints, Rounding, round_half
from chop.formats.scale import Scale, along

if TYPE_CHECKING:
    import torch

__all__ = ["Scaled"]


@dataclass(frozen=True, slots=True)
class Scaled(Format):
    """An integer of `width` bits times a positive real: scales[0], or scales[c] for channel c.

    Channels lie along axis 0 of constants; a stream has one scale. `symmetric` leaves out the
    lowest level of a signed format, so that the levels are those of -x. Raises FormatError for a
    width outside 1..32 or a scale that is not positive and finite.
    """

    width: int
    scales: tuple[float, ...]
    signed: bool = True
    symmetric: bool = False

    kind: ClassVar[str] = "scaled_integer"
    summary: ClassVar[str] = "scaled integer: k * scale, per tensor or per channel"
    options: ClassVar[frozenset[str]] = frozenset({"width", "signed", "scale", "per_channel"})
    hardware: ClassVar[frozenset[str]] = frozenset({"weight", "bias", "data"})

    def __post_init__(self) -> None:
        if not 1 <= self.width <= 32:
            raise FormatError(f"scaled integer: width must be in 1..32, got {self.width}")
        if self.symmetric and self.width < 2:
            raise FormatError("scaled integer: one signed bit has no symmetric levels; use binary")
        Scale.of(np.array(self.scales))

    def __str__(self) -> str:
        low, high = min(self.scales), max(self.scales)
        scale = f"{low:.4g}" if low == high else f"{low:.4g}..{high:.4g}"
        return f"{'s' if self.signed else 'u'}{self.width}x{scale}"

    @classmethod
    def fit(cls, values: Floats, options: Options) -> Scaled:
        from chop.formats.calibrate import choose_scaled

        check_options(cls, options)
        return choose_scaled(values, options)

    @property
    def bits(self) -> float:
        return self.width

    @property
    def carrier(self) -> Fixed:
        return Fixed(self.width, 0, self.signed)

    @property
    def scale(self) -> Scale | None:
        return Scale.of(np.array(self.scales))

    @property
    def low(self) -> int:
        return self.carrier.low + self.symmetric

    @property
    def high(self) -> int:
        return self.carrier.high

    def quantize(
        self, x: torch.Tensor, rounding: Rounding
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        scale = scale_tensor(self.scales, x)
        scaled, inside = saturate_in_place(x / scale, self.low, self.high)
        return round_in_place(scaled, rounding).mul_(scale), inside

    def to_integers(self, values: Floats, rounding: Rounding = Rounding.HALF_UP) -> Ints:
        scaled = values / along(self.scales, values.ndim)
        if np.isnan(scaled).any():
            raise FormatError(f"{self}: cannot quantise NaN; mend the model or its input")
        inside = np.clip(scaled, float(self.low), float(self.high))
        return round_half(inside, rounding).astype(np.int64)

    def from_integers(self, levels: Ints) -> Floats:
        return levels * along(self.scales, levels.ndim)
