"""Formats fitted to data: by the largest value, a percentile, squared error, or divergence (KL)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from chop.formats.base import Format, Options
from chop.formats.checks import checked_values, given_scales
from chop.formats.divergence import divergences, thresholds
from chop.formats.fixed import Fixed
from chop.formats.minifloat import floor_log2
from chop.formats.rounding import Floats
from chop.formats.scaled import Scaled

__all__ = ["Choice", "as_scales", "best_of", "candidate_tops", "choose_fixed", "choose_scaled"]
__all__ += ["quantisation_error", "rows_of", "sqnr_db"]

_F = TypeVar("_F", bound=Format)

# Values that a choice looks at: of a tensor, and of a tensor whose channels are fitted one by one.
_MOST_VALUES = 1 << 16
_MOST_CHANNEL_VALUES = 1 << 18
# Fractions tried, from the one at which nothing saturates: coarser, and finer with saturation.
_COARSER, _FINER = 1, 4
# The exponents of float32, in which fake quantisation runs; what is smaller becomes zero.
_WIDEST_FRAC = 126
# Exponents tried below the top one, where exponents are few.
_LOWER_TOPS = 2
# Clipping ranges tried for the least squared error, as fractions of the largest value.
_COARSE = np.linspace(1.0, 0.2, 17)
_FINE = np.linspace(-0.04, 0.04, 9)


@dataclass(frozen=True, slots=True)
class Choice:
    """A format and the error it makes: signal-to-quantisation-noise ratio in dB (inf: none)."""

    format: Fixed
    sqnr_db: float


def choose_fixed(
    values: Floats,
    width: int,
    signed: bool,
    most_frac: int | None = None,
    calibration: str = "mse",
    percentile: float = 99.99,
) -> Choice:
    """Returns the fixed-point format of that width that suits the values best.

    "max" and "percentile" take the finest fraction at which that magnitude does not saturate,
    "mse" that of the least squared error, "kl" that of the least divergence. `most_frac` bounds the
    fraction from above. Of equal errors the coarser fraction wins (it leaves the larger range).
    Raises FormatError when a value is not finite.
    """
    sample = _thinned(checked_values(values).reshape(-1), _MOST_VALUES)
    magnitudes = np.abs(sample) if signed else np.maximum(sample, 0.0)
    if calibration == "percentile" and magnitudes.size:
        largest = float(np.percentile(magnitudes, percentile))
    else:
        largest = float(np.abs(sample).max()) if sample.size else 0.0
    top = Fixed(width, 0, signed)
    if largest == 0.0:
        frac = width - signed
        return _choice(sample, Fixed(width, _bounded(frac, most_frac), signed))
    # Logarithms apart: the quotient of a subnormal would overflow.
    covering = math.floor(math.log2(max(top.high, 1)) - math.log2(largest))
    if calibration in ("max", "percentile"):
        return _choice(sample, Fixed(width, _bounded(covering, most_frac), signed))
    fractions = {_bounded(covering + step, most_frac) for step in range(-_COARSER, _FINER + 1)}
    formats = [Fixed(width, frac, signed) for frac in sorted(fractions)]
    if calibration == "kl":
        return _choice(sample, _least_divergent(magnitudes, formats, largest))
    errors = [quantisation_error(sample, format) for format in formats]
    return _choice(sample, formats[int(np.argmin(errors))])


def _least_divergent(magnitudes: Floats, formats: Sequence[Fixed], largest: float) -> Fixed:
    """Returns the format of the least divergence, of ever finer ones."""
    ranges = [format.high * format.step / largest for format in formats]
    # Of the ranges that hold every value only the finest is of use.
    useful = [k for k, after in enumerate([*ranges[1:], 0.0]) if after < 1.0]
    levels = [min(formats[k].high, math.ceil(largest / formats[k].step)) + 1 for k in useful]
    errors = divergences(magnitudes[np.newaxis], [min(ranges[k], 1.0) for k in useful], levels)
    return formats[useful[int(np.argmin(errors[:, 0]))]]


def choose_scaled(values: Floats, options: Options) -> Scaled:
    """Returns the scaled integer that suits the values: scales as given, or found from the range.

    The range [0, t] of magnitudes goes to the largest level, per tensor or for every index of
    axis 0: t is the largest value, its percentile, or where the squared error or the divergence is
    least. Scales are float32 values. Raises FormatError when a value is not finite.
    """
    array = checked_values(values)
    width, signed = options.width or 0, options.signed
    top = max(Scaled(width, (1.0,), signed).high, 1)
    scales = given_scales(Scaled.kind, array, options)
    if scales is not None:
        return Scaled(width, scales, signed)
    rows = rows_of(array, options.per_channel)
    most = _MOST_VALUES if len(rows) == 1 else _MOST_CHANNEL_VALUES
    rows = rows[:, :: max(-(-rows.size // most), 1)]
    magnitudes = np.abs(rows) if signed else np.maximum(rows, 0.0)
    largest = magnitudes.max(axis=1, initial=0.0)
    if options.calibration == "percentile" and magnitudes.size:
        largest = np.percentile(magnitudes, options.percentile, axis=1)
    elif options.calibration == "kl":
        largest = thresholds(magnitudes, top + 1)
    elif options.calibration == "mse":
        lowest = Scaled(width, (1.0,), signed).low
        largest = largest * _least_squares(rows, largest / top, lowest, top)
    return Scaled(width, as_scales(largest / top), signed)


def _least_squares(rows: Floats, scales: Floats, low: int, high: int) -> Floats:
    """Returns, per row, the factor on its scale with the least squared error."""
    best = np.ones(len(rows))
    if not rows.size:
        return best
    rows = rows / np.where(scales > 0, scales, 1.0)[:, np.newaxis]
    least = np.full(len(rows), np.inf)
    rounded = np.empty_like(rows)
    for offsets in (_COARSE, _FINE):
        start = best.copy() if offsets is _FINE else np.zeros_like(best)
        for offset in offsets:
            factor = start + offset
            np.divide(rows, factor[:, np.newaxis], out=rounded)
            np.rint(rounded, out=rounded)
            np.clip(rounded, low, high, out=rounded)
            np.multiply(rounded, factor[:, np.newaxis], out=rounded)
            np.subtract(rounded, rows, out=rounded)
            error = np.einsum("ij,ij->i", rounded, rounded)
            better = error < least
            best, least = np.where(better, factor, best), np.minimum(least, error)
    return best


def best_of(formats: Sequence[_F], standard: _F, values: Floats, options: Options) -> _F:
    """Returns the first format by "max" and "percentile", else that of the least squared error.

    Of equal errors the standard format wins, then the first. (Levels of many exponents have no
    histogram of equal bins, so "kl" counts as "mse".)
    """
    if options.calibration in ("max", "percentile"):
        return formats[0]
    sample = _thinned(values.reshape(-1), _MOST_VALUES)
    every = (standard, *formats)
    return every[int(np.argmin([quantisation_error(sample, format) for format in every]))]


def candidate_tops(values: Floats, options: Options) -> list[int]:
    """Returns exponents to try for the top of a range; the first is that of the largest value.

    By "percentile" the largest value is the percentile of the magnitudes.
    """
    magnitudes = np.abs(values)
    largest = float(magnitudes.max(initial=0.0))
    if options.calibration == "percentile" and values.size:
        largest = float(np.percentile(magnitudes, options.percentile))
    if largest == 0.0:
        return [0]
    top = int(np.clip(floor_log2(np.array(largest)), -_WIDEST_FRAC, _WIDEST_FRAC))
    return [top, top + 1, *(top - k for k in range(1, _LOWER_TOPS + 1))]


def as_scales(scales: Floats) -> tuple[float, ...]:
    """Returns positive float32 scales; a channel of zeros gets the largest scale of the others."""
    largest = float(scales.max(initial=0.0)) or 1.0
    filled = np.where(scales > 0, scales, largest)
    # Normal numbers of float32, with room for products.
    return tuple(np.clip(filled, 2.0**-100, 2.0**100).astype(np.float32).tolist())


def quantisation_error(values: Floats, format: Format) -> float:
    """Returns the mean squared error of rounding the values to the format."""
    difference = _rounded(values, format) - values
    return float(np.mean(difference * difference)) if values.size else 0.0


def sqnr_db(values: Floats, format: Format) -> float:
    """Returns the signal-to-quantisation-noise ratio of the values in the format, in dB."""
    noise = quantisation_error(values, format)
    signal = float(np.mean(values * values)) if values.size else 0.0
    if noise == 0.0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def _rounded(values: Floats, format: Format) -> Floats:
    if format.carrier is not None:
        return format.from_integers(format.to_integers(values))
    import torch

    from chop.formats.rounding import Rounding

    tensor = torch.from_numpy(np.ascontiguousarray(values, np.float64))
    result: Floats = format.quantize(tensor, Rounding.HALF_UP)[0].numpy()
    return result


def rows_of(values: Floats, per_channel: bool) -> Floats:
    """Returns the values as [channels, n], or as [1, n]."""
    channels = values.shape[0] if per_channel and values.ndim else 1
    return values.reshape(channels, values.size // channels if channels else 0)


def _thinned(sample: Floats, most: int) -> Floats:
    return sample[:: -(-sample.size // most)] if sample.size > most else sample


def _bounded(frac_width: int, most: int | None) -> int:
    frac_width = max(-_WIDEST_FRAC, min(_WIDEST_FRAC, frac_width))
    return frac_width if most is None else min(frac_width, most)


def _choice(values: Floats, format: Fixed) -> Choice:
    return Choice(format, sqnr_db(values, format))
