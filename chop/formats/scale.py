"""Exact real factors of integer tensors."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np

from chop.errors import FormatError
from chop.formats.rounding import Floats

__all__ = ["Scale", "along"]


@dataclass(frozen=True, slots=True)
class Scale:
    """What one step of a tensor's integers is worth, beside its 2^-frac_width: exact and positive.

    One factor, or one per channel: the factors then lie along the axis that has `trailing` axes
    behind it. A scale of one is written as no Scale at all.
    """

    factors: tuple[Fraction, ...]
    trailing: int = 0

    def __post_init__(self) -> None:
        if not self.factors or min(self.factors) <= 0:
            raise FormatError("a scale must be positive; calibrate on data that are not all zero")

    @staticmethod
    def of(values: float | Floats) -> Scale | None:
        """Returns the scale of these float64 factors, each taken exactly; None where all are 1."""
        array = np.atleast_1d(np.asarray(values, np.float64))
        if not np.isfinite(array).all():
            raise FormatError("a scale must be finite; mend the model or the calibration data")
        return Scale(tuple(Fraction(v) for v in array.tolist())).simplified()

    def simplified(self) -> Scale | None:
        """Returns the same scale in the shortest form: equal factors are one, a one is None."""
        if any(f != self.factors[0] for f in self.factors):
            return self
        return None if self.factors[0] == 1 else Scale(self.factors[:1])

    @property
    def per_channel(self) -> bool:
        return len(self.factors) > 1

    def floats(self) -> Floats:
        """Returns the nearest float64 factors, shaped to broadcast against the tensor."""
        return _floats(self)

    def behind(self, trailing: int) -> Scale:
        """Returns the scale with its channel axis at another place."""
        return Scale(self.factors, trailing if self.per_channel else 0)

    def times(self, other: Scale | None) -> Scale | None:
        """Returns the product. Raises FormatError when both are per channel and do not match."""
        if other is None:
            return self
        a, b = self, other
        if not a.per_channel:
            a, b = b, a
        if b.per_channel and (len(a.factors), a.trailing) != (len(b.factors), b.trailing):
            raise FormatError(
                f"scales of {len(a.factors)} and {len(b.factors)} channels do not match; "
                "cast one of the tensors to one scale first"
            )
        right = b.factors if b.per_channel else b.factors * len(a.factors)
        products = (f * g for f, g in zip(a.factors, right, strict=True))
        return Scale(tuple(products), a.trailing).simplified()

    def __str__(self) -> str:
        low, high = float(min(self.factors)), float(max(self.factors))
        return f"x{low:.4g}" if low == high else f"x{low:.4g}..{high:.4g}"


def along(scales: tuple[float, ...], rank: int) -> Floats:
    """Returns the scales shaped for axis 0 of an array of that rank, or the one scale."""
    array = np.array(scales, np.float64)
    result: Floats = array.reshape(-1, *([1] * (rank - 1))) if len(array) > 1 else array[0]
    return result


@cache
def _floats(scale: Scale) -> Floats:
    values = np.array([float(f) for f in scale.factors])
    shaped = values.reshape(-1, *([1] * scale.trailing)) if scale.per_channel else values[0]
    result: Floats = np.asarray(shaped, np.float64)
    result.setflags(write=False)
    return result
