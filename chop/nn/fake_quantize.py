"""Fake quantisation: floats on the levels of a format, with a straight-through gradient."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import fx, nn

from chop.formats.base import Format
from chop.formats.fixed import Fixed
from chop.formats.rounding import Rounding
from chop.nn.quantizer import Quantizer, Static
from chop.nn.straight_through import straight_through

__all__ = ["Cast", "cast_to_fixed", "fake_quantize"]


def fake_quantize(
    x: torch.Tensor, format: Format, rounding: Rounding = Rounding.HALF_UP
) -> torch.Tensor:
    """Returns x rounded and saturated to the levels of `format`; the gradient is straight-through.

    Exact while the levels fit the tensor's dtype: up to 24 bits in float32, 53 in float64. In a
    captured model a call with a fixed-point format is one node, the operator `cast`.
    """
    if isinstance(x, fx.Proxy):
        if not isinstance(format, Fixed):
            raise TypeError(f"a captured model can call fake_quantize with Fixed, not {format}")
        # A graph holds plain values only, so the node calls a function of plain values.
        plain = (x, format.width, format.frac_width, format.signed, rounding.value)
        proxy: Any = x.tracer.create_proxy("call_function", cast_to_fixed, plain, {})
        return cast(torch.Tensor, proxy)
    return straight_through(_real(x), format, rounding)


def _real(x: torch.Tensor) -> torch.Tensor:
    """Returns indices and other whole numbers in floating point, as every format quantises."""
    return x if x.is_floating_point() else x.to(torch.get_default_dtype())


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
        self,
        format: Format | Quantizer,
        rounding: Rounding = Rounding.HALF_UP,
        inserted: bool = False,
    ) -> None:
        super().__init__()
        self.quantizer = format if isinstance(format, Quantizer) else Static(format, rounding)
        self.inserted = inserted

    @property
    def format(self) -> Format:
        return self.quantizer.format

    @property
    def rounding(self) -> Rounding:
        return self.quantizer.rounding

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.quantizer(_real(x))
        return result

    def extra_repr(self) -> str:
        return f"{self.format}, {self.rounding}"
