"""pad: a constant around a tensor."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from chop.ops.base import Call, Case
from chop.ops.moves import MoveOp, Spelled
from chop.ops.moving import Move, read_move

__all__ = ["PAD"]


def _read(call: Call) -> Move:
    if call.module is None and call.argument(2, "mode", "constant") != "constant":
        raise call.refuse(f"padding with mode='{call.argument(2, 'mode')}'", "use mode='constant'")
    return read_move(call)


class _TwoOrders(nn.Module):
    """A tensor in rows, padded for a reader that wants its channels innermost."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.conv = nn.Linear(4, 3), nn.Conv1d(2, 2, 2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.linear(x), self.conv(functional.pad(x, (1, 0)))


PAD = MoveOp(
    "pad",
    "a constant around a tensor, on any axis; negative numbers cut off",
    (
        *(nn.ZeroPad1d, nn.ZeroPad2d, nn.ConstantPad1d, nn.ConstantPad2d, nn.ZeroPad3d),
        *(nn.ConstantPad3d, functional.pad),
    ),
    ("chop_pad",),
    _read,
    (
        Case("zeros", nn.ZeroPad2d((1, 2, 0, 1)), ((3, 2, 3),)),
        Case("constant", nn.ConstantPad1d((2, 1), -1.5), ((2, 4),)),
        Case("channels", Spelled(lambda x: functional.pad(x, (0, 0, 1, 1, 1, 2))), ((2, 2, 3),)),
        Case("after", Spelled(lambda x: functional.pad(x, (0, 3)).relu()), ((5,),)),
        Case("two_orders", _TwoOrders(), ((2, 4),)),
        Case("cut", Spelled(lambda x: functional.pad(x, (-1, -2))), ((6,),)),
    ),
)
