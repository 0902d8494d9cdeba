"""Fractions chosen from data: the smallest mean squared error."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from chop.errors import FormatError
from chop.formats.fixed import Fixed
from chop.formats.rounding import Floats

__all__ = ["Choice", "choose_fixed", "quantisation_error"]

_MOST_VALUES = 1 << 16
# Fractions tried, from the one at which nothing saturates: coarser, and finer with saturation.
_COARSER, _FINER = 1, 4
# The exponents of float32, in which fake quantisation runs; what is smaller becomes zero.
_WIDEST_FRAC = 126


@dataclass(frozen=True, slots=True)
class Choice:
    """A format and the error it makes: signal-to-quantisation-noise ratio in dB (inf: none)."""

    format: Fixed
    sqnr_db: float


def choose_fixed(values: Floats, width: int, signed: bool, most_frac: int | None = None) -> Choice:
    """Returns the fixed-point format of that width with the least squared error on the values.

    `most_frac` bounds the fraction from above. Of equal errors the coarser fraction wins (it leaves
    the larger range). Raises FormatError when a value is not finite.
    """
    sample = np.asarray(values, np.float64).reshape(-1)
    if not np.isfinite(sample).all():
        raise FormatError("calibration values must be finite; mend the model or the data")
    if sample.size > _MOST_VALUES:
        sample = sample[:: -(-sample.size // _MOST_VALUES)]
    largest = float(np.abs(sample).max()) if sample.size else 0.0
    top = Fixed(width, 0, signed)
    if largest == 0.0:
        frac = width - signed
        return _choice(sample, Fixed(width, _bounded(frac, most_frac), signed))
    # Logarithms apart: the quotient of a subnormal would overflow.
    covering = math.floor(math.log2(max(top.high, 1)) - math.log2(largest))
    fractions = {_bounded(covering + step, most_frac) for step in range(-_COARSER, _FINER + 1)}
    formats = [Fixed(width, frac, signed) for frac in sorted(fractions)]
    errors = [quantisation_error(sample, format) for format in formats]
    return _choice(sample, formats[int(np.argmin(errors))])


def quantisation_error(values: Floats, format: Fixed) -> float:
    """Returns the mean squared error of rounding the values to the format."""
    difference = format.from_integers(format.to_integers(values)) - values
    return float(np.mean(difference * difference)) if values.size else 0.0


def _bounded(frac_width: int, most: int | None) -> int:
    frac_width = max(-_WIDEST_FRAC, min(_WIDEST_FRAC, frac_width))
    return frac_width if most is None else min(frac_width, most)


def _choice(values: Floats, format: Fixed) -> Choice:
    return Choice(format, sqnr_db(values, format))


def sqnr_db(values: Floats, format: Fixed) -> float:
    """Returns the signal-to-quantisation-noise ratio of the values in the format, in dB."""
    noise = quantisation_error(values, format)
    signal = float(np.mean(values * values)) if values.size else 0.0
    if noise == 0.0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf
