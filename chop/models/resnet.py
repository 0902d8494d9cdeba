"""ResNet-8, the image classifier of MLPerf Tiny."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from chop.errors import ConfigError
from chop.models.blocks import conv_bn_relu
from chop.models.checks import check_counts, check_sizes

__all__ = ["Resnet8", "resnet8"]


class _Block(nn.Module):
    """relu(bn2(conv2(relu(bn1(conv1(x))))) + x); a 1x1 convolution of x where shapes change."""

    def __init__(self, width_in: int, width_out: int, stride: int) -> None:
        super().__init__()
        self.first = conv_bn_relu(width_in, width_out, 3, stride, 1)
        self.conv2 = nn.Conv2d(width_out, width_out, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(width_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or width_in != width_out:
            self.shortcut = nn.Conv2d(width_in, width_out, 1, stride)
        self.relu2 = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.relu2(self.bn2(self.conv2(self.first(x))) + self.shortcut(x))
        return result


class Resnet8(nn.Module):
    """A convolution, three residual blocks, a global average pool and a linear layer."""

    def __init__(
        self, widths: Sequence[int], image_size: int, in_channels: int, classes: int
    ) -> None:
        super().__init__()
        self.stem = conv_bn_relu(in_channels, widths[0], 3, 1, 1)
        self.block1 = _Block(widths[0], widths[0], 1)
        self.block2 = _Block(widths[0], widths[1], 2)
        self.block3 = _Block(widths[1], widths[2], 2)
        self.pool = nn.AvgPool2d(image_size // 4)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(widths[2], classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the scores of the classes: [N, C, size, size] -> [N, classes]."""
        x = self.block3(self.block2(self.block1(self.stem(x))))
        scores: torch.Tensor = self.fc(self.flatten(self.pool(x)))
        return scores


def resnet8(
    widths: Sequence[int] = (16, 32, 64),
    image_size: int = 32,
    in_channels: int = 3,
    classes: int = 10,
) -> Resnet8:
    """ResNet-8 of MLPerf Tiny: [N, 3, 32, 32] -> [N, classes].

    A 3x3 convolution, blocks of two 3x3 convolutions with 16, 32 (stride 2) and 64 (stride 2)
    channels, 1x1 convolutions as shortcuts where the stride is 2, batch norm, ReLU, a global
    average pool. Padding is 1 on every side, TensorFlow's "same" only where the stride is 1.
    78,186 parameters (with the running statistics 78,666, as MLPerf counts), 12,501,632
    multiply-accumulates. `image_size` is a multiple of 4.
    """
    check_sizes("resnet8", "widths", widths, 3)
    counts = {"image_size": image_size, "in_channels": in_channels, "classes": classes}
    check_counts("resnet8", counts)
    if len(widths) != 3:
        raise ConfigError(f"model 'resnet8': widths must be three, got {list(widths)}")
    if image_size % 4:
        raise ConfigError(f"model 'resnet8': image_size must be a multiple of 4, got {image_size}")
    return Resnet8(widths, image_size, in_channels, classes)
