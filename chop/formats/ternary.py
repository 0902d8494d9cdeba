"""Ternary: -1, 0 or +1 times a scale (products are additions, subtractions, or nothing)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from chop.errors import FormatError
from chop.formats.base import Coding, Format, Integers, Options
from chop.formats.calibrate import as_scales, rows_of
from chop.formats.checks import check_options, checked_values, given_scales
from chop.formats.fake import round_in_place, saturate_in_place, scale_tensor
from chop.formats.fixed import Fixed
from chop.formats.rounding import Floats, Ints, Rounding, round_half
from chop.formats.scale import Scale, along

if TYPE_CHECKING:
    import torch

__all__ = ["Ternary"]


@dataclass(frozen=True, slots=True)
class Ternary(Format):
    """The integers -1, 0, +1 times scales[0], or scales[c] for index c of axis 0.

    Zero is where |x| is below half a scale (in the rounding modes that take the nearest level).
    Raises FormatError for a scale that is not positive and finite.
    """

    scales: tuple[float, ...]

    kind: ClassVar[str] = "ternary"
    summary: ClassVar[str] = "two bits: -1, 0 or +1, times a scale per tensor or per channel"
    options: ClassVar[frozenset[str]] = frozenset({"scale", "per_channel"})
    required: ClassVar[frozenset[str]] = frozenset()
    hardware: ClassVar[frozenset[str]] = frozenset({"weight", "data"})

    def __post_init__(self) -> None:
        Scale.of(np.array(self.scales))

    def __str__(self) -> str:
        return f"ternary{Scale.of(np.array(self.scales)) or ''}"

    @classmethod
    def fit(cls, values: Floats, options: Options) -> Ternary:
        """Returns the format; a scale not given has the least squared error, by every calibration.

        Of all sets of values that are not zero the best is the k largest magnitudes, at their mean,
        for the k with the largest (sum of them)^2 / k (Li et al., Ternary Weight Networks, 2016,
        eq. 5: exactly, where they take 0.7 mean |x| for the threshold). Half that scale separates
        them from the others: a magnitude on the wrong side would make another set better.
        """
        check_options(cls, options)
        array = checked_values(values)
        scales = given_scales(cls.kind, array, options)
        if scales is None:
            rows = rows_of(array, options.per_channel)
            scales = as_scales(_best_scales(rows) if rows.size else np.zeros(1))
        return cls(scales)

    @property
    def bits(self) -> float:
        return 2

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
        """Returns the levels; the gradient passes within half a step of the outer ones."""
        scale = scale_tensor(self.scales, x)
        scaled, inside = saturate_in_place(x / scale, -1.5, 1.5)
        return round_in_place(scaled.clamp_(-1.0, 1.0), rounding).mul_(scale), inside

    def to_integers(self, values: Floats, rounding: Rounding = Rounding.HALF_UP) -> Ints:
        scaled = values / along(self.scales, values.ndim)
        if np.isnan(scaled).any():
            raise FormatError(f"{self}: cannot quantise NaN; mend the model or its input")
        return round_half(np.clip(scaled, -1.0, 1.0), rounding).astype(np.int64)

    def from_integers(self, levels: Ints) -> Floats:
        return levels * along(self.scales, levels.ndim)

    def coding(self, constants: Integers) -> Coding:
        """Returns two's complement in two bits."""
        return Coding("ternary", 2, constants.values & 3)


def _best_scales(rows: Floats) -> Floats:
    """Returns, per row [rows, n], the mean of the k largest magnitudes for the best k."""
    sums = np.cumsum(np.sort(np.abs(rows), axis=1)[:, ::-1], axis=1)
    counts = np.arange(1, rows.shape[1] + 1)
    best = (sums * sums / counts).argmax(axis=1)
    result: Floats = sums[np.arange(len(rows)), best] / (best + 1)
    return result
