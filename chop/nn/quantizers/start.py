"""What a training algorithm of uniform levels starts from."""

from __future__ import annotations

import numpy as np
import torch

from chop.errors import ConfigError
from chop.formats.base import Format
from chop.formats.scaled import Scaled
from chop.formats.ternary import Ternary

__all__ = ["LEAST_SCALE", "Uniform", "element_wise", "rescaled", "scaled_start"]

Uniform = Scaled | Ternary

# Where learned scales stop when training drives them towards zero.
LEAST_SCALE = 2.0**-40


def scaled_start(format: Format, algorithm: str) -> Uniform:
    """Returns scaled integers, or ternary, with the levels of a calibrated format.

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
    scales = tuple(float(np.float32(step)) for step in steps)
    if isinstance(format, Ternary):
        return Ternary(scales)
    symmetric = carrier.signed and format.low == -format.high
    return Scaled(carrier.width, scales, carrier.signed, symmetric)


def rescaled(start: Uniform, steps: torch.Tensor, symmetric: bool = False) -> Uniform:
    """Returns the format with other scales: the float32 values of steps [] or [channels].

    With `symmetric`, without the lowest level of a signed format whose negative is no level.
    """
    scales = tuple(np.atleast_1d(steps.detach().float().numpy()).tolist())
    if isinstance(start, Ternary):
        return Ternary(scales)
    return Scaled(start.width, scales, start.signed, start.symmetric or symmetric)


def element_wise(format: Format, algorithm: str) -> Format:
    """Returns the format. Raises ConfigError when a level depends on other elements, as in blocks,
    or has no integer."""
    if format.carrier is None or "block_size" in format.options:
        raise ConfigError(
            f"training algorithm '{algorithm}': needs a level per element, got {format}; use ste"
        )
    return format
