"""A network of squeeze-and-excitation blocks.

Hu, Shen, Albanie, Sun, Wu: Squeeze-and-excitation networks, 2018.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import nn

from chop.errors import ConfigError
from chop.models.blocks import conv_bn_relu
from chop.models.checks import check_choice, check_counts, check_sizes

__all__ = ["SqueezeExcite", "se_net"]

_GATES: dict[str, Callable[[], nn.Module]] = {
    "hardsigmoid": nn.Hardsigmoid,
    "sigmoid": nn.Sigmoid,
}


class SqueezeExcite(nn.Module):
    """x times one factor in 0..1 per channel, computed from the channels' means: [N, C, H, W]."""

    def __init__(self, channels: int, reduced: int, gate: str) -> None:
        super().__init__()
        self.squeeze = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, reduced, 1)
        self.relu = nn.ReLU()
        self.fc2 = nn.Conv2d(reduced, channels, 1)
        self.gate = _GATES[gate]()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the channels, each multiplied by its factor."""
        factors: torch.Tensor = self.gate(self.fc2(self.relu(self.fc1(self.squeeze(x)))))
        return x * factors


def se_net(
    in_channels: int = 1,
    channels: Sequence[int] = (8, 16),
    reduction: int = 4,
    classes: int = 10,
    gate: str = "sigmoid",
) -> nn.Sequential:
    """Convolutions with squeeze-and-excitation: [N, 1, 8, 8] -> [N, classes], any image size.

    Per entry of `channels` a 3x3 convolution (of stride 2 but for the first) with batch norm and
    ReLU, and a block that multiplies each channel by a gate, "sigmoid" or "hardsigmoid", of a
    two-layer network with channels / reduction values between; then a global average pool and a
    linear layer.
    1,656 parameters; for 8x8 images, 23,360 multiply-accumulates.
    """
    check_counts("se_net", {"in_channels": in_channels, "reduction": reduction, "classes": classes})
    check_sizes("se_net", "channels", channels)
    check_choice("se_net", "gate", gate, tuple(_GATES))
    if any(width < reduction for width in channels):
        raise ConfigError(
            f"model 'se_net': reduction must be at most {min(channels)}, the fewest channels, "
            f"got {reduction}"
        )
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for index, (inner, outer) in enumerate(pairwise((in_channels, *channels)), start=1):
        layers[f"conv{index}"] = conv_bn_relu(inner, outer, 3, 1 if index == 1 else 2, 1)
        layers[f"se{index}"] = SqueezeExcite(outer, outer // reduction, gate)
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(channels[-1], classes)
    return nn.Sequential(layers)
