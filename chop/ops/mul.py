"""mul: y = x * constant; a division by a constant is one by its reciprocal."""

from __future__ import annotations

import operator

import torch
from torch import nn

from chop.nn.layers import ChannelAffine
from chop.ops.affine import AffineOp, constant_operand
from chop.ops.base import Call

__all__ = ["MUL"]

_DIVISIONS = ("truediv", "div", "div_", "divide", "itruediv")


def _layer(call: Call) -> ChannelAffine:
    constant, leading = constant_operand(call)
    if call.spelling not in _DIVISIONS:
        return ChannelAffine(weight=constant)
    if leading:
        raise call.refuse("a division by a tensor has no exact integer form", "use a table")
    if call.kwargs.get("rounding_mode") is not None:
        raise call.refuse("div with a rounding_mode", "divide, then quantise")
    return ChannelAffine(weight=1.0 / constant)


class _Spellings(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.randn(6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.mul(0.75 * x, self.gain).mul(-1.5) / 4


MUL = AffineOp(
    "mul",
    "y = x * constant, x / constant (a number, or one per element)",
    (
        *(operator.mul, operator.imul, operator.truediv, operator.itruediv),
        *(torch.mul, torch.multiply, torch.div, torch.divide),
        *("mul", "mul_", "div", "div_"),
    ),
    _layer,
    (("spellings", _Spellings, (6,)),),
)
