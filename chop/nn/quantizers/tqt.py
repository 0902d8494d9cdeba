"""TQT: learned thresholds, power-of-two scales. Jain et al., "Trained quantization thresholds"."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from chop.formats.base import Format
from chop.formats.fixed import Fixed
from chop.formats.rounding import Floats, Rounding
from chop.formats.scaled import Scaled
from chop.nn.grid import Grid, along_channels
from chop.nn.quantizer import Quantizer, Role, Tuning
from chop.nn.quantizers.options import AlgorithmOptions, Positive, parse_options
from chop.nn.quantizers.start import Uniform, rescaled, scaled_start
from chop.nn.straight_through import straight_through

__all__ = ["Tqt"]

# The thresholds' exponents stay where float32 holds the steps exactly.
_FARTHEST = 60.0


class TqtOptions(AlgorithmOptions):
    """What a configuration may say: `rate` is a factor on the learning rate of the threshold."""

    rate: Positive = 1.0


class _LearnedThreshold(torch.autograd.Function):
    """y = s clip(round(x / s), lo, hi), s = 2^(ceil(log2 t) - bits); dy/dlog2 t = s ln2 dy/ds."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, log2_t: torch.Tensor, grid: Grid, bits: int) -> Any:
        step = along_channels(torch.exp2(log2_t.ceil() - bits), x)
        y = grid.quantize(x, step)
        ctx.save_for_backward(x, y, step)
        ctx.grid = grid
        return y

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, *grads: torch.Tensor
    ) -> tuple[torch.Tensor | None, torch.Tensor, None, None]:
        x, y, step = ctx.saved_tensors
        passed, total = ctx.grid.learned(grads[0], x, y, step, ctx.needs_input_grad[0])
        return passed, total.mul_(math.log(2)), None, None


class Tqt(Quantizer):
    """Fixed point whose range 2^ceil(log2 t) is learned through log2 t.

    Scaled integers (or ternary) with power-of-two scales where the start is per channel, symmetric
    or ternary. It starts in the middle between two powers, so that the first steps do not double
    the range by chance.
    """

    algorithm = "tqt"

    def __init__(self, start: Format, rate: float, rounding: Rounding) -> None:
        super().__init__(rounding)
        scaled = scaled_start(start, self.algorithm)
        self._bits = scaled.held().width - scaled.held().signed
        exponents = torch.tensor(scaled.scales, dtype=torch.float64).log2().ceil().float()
        log2_t = exponents + self._bits - 0.5
        self.log2_t = nn.Parameter(log2_t if len(scaled.scales) > 1 else log2_t[0])
        self._start = scaled
        self._grid = Grid(scaled.low, scaled.high, rounding)
        self._rate = rate

    @classmethod
    def create(
        cls,
        values: Floats,
        format: Format,
        role: Role,
        options: Mapping[str, Any],
        rounding: Rounding,
    ) -> Tqt:
        """Returns the quantiser. Raises ConfigError for an option or a format out of its reach."""
        return cls(format, parse_options(TqtOptions, options, cls.algorithm).rate, rounding)

    @property
    def format(self) -> Fixed | Uniform:
        exponents = self.log2_t.detach().ceil() - self._bits
        start = self._start
        if isinstance(start, Scaled) and not start.symmetric and exponents.dim() == 0:
            return Fixed(start.width, -int(exponents), start.signed)
        return rescaled(start, torch.exp2(exponents))

    @property
    def tuning(self) -> Tuning:
        return Tuning(self._rate)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return straight_through(x, self.format, self.rounding)
        apply = cast(Callable[..., torch.Tensor], _LearnedThreshold.apply)
        return apply(x, self.log2_t, self._grid, self._bits)

    def after_step(self, tensor: torch.Tensor | None) -> None:
        self.log2_t.clamp_(-_FARTHEST, _FARTHEST)
