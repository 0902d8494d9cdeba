"""slice: some of the elements along an axis, and parts of a tensor that is split."""

from __future__ import annotations

import operator

import torch
from torch import nn

from chop.ir.parts import part
from chop.ops.base import Call, Case
from chop.ops.moves import MoveOp, Spelled
from chop.ops.moving import Move, read_move

__all__ = ["SLICE"]


def _read(call: Call) -> Move:
    return read_move(call)


class _Split(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = torch.split(x, [2, 3], dim=1)
        c, _ = torch.chunk(b, 2, dim=1)
        first, second = a.unbind(1)
        return torch.relu(c[:, 0]) + torch.sub(first, second)


SLICE = MoveOp(
    "slice",
    "some elements along an axis: x[:, 1:3], narrow, select, split, chunk, unbind",
    (
        *(operator.getitem, torch.narrow, torch.select, torch.index_select, part),
        *("narrow", "select", "index_select", "__getitem__"),
    ),
    ("chop_slice",),
    _read,
    (
        Case("range", Spelled(lambda x: x[:, 1:4]), ((6,),)),
        Case("channels", Spelled(lambda x: x[:, 2:].relu()), ((4, 3, 2),)),
        Case("pixels", Spelled(lambda x: x[:, :, ::2, 1:3]), ((4, 5, 4),)),
        Case("integers", Spelled(lambda x: x[..., None, 1].flatten(1)), ((3, 4),)),
        Case("narrow", Spelled(lambda x: torch.narrow(x, 2, 1, 2).select(1, 2)), ((3, 4),)),
        Case("split", _Split(), ((5, 3),)),
    ),
)
