"""upsample: elements several times, by nearest-neighbour interpolation and by repetition."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from chop.ops.base import Call, Case
from chop.ops.moves import MoveOp, Spelled
from chop.ops.moving import Move, read_move

__all__ = ["UPSAMPLE"]


def _read(call: Call) -> Move:
    return read_move(call, remedy="use mode='nearest'")


UPSAMPLE = MoveOp(
    "upsample",
    "elements several times: nearest-neighbour upsampling, repeat_interleave, repeat, expand",
    (
        *(nn.Upsample, nn.UpsamplingNearest2d, functional.interpolate, functional.upsample),
        *(functional.upsample_nearest, torch.repeat_interleave, "repeat_interleave"),
        *("repeat", torch.tile, "tile", "expand", torch.broadcast_to, "broadcast_to"),
    ),
    ("chop_reorder",),
    _read,
    (
        Case("nearest", nn.Upsample(scale_factor=2), ((3, 2, 3),)),
        Case("factors", nn.Upsample(scale_factor=(1, 3)), ((2, 2, 2),)),
        Case(
            "line",
            Spelled(lambda x: functional.interpolate(x, size=8, mode="nearest").relu()),
            ((2, 4),),
        ),
        Case("interleave", Spelled(lambda x: x.repeat_interleave(2, dim=2)), ((2, 3, 2),)),
        Case("repeat", Spelled(lambda x: x.repeat(1, 2, 3)), ((2, 3),)),
        Case("expand", Spelled(lambda x: x.unsqueeze(2).expand(-1, -1, 3) + 1.0), ((4,),)),
    ),
)
