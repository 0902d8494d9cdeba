"""permute: the axes, or the elements along them, in another order."""

from __future__ import annotations

import builtins

import torch
from torch import nn
from torch.nn import functional

from chop.ops.base import Call, Case
from chop.ops.moves import MoveOp, Spelled
from chop.ops.moving import Move, read_move

__all__ = ["PERMUTE"]

Shape = tuple[int, ...]


def _read(call: Call) -> Move:
    return read_move(call, _splits(call))


def _splits(call: Call) -> tuple[Shape, Shape] | None:
    """Returns the shapes in which a shuffle is a permutation of axes."""
    shape, out = call.input_shapes[0], call.output_shape
    if call.spelling in ("PixelShuffle", "pixel_shuffle"):
        *lead, c, h, w = out
        by = h // shape[-2]
        return (*lead, c, by, by, *shape[-2:]), (*lead, c, h // by, by, w // by, by)
    if call.spelling in ("PixelUnshuffle", "pixel_unshuffle"):
        *lead, c, h, w = shape
        by = h // out[-2]
        return (*lead, c, h // by, by, w // by, by), (*lead, c, by, by, *out[-2:])
    if call.spelling in ("ChannelShuffle", "channel_shuffle"):
        groups = getattr(call.module, "groups", None) or call.argument(1, "groups")
        each = shape[0] // groups
        return (groups, each, *shape[1:]), (each, groups, *shape[1:])
    return None


class _ChannelShuffle(nn.Module):
    """As ShuffleNet writes it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w).relu()


class _BackAndForth(nn.Module):
    """Only the layout changes, twice: no hardware but the layer's."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.layer(x.permute(0, 2, 3, 1))
        return y.movedim(-1, 1).relu()


PERMUTE = MoveOp(
    "permute",
    "axes in another order, or reversed: permute, transpose, movedim, flip, pixel_shuffle",
    (
        *(torch.permute, torch.transpose, torch.swapaxes, torch.swapdims, torch.movedim),
        *("permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis"),
        *(torch.moveaxis, torch.flip, "flip", torch.fliplr, "fliplr", builtins.getattr),
        *(nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle, functional.pixel_shuffle),
        *(functional.pixel_unshuffle, torch.channel_shuffle),
    ),
    ("chop_reorder",),
    _read,
    (
        Case("transpose", Spelled(lambda x: x.transpose(1, 2).flatten(1).relu()), ((4, 6),)),
        Case("layout", _BackAndForth(), ((4, 3, 2),)),
        Case("rows", Spelled(lambda x: x.permute(0, 1, 3, 2)), ((2, 3, 4),)),
        Case("channel_shuffle", _ChannelShuffle(), ((4, 3, 2),)),
        Case("pixel_shuffle", nn.PixelShuffle(2), ((8, 2, 3),)),
        Case("pixel_unshuffle", nn.PixelUnshuffle(2), ((2, 4, 6),)),
        Case("flip", Spelled(lambda x: x.flip(-1).mT + 0.5), ((2, 3, 4),)),
    ),
    keeps_axes=False,
)
