"""A small U-Net.

Ronneberger, Fischer, Brox: U-Net: convolutional networks for biomedical image segmentation, 2015;
two levels, padded convolutions, batch norm.
"""

from __future__ import annotations

import torch
from torch import nn

from chop.models.blocks import UPSAMPLING, conv_bn_relu, upsampling
from chop.models.checks import check_choice, check_counts

__all__ = ["UnetMini", "unet_mini"]


class UnetMini(nn.Module):
    """Two levels down, two up; each level up reads what its level down gave as well."""

    def __init__(self, in_channels: int, channels: int, classes: int, upsample: str) -> None:
        super().__init__()
        middle, deep = 2 * channels, 4 * channels
        self.down1 = _double(in_channels, channels)
        self.pool1 = nn.MaxPool2d(2)
        self.down2 = _double(channels, middle)
        self.pool2 = nn.MaxPool2d(2)
        self.bottom = _double(middle, deep)
        self.grow2 = upsampling(upsample, deep, middle)
        self.up2 = _double(2 * middle, middle)
        self.grow1 = upsampling(upsample, middle, channels)
        self.up1 = _double(2 * channels, channels)
        self.head = nn.Conv2d(channels, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the scores of every pixel: [N, C, H, W] -> [N, classes, H, W]."""
        first = self.down1(x)
        second = self.down2(self.pool1(first))
        x = self.bottom(self.pool2(second))
        x = self.up2(torch.cat([self.grow2(x), second], dim=1))
        x = self.up1(torch.cat([self.grow1(x), first], dim=1))
        scores: torch.Tensor = self.head(x)
        return scores


def unet_mini(
    in_channels: int = 1, channels: int = 8, classes: int = 2, upsample: str = "nearest"
) -> UnetMini:
    """Two-level U-Net: [N, 1, 16, 16] -> [N, classes, 16, 16], height and width multiples of 4.

    Two 3x3 convolutions with batch norm and ReLU at every level, with 8, 16 and 32 channels, max
    pools down; up by "nearest" (pixels repeated, a 3x3 convolution) or "transpose" (a 2x2
    transposed convolution of stride 2), then the level's own result is concatenated.
    32,690 parameters, 2,086,912 multiply-accumulates.
    """
    check_counts(
        "unet_mini", {"in_channels": in_channels, "channels": channels, "classes": classes}
    )
    check_choice("unet_mini", "upsample", upsample, UPSAMPLING)
    return UnetMini(in_channels, channels, classes, upsample)


def _double(width_in: int, width_out: int) -> nn.Sequential:
    return nn.Sequential(
        conv_bn_relu(width_in, width_out, 3, padding=1, bias=False),
        conv_bn_relu(width_out, width_out, 3, padding=1, bias=False),
    )
