"""Autoencoders: of sound features (MLPerf Tiny's anomaly detection) and of images."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from chop.errors import ConfigError
from chop.models.blocks import UPSAMPLING, conv_bn_relu, upsampling
from chop.models.checks import check_choice, check_counts, check_sizes

__all__ = ["ConvAutoencoder", "autoencoder", "conv_autoencoder"]


def autoencoder(
    features: int = 640, hidden: Sequence[int] = (128, 128, 128, 128), code: int = 8
) -> nn.Sequential:
    """Anomaly detector of MLPerf Tiny: [N, 640] -> [N, 640].

    640-128-128-128-128-8-128-128-128-128-640: linear layers fc1, ... with batch norm and ReLU
    behind all but the last; `hidden` are the widths down to the code, and back up again.
    267,928 parameters (with the running statistics 269,992, as MLPerf counts), 264,192
    multiply-accumulates.
    """
    check_counts("autoencoder", {"features": features, "code": code})
    check_sizes("autoencoder", "hidden", hidden)
    sizes = (features, *hidden, code, *reversed(hidden), features)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for index, (inner, outer) in enumerate(pairwise(sizes), start=1):
        layers[f"fc{index}"] = nn.Linear(inner, outer)
        if index < len(sizes) - 1:
            layers[f"bn{index}"] = nn.BatchNorm1d(outer)
            layers[f"relu{index}"] = nn.ReLU()
    return nn.Sequential(layers)


class ConvAutoencoder(nn.Module):
    """Two convolutions of stride 2 down, two upsamplings back."""

    def __init__(self, channels: Sequence[int], in_channels: int, upsample: str) -> None:
        super().__init__()
        first, code = channels
        self.down1 = conv_bn_relu(in_channels, first, 3, 2, 1)
        self.down2 = conv_bn_relu(first, code, 3, 2, 1)
        self.up1 = upsampling(upsample, code, first)
        self.relu = nn.ReLU()
        self.up2 = upsampling(upsample, first, in_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the image again: [N, C, H, W] with H and W multiples of 4."""
        restored: torch.Tensor = self.up2(self.relu(self.up1(self.down2(self.down1(x)))))
        return restored


def conv_autoencoder(
    channels: Sequence[int] = (8, 16), in_channels: int = 1, upsample: str = "nearest"
) -> ConvAutoencoder:
    """Autoencoder of images: [N, 1, 28, 28] -> [N, 1, 28, 28], height and width multiples of 4.

    Two 3x3 convolutions of stride 2 with batch norm and ReLU, then back by "nearest" (pixels
    repeated, 3x3 convolutions) or "transpose" (2x2 transposed convolutions of stride 2).
    2,529 parameters, 352,800 multiply-accumulates.
    """
    check_sizes("conv_autoencoder", "channels", channels, 2)
    if len(channels) != 2:
        raise ConfigError(f"model 'conv_autoencoder': channels must be two, got {list(channels)}")
    check_counts("conv_autoencoder", {"in_channels": in_channels})
    check_choice("conv_autoencoder", "upsample", upsample, UPSAMPLING)
    return ConvAutoencoder(channels, in_channels, upsample)
