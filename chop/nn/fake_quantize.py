"""Fake quantisation: floats on the levels of a format, with a straight-through gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import fx, nn

from chop.formats.fixed import Fixed
from chop.formats.rounding import Rounding

__all__ = ["Cast", "cast_to_fixed", "fake_quantize"]


class _FakeQuantize(torch.autograd.Function):
    """y = clip(round(x * 2^f), low, high) * 2^-f; dy/dx = 1 inside the clip range, 0 outside."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, format: Fixed, rounding: Rounding) -> torch.Tensor:
        scaled = x * 2.0**format.frac_width
        ctx.save_for_backward((scaled >= format.low) & (scaled <= format.high))
        return _round(scaled, rounding).clamp_(format.low, format.high) * format.scale

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (inside,) = ctx.saved_tensors
        return grads[0] * inside, None, None


def _round(scaled: torch.Tensor, rounding: Rounding) -> torch.Tensor:
    if rounding is Rounding.HALF_EVEN:
        return torch.round(scaled)
    floor = torch.floor(scaled)
    if rounding is Rounding.FLOOR:
        return floor
    # floor(x + 0.5) is wrong for the float just under one half; the comparison is not.
    return floor + (scaled - floor >= 0.5)


def fake_quantize(
    x: torch.Tensor, format: Fixed, rounding: Rounding = Rounding.HALF_UP
) -> torch.Tensor:
    """Returns x rounded and saturated to the levels of `format`; the gradient is straight-through.

    Exact while the levels fit the tensor's dtype: up to 24 bits in float32, 53 in float64. In a
    captured model a call is one node, the operator `cast`.
    """
    if isinstance(x, fx.Proxy):
        # A graph holds plain values only, so the node calls a function of plain values.
        plain = (x, format.width, format.frac_width, format.signed, rounding.value)
        proxy: Any = x.tracer.create_proxy("call_function", cast_to_fixed, plain, {})
        return cast(torch.Tensor, proxy)
    apply: Callable[..., torch.Tensor] = _FakeQuantize.apply
    return apply(x, format, rounding)


def cast_to_fixed(
    x: torch.Tensor, width: int, frac_width: int, signed: bool = True, rounding: str = "half_up"
) -> torch.Tensor:
    """Returns `fake_quantize` of x to the fixed-point format that the plain values describe."""
    return fake_quantize(x, Fixed(width, frac_width, signed), Rounding(rounding))


class Cast(nn.Module):
    """Casts a tensor to a number format: the `cast` node of a quantised graph.

    `inserted` marks the casts that are not the model's own: quantise takes them back to start over.
    """

    def __init__(
        self, format: Fixed, rounding: Rounding = Rounding.HALF_UP, inserted: bool = False
    ) -> None:
        super().__init__()
        self.format = format
        self.rounding = rounding
        self.inserted = inserted

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return fake_quantize(x, self.format, self.rounding)

    def extra_repr(self) -> str:
        return f"{self.format}, {self.rounding}"
