"""Rows of layers that several models share."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

__all__ = ["UPSAMPLING", "conv_bn_relu", "upsampling"]

UPSAMPLING = ("nearest", "transpose")


def conv_bn_relu(
    width_in: int,
    width_out: int,
    kernel: int | tuple[int, int],
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    groups: int = 1,
    bias: bool = True,
) -> nn.Sequential:
    """Returns a convolution `conv`, a batch norm `bn` and a `relu`."""
    conv = nn.Conv2d(width_in, width_out, kernel, stride, padding, groups=groups, bias=bias)
    layers = (("conv", conv), ("bn", nn.BatchNorm2d(width_out)), ("relu", nn.ReLU()))
    return nn.Sequential(OrderedDict[str, nn.Module](layers))


def upsampling(kind: str, width_in: int, width_out: int) -> nn.Module:
    """Returns [C_in, H, W] -> [C_out, 2 H, 2 W].

    "nearest": every pixel four times, then a 3x3 convolution. "transpose": a 2x2 transposed
    convolution of stride 2.
    """
    if kind == "transpose":
        return nn.ConvTranspose2d(width_in, width_out, 2, 2)
    layers = (
        ("grow", nn.Upsample(scale_factor=2, mode="nearest")),
        ("conv", nn.Conv2d(width_in, width_out, 3, padding=1)),
    )
    return nn.Sequential(OrderedDict[str, nn.Module](layers))
