"""sub: y = x - constant, or constant - x."""

from __future__ import annotations

import operator

import torch
from torch import nn

from chop.nn.layers import ChannelAffine
from chop.ops.affine import AffineOp, constant_operand
from chop.ops.base import Call

__all__ = ["SUB"]


def _layer(call: Call) -> ChannelAffine:
    constant, leading = constant_operand(call)
    if call.spelling == "rsub":
        leading = True
    return ChannelAffine(bias=constant if leading else -constant, negate=leading)


class _Spellings(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sub(1.0 - (x - 0.25), 0.125).sub(0.5)


SUB = AffineOp(
    "sub",
    "y = x - constant, or constant - x",
    (operator.sub, operator.isub, torch.sub, torch.subtract, torch.rsub, "sub", "sub_"),
    _layer,
    (("spellings", _Spellings, (6,)),),
)
