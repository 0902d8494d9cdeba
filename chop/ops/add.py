"""add: y = x + constant."""

from __future__ import annotations

import operator

import torch
from torch import nn

from chop.nn.layers import ChannelAffine
from chop.ops.affine import AffineOp, constant_operand
from chop.ops.base import Call

__all__ = ["ADD"]


def _layer(call: Call) -> ChannelAffine:
    constant, _ = constant_operand(call)
    return ChannelAffine(bias=constant)


class _Spellings(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.randn(6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.add(1.5 + (x + 0.25), self.offset).add(-0.5)


ADD = AffineOp(
    "add",
    "y = x + constant (a number, or one per element)",
    (operator.add, operator.iadd, torch.add, "add", "add_"),
    _layer,
    (("spellings", _Spellings, (6,)),),
)
