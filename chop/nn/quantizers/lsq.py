"""LSQ: the step between levels is learned. Esser et al., "Learned step size quantization", 2020."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import nn
from torch.autograd.function import once_differentiable

from chop.formats.base import Format
from chop.formats.rounding import Floats, Rounding
from chop.nn.grid import Grid, along_channels, float32_scale
from chop.nn.quantizer import Quantizer, Role, Tuning
from chop.nn.quantizers.options import AlgorithmOptions, Positive, parse_options
from chop.nn.quantizers.start import LEAST_SCALE, Uniform, rescaled, scaled_start
from chop.nn.straight_through import straight_through

__all__ = ["Lsq"]


class LsqOptions(AlgorithmOptions):
    """What a configuration may say.

    Attributes:
        initial: the first step: the calibrated one, or 2 mean|x| / sqrt(hi) as in the paper.
        rate: factor on the learning rate of the step.
    """

    initial: Literal["calibrated", "mean"] = "calibrated"
    rate: Positive = 1.0


class _LearnedStep(torch.autograd.Function):
    """y = s clip(round(x / s), lo, hi); straight through to x, the paper's gradient to s."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, step: torch.Tensor, grid: Grid, factor: float
    ) -> torch.Tensor:
        shaped = along_channels(float32_scale(step), x)
        y = grid.quantize(x, shaped)
        ctx.save_for_backward(x, y, shaped)
        ctx.grid, ctx.factor = grid, factor
        return y

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, *grads: torch.Tensor
    ) -> tuple[torch.Tensor | None, torch.Tensor, None, None]:
        x, y, step = ctx.saved_tensors
        passed, total = ctx.grid.learned(grads[0], x, y, step, ctx.needs_input_grad[0])
        return passed, total.mul_(ctx.factor).div_(step.reshape(total.shape)), None, None


class Lsq(Quantizer):
    """Scaled integers, or ternary, whose step is a parameter, one or one per channel.

    The gradient of the step is scaled by 1 / sqrt(N hi), with N the elements that share a step (of
    one sample, for data). A step stops at 2^-40 when training drives it towards zero.
    """

    algorithm = "lsq"

    def __init__(self, start: Uniform, role: Role, rate: float, rounding: Rounding) -> None:
        super().__init__(rounding)
        steps = torch.tensor(start.scales, dtype=torch.float32)
        self.step = nn.Parameter(steps if len(start.scales) > 1 else steps[0])
        self._start = start
        self._grid = Grid(start.low, start.high, rounding)
        self._role = role
        self._rate = rate

    @classmethod
    def create(
        cls,
        values: Floats,
        format: Format,
        role: Role,
        options: Mapping[str, Any],
        rounding: Rounding,
    ) -> Lsq:
        """Returns the quantiser. Raises ConfigError for an option or a format out of its reach."""
        parsed = parse_options(LsqOptions, options, cls.algorithm)
        start = scaled_start(format, cls.algorithm)
        result = cls(start, role, parsed.rate, rounding)
        if parsed.initial == "mean":
            axes = tuple(range(1, values.ndim)) if len(start.scales) > 1 else None
            mean = np.abs(values).mean(axis=axes) * (2 / math.sqrt(start.high))
            with torch.no_grad():
                result.step.copy_(torch.from_numpy(np.maximum(mean, LEAST_SCALE)))
        return result

    @property
    def format(self) -> Uniform:
        return rescaled(self._start, self.step)

    @property
    def tuning(self) -> Tuning:
        return Tuning(self._rate)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return straight_through(x, self.format, self.rounding)
        shared = x.numel() // len(x) if self._role == "data" else x.numel() // self.step.numel()
        factor = 1 / math.sqrt(shared * self._grid.high)
        apply = cast(Callable[..., torch.Tensor], _LearnedStep.apply)
        return apply(x, self.step, self._grid, factor)

    def after_step(self, tensor: torch.Tensor | None) -> None:
        self.step.clamp_(min=LEAST_SCALE)
