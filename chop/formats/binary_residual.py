"""Binary residual: sums of +-a1 +-a2 .., each scale fitted to what the ones before leave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from chop.errors import FormatError
from chop.formats.base import Format, Options
from chop.formats.calibrate import as_scales, rows_of
from chop.formats.checks import check_options, checked_values
from chop.formats.fake import in_float64
from chop.formats.rounding import Floats, Ints, Rounding

if TYPE_CHECKING:
    import torch

__all__ = ["BinaryResidual"]


@dataclass(frozen=True, slots=True)
class BinaryResidual(Format):
    """`width` bits, a sum of as many binary terms: the levels +-scales[c][0] +-scales[c][1] ...

    One tuple of scales, or one for every index of axis 0. A value goes to the nearest level; a tie
    of half_even to the one with an even index in ascending order. Raises FormatError for a width
    outside 1..8 and for scales that are not positive and finite.

    Ghasemzadeh et al., ReBNet (2018); Guo et al., Network Sketching (2017).
    """

    scales: tuple[tuple[float, ...], ...]

    kind: ClassVar[str] = "binary_residual"
    summary: ClassVar[str] = "sums of `width` binary terms: +-a1 +-a2 .."
    options: ClassVar[frozenset[str]] = frozenset({"width", "per_channel"})

    def __post_init__(self) -> None:
        widths = {len(channel) for channel in self.scales}
        if len(widths) != 1 or not 1 <= min(widths) <= 8:
            raise FormatError(f"{self.kind}: width must be in 1..8, got {sorted(widths)}")
        array = np.array(self.scales)
        if not (np.isfinite(array) & (array > 0)).all():
            raise FormatError(f"{self.kind}: scales must be positive and finite")

    def __str__(self) -> str:
        return f"residual{len(self.scales[0])}"

    @classmethod
    def fit(cls, values: Floats, options: Options) -> BinaryResidual:
        """Returns the format; every scale is the mean magnitude of what those before it leave.

        That has the least squared error for the signs of the residue, by every calibration.
        """
        check_options(cls, options)
        width = options.width or 0
        if not 1 <= width <= 8:
            raise FormatError(f"{cls.kind}: width must be in 1..8, got {width}")
        residue = rows_of(checked_values(values), options.per_channel)
        if not residue.size:
            residue = np.zeros((1, 1))
        terms = []
        for _ in range(width):
            scale = np.array(as_scales(np.abs(residue).mean(axis=1)))
            terms.append(scale)
            residue = residue - np.where(residue >= 0, 1.0, -1.0) * scale[:, np.newaxis]
        return cls(tuple(tuple(channel) for channel in np.stack(terms, axis=1).tolist()))

    @property
    def bits(self) -> float:
        return len(self.scales[0])

    def real_levels(self) -> Floats:
        """Returns the levels [channels, 2^width], ascending."""
        sums = np.zeros((len(self.scales), 1))
        for scale in np.array(self.scales).T:
            sums = np.concatenate([sums - scale[:, np.newaxis], sums + scale[:, np.newaxis]], 1)
        return np.sort(sums, axis=1)

    def quantize(
        self, x: torch.Tensor, rounding: Rounding
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Returns the nearest levels; the gradient passes everywhere."""
        levels = self.real_levels()

        def nearest(values: Floats) -> Floats:
            if len(levels) == 1:
                return _nearest(values, levels[0], rounding)
            channels = zip(values, levels, strict=True)
            return np.stack([_nearest(row, level, rounding) for row, level in channels])

        return in_float64(x, nearest), None

    def to_integers(self, values: Floats, rounding: Rounding = Rounding.HALF_UP) -> Ints:
        raise FormatError(f"{self}: has no integers; it is fake-quantised in software only")

    def from_integers(self, levels: Ints) -> Floats:
        raise FormatError(f"{self}: has no integers; it is fake-quantised in software only")


def _nearest(values: Floats, levels: Floats, rounding: Rounding) -> Floats:
    """Returns the level of every value; levels are ascending."""
    if rounding is Rounding.FLOOR:
        index = np.searchsorted(levels[1:], values, side="right")
    else:
        middles = levels[:-1] / 2 + levels[1:] / 2
        index = np.searchsorted(middles, values, side="right")
        if rounding is Rounding.HALF_EVEN:
            tie = np.append(middles, np.nan)[np.maximum(index - 1, 0)] == values
            index = index - (tie & (index % 2 == 1))
    result: Floats = np.where(np.isnan(values), np.nan, levels[index])
    return result
