"""What a training algorithm of uniform levels starts from."""

from __future__ import annotations

import numpy as np

from chop.errors import ConfigError
from chop.formats.base import Format
from chop.formats.scaled import Scaled

__all__ = ["LEAST_SCALE", "element_wise", "scaled_start"]

# Where learned scales stop when training drives them towards zero.
LEAST_SCALE = 2.0**-40


def scaled_start(format: Format, algorithm: str) -> Scaled:
    """Returns the scaled integers with the levels of a calibrated format.

    Raises ConfigError when its levels are not evenly spaced, or when none is positive.
    """
    who = f"training algorithm '{algorithm}'"
    carrier, levels = format.carrier, format.levels()
    if carrier is None or (levels is not None and (np.diff(levels) != 1).any()):
        raise ConfigError(
            f"{who}: needs evenly spaced levels, got {format}; use integer or scaled_integer"
        )
    if format.high < 1:
        raise ConfigError(f"{who}: needs a positive level, got {format}; use a larger width")
    factors = [1.0] if format.scale is None else [float(f) for f in format.scale.factors]
    steps = np.array(factors) * np.ldexp(1.0, -carrier.frac_width)
    symmetric = carrier.signed and format.low == -format.high
    scales = tuple(float(np.float32(step)) for step in steps)
    return Scaled(carrier.width, scales, carrier.signed, symmetric)


def element_wise(format: Format, algorithm: str) -> Format:
    """Returns the format. Raises ConfigError when a level depends on other elements, as in blocks,
    or has no integer."""
    if format.carrier is None or "block_size" in format.options:
        raise ConfigError(
            f"training algorithm '{algorithm}': needs a level per element, got {format}; use ste"
        )
    return format
