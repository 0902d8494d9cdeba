"""What every format checks of its options and of the values that it is fitted to."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from chop.errors import FormatError, did_you_mean
from chop.formats.base import Format, Options
from chop.formats.rounding import Floats

__all__ = ["CALIBRATIONS", "check_options", "checked_values", "given_scales"]

CALIBRATIONS = ("max", "percentile", "mse", "kl")

# Said of every tensor by those who do not know its format; a format that is always signed, or that
# has no fraction, holds what these ask for anyhow.
_FOR_ALL = frozenset({"calibration", "percentile", "signed"})
_DEFAULT = Options()


def check_options(format: type[Format], options: Options) -> None:
    """Raises FormatError for an option that the format has no use for, or one that it lacks."""
    for name in (field.name for field in fields(Options)):
        if name in _FOR_ALL or name in format.options:
            continue
        if getattr(options, name) != getattr(_DEFAULT, name):
            known = ", ".join(sorted(format.options))
            raise FormatError(f"{format.kind}: has no option '{name}'; it takes {known}")
    for name in sorted(format.required):
        if getattr(options, name) is None:
            raise FormatError(f"{format.kind}: needs the option '{name}'")
    if options.calibration not in CALIBRATIONS:
        raise FormatError(
            f"{format.kind}: no calibration '{options.calibration}'"
            f"{did_you_mean(options.calibration, CALIBRATIONS)}"
        )
    if not 0 < options.percentile <= 100:
        raise FormatError(
            f"{format.kind}: percentile must be above 0 and at most 100, got {options.percentile}"
        )


def checked_values(values: Floats) -> Floats:
    """Returns the values in float64. Raises FormatError when one is not finite."""
    array = np.asarray(values, np.float64)
    if not np.isfinite(array).all():
        raise FormatError("calibration values must be finite; mend the model or the data")
    return array


def given_scales(kind: str, values: Floats, options: Options) -> tuple[float, ...] | None:
    """Returns the scales that the options give, each the nearest float32; None: none given.

    Raises FormatError when they are not one, or one for every index of axis 0.
    """
    if options.scale is None:
        return None
    scales = options.scale if isinstance(options.scale, tuple) else (options.scale,)
    channels = values.shape[0] if values.ndim else 1
    if len(scales) not in (1, channels):
        raise FormatError(
            f"{kind}: scale must be one number or one for each of the {channels} channels, "
            f"got {len(scales)}"
        )
    return tuple(float(np.float32(scale)) for scale in scales)
