"""neg: y = -x."""

from __future__ import annotations

import operator

import torch
from torch import nn

from chop.nn.layers import ChannelAffine
from chop.ops.affine import AffineOp
from chop.ops.base import Call

__all__ = ["NEG"]


def _layer(call: Call) -> ChannelAffine:
    return ChannelAffine(negate=True)


class _Spellings(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.neg(-x.relu()).neg()


NEG = AffineOp(
    "neg",
    "y = -x",
    (operator.neg, torch.neg, torch.negative, "neg", "neg_"),
    _layer,
    (("spellings", _Spellings, (6,)),),
)
