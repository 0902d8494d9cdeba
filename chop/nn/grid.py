"""Uniform levels as fused tensor work: few passes over memory, and no boolean masks.

A comparison of floats into a boolean tensor costs more than the whole rounding on a CPU, so the
gradient goes through `hardtanh_backward`, which compares and selects in one vectorised pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch

from chop.formats.fixed import Fixed
from chop.formats.rounding import Rounding
from chop.formats.scaled import Scaled

__all__ = [
    "Grid",
    "Step",
    "above",
    "along_channels",
    "below",
    "between",
    "float32_scale",
    "step_of",
]

# One step per tensor, or one per channel in the shape that broadcasts.
Step = float | torch.Tensor


@dataclass(frozen=True, slots=True)
class Grid:
    """The levels low..high, times a step: what `Fixed` and `Scaled` round to.

    Its methods are for the inside of autograd functions: they record no gradient.
    """

    low: int
    high: int
    rounding: Rounding

    def integers(self, x: torch.Tensor, step: Step) -> torch.Tensor:
        """Returns a new tensor: the integer of the nearest level, as `Format.quantize` rounds."""
        if self.rounding is Rounding.HALF_UP:
            # floor(y + 1/2) = floor((floor(2y) + 1) / 2): the left side is wrong in floats for the
            # number just under one half.
            twice = (x / (step * 0.5)).floor_()
            half = torch.full((), 0.5, dtype=twice.dtype)
            result = torch.add(half, twice, alpha=0.5, out=twice).floor_()
        elif self.rounding is Rounding.FLOOR:
            result = (x / step).floor_()
        else:
            result = (x / step).round_()
        return result.clamp_(self.low, self.high)

    def quantize(self, x: torch.Tensor, step: Step) -> torch.Tensor:
        """Returns a new tensor on the levels."""
        return self.integers(x, step).mul_(step)

    def passed(self, grad: torch.Tensor, x: torch.Tensor, step: Step) -> torch.Tensor:
        """Returns `grad` where x / step is in [low, high], 0 elsewhere."""
        if isinstance(step, float) and math.frexp(step)[0] == 0.5:
            # With a power of two the ends are exact, and x needs no division.
            return between(grad, x, self.low * step, self.high * step)
        ratio = x / step
        return between(grad, ratio, self.low, self.high, out=ratio)

    def learned(
        self, grad: torch.Tensor, x: torch.Tensor, y: torch.Tensor, step: torch.Tensor, both: bool
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Returns what `passed` does (None unless `both`), and the sum of grad * step * dy/dstep.

        For y = step * clip(round(x / step)), straight-through: step * dy/dstep is y - x inside the
        range and y outside. Summed over all elements where step is [], else per index of axis 0.
        Source: Esser et al., "Learned step size quantization", 2020.
        """
        ratio = x / step
        # x inside and 0 outside is what x would pass as a gradient.
        slope = between(x, ratio, self.low, self.high)
        torch.sub(y, slope, out=slope)
        if step.dim():
            total = slope.mul_(grad).flatten(1).sum(1)
        else:
            total = torch.dot(slope.reshape(-1), grad.reshape(-1))
        return between(grad, ratio, self.low, self.high, out=ratio) if both else None, total


def between(
    grad: torch.Tensor, x: torch.Tensor, low: float, high: float, out: torch.Tensor | None = None
) -> torch.Tensor:
    """Returns `grad` where low <= x <= high (both as x's dtype has them), 0 elsewhere.

    `out` takes the result and may be x itself: fresh memory costs more than the arithmetic.
    """
    lowest, highest = below(low, x.dtype), above(high, x.dtype)
    backward = torch.ops.aten.hardtanh_backward
    result: torch.Tensor = (
        backward(grad, x, lowest, highest)
        if out is None
        else backward.grad_input(grad, x, lowest, highest, grad_input=out)
    )
    return result


@lru_cache(maxsize=1024)
def below(value: float, dtype: torch.dtype) -> float:
    """Returns the largest number of the dtype that is less than `value` in that dtype."""
    return _next(value, -math.inf, dtype)


@lru_cache(maxsize=1024)
def above(value: float, dtype: torch.dtype) -> float:
    """Returns the smallest number of the dtype that is greater than `value` in that dtype."""
    return _next(value, math.inf, dtype)


def _next(value: float, towards: float, dtype: torch.dtype) -> float:
    at, end = torch.tensor(float(value), dtype=dtype), torch.tensor(towards, dtype=dtype)
    return float(torch.nextafter(at, end))


def float32_scale(value: torch.Tensor) -> torch.Tensor:
    """Returns the values as float32 holds them, in their own dtype.

    Scales are float32 numbers, so that products of two are exact in float64.
    """
    return value.detach().float().to(value.dtype)


def step_of(format: Fixed | Scaled, x: torch.Tensor) -> Step:
    """Returns the step of a uniform format, shaped to broadcast along axis 0 of x."""
    if isinstance(format, Fixed):
        return math.ldexp(1.0, -format.frac_width)
    if len(format.scales) == 1:
        return format.scales[0]
    return along_channels(torch.tensor(format.scales, dtype=x.dtype), x)


def along_channels(values: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Returns values [] or [channels] shaped to broadcast along axis 0 of x."""
    return values.reshape(-1, *([1] * (x.dim() - 1))) if values.dim() else values
