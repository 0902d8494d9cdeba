"""PACT: the clip of activations is learned. Choi et al., "PACT", 2018."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, cast

import torch
from pydantic import Field
from torch import nn
from torch.autograd.function import once_differentiable

from chop.formats.base import Format
from chop.formats.rounding import Floats, Rounding
from chop.nn.grid import Grid, below, float32_scale
from chop.nn.quantizer import Quantizer, Role, Tuning
from chop.nn.quantizers.options import AlgorithmOptions, Positive, parse_options
from chop.nn.quantizers.start import LEAST_SCALE, Uniform, rescaled, scaled_start
from chop.nn.straight_through import straight_through

__all__ = ["Pact"]


class PactOptions(AlgorithmOptions):
    """What a configuration may say.

    Attributes:
        alpha: the first clip; None takes the end of the calibrated range.
        weight_decay: of alpha; None takes that of the weights.
        rate: factor on the learning rate of alpha.
    """

    alpha: Positive | None = None
    weight_decay: Annotated[float, Field(ge=0)] | None = 1e-4
    rate: Positive = 1.0


class _LearnedClip(torch.autograd.Function):
    """y = clip(x, 0 or -alpha, alpha) on hi (or 2 hi) equal steps.

    dy/dx is 1 where x < alpha (and x >= 0 or x > -alpha), 0 elsewhere; dy/dalpha is 1 where
    x >= alpha, and -1 where x <= -alpha in a signed format.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, alpha: torch.Tensor, grid: Grid) -> torch.Tensor:
        ctx.save_for_backward(x)
        ctx.alpha, ctx.signed = float(alpha.to(x.dtype)), grid.low < 0
        return grid.quantize(x, float32_scale(alpha / grid.high))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        (x,), grad = ctx.saved_tensors, grads[0]
        aten, alpha = torch.ops.aten, ctx.alpha
        # Both compare strictly: "x >= alpha" is "x > the number below alpha".
        low = -alpha if ctx.signed else below(0.0, x.dtype)
        to_alpha = aten.threshold_backward(grad, x, below(alpha, x.dtype)).sum()
        if ctx.signed:
            # Minus what passes where x <= -alpha: the rest after x > -alpha.
            to_alpha -= (grad - aten.threshold_backward(grad, x, -alpha)).sum()
        return aten.hardtanh_backward(grad, x, low, alpha), to_alpha, None


class Pact(Quantizer):
    """Scaled integers, or ternary, on [0, alpha], or on [-alpha, alpha] where the start is signed.

    Alpha stops at 2^-40 when training drives it towards zero.
    """

    algorithm = "pact"

    def __init__(self, start: Uniform, options: PactOptions, rounding: Rounding) -> None:
        super().__init__(rounding)
        self._start = start
        self._grid = Grid(-start.high if start.low < 0 else 0, start.high, rounding)
        alpha = max(start.scales) * start.high if options.alpha is None else options.alpha
        self.alpha = nn.Parameter(torch.tensor(alpha, dtype=torch.float32))
        self._tuning = Tuning(options.rate, options.weight_decay)

    @classmethod
    def create(
        cls,
        values: Floats,
        format: Format,
        role: Role,
        options: Mapping[str, Any],
        rounding: Rounding,
    ) -> Pact:
        """Returns the quantiser. Raises ConfigError for an option or a format out of its reach."""
        parsed = parse_options(PactOptions, options, cls.algorithm)
        return cls(scaled_start(format, cls.algorithm), parsed, rounding)

    @property
    def format(self) -> Uniform:
        return rescaled(self._start, self.alpha / self._grid.high, symmetric=self._grid.low < 0)

    @property
    def tuning(self) -> Tuning:
        return self._tuning

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return straight_through(x, self.format, self.rounding)
        return cast(Callable[..., torch.Tensor], _LearnedClip.apply)(x, self.alpha, self._grid)

    def after_step(self, tensor: torch.Tensor | None) -> None:
        self.alpha.clamp_(min=LEAST_SCALE)
