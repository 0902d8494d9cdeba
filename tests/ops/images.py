"""Operators of images, drawn at random, for the networks of `tests.ops.networks`."""

from __future__ import annotations

import random

import torch
from torch import nn
from torch.nn import functional

Shape = tuple[int, ...]
# An image of more is not enlarged.
_MOST_ELEMENTS = 12


def random_norm(
    rng: random.Random, norm: nn.BatchNorm1d | nn.BatchNorm2d
) -> nn.BatchNorm1d | nn.BatchNorm2d:
    """Returns the layer with statistics and factors of its own."""
    for tensor in (norm.weight, norm.running_var):
        nn.init.uniform_(tensor, 0.5, 2.0)  # type: ignore[arg-type]
    for tensor in (norm.bias, norm.running_mean):
        nn.init.uniform_(tensor, -1.0, 1.0)  # type: ignore[arg-type]
    return norm


def image_layer(rng: random.Random, frame: Shape) -> nn.Module:
    """Returns an operator for images of that shape."""
    channels, height, width = frame
    split = [d for d in (2, 4) if channels % d == 0]
    kernel = (rng.randint(1, min(2, height)), rng.randint(1, min(2, width)))
    made: list[nn.Module] = [
        nn.Conv2d(channels, 2 * channels, 3, padding=2, dilation=2, groups=channels),
        nn.Conv2d(channels, channels, kernel, padding="same", bias=False),
        nn.Conv2d(channels, rng.randint(1, 4), (height, 1)),
        nn.Sequential(nn.ZeroPad2d((1, 0, rng.randint(0, 1), 0)), nn.Conv2d(channels, 2, (1, 2))),
        _Residual(channels),
        _Gate(channels),
        nn.ConstantPad2d((rng.randint(0, 1), 1, 0, -(height > 1)), 0.5),
        nn.AdaptiveMaxPool2d((1, None)),
        nn.AvgPool2d(kernel, stride=1, divisor_override=4),
        nn.MaxPool2d(kernel, stride=kernel, ceil_mode=True),
        random_norm(rng, nn.BatchNorm2d(channels)),
        nn.PReLU(channels),
        nn.Sequential(_Turned(rng.choice(((0, 1, 3, 2), (0, 2, 1, 3), (0, 3, 1, 2))))),
    ]
    if channels * height * width <= _MOST_ELEMENTS:
        made += [nn.Upsample(scale_factor=2), nn.Upsample(scale_factor=(1, 2))]
    if height % 2 == 0 and width % 2 == 0:
        made.append(nn.PixelUnshuffle(2))
    if split:
        made.append(nn.ChannelShuffle(rng.choice(split)))
        made.append(_Branches())
    if 4 in split:
        made.append(nn.PixelShuffle(2))
    return rng.choice(made)


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.conv(x)
        y += x
        return y


class _Gate(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Linear(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = functional.hardtanh(self.fc(x.amax((2, 3))))
        return x * gate.view(x.size(0), -1, 1, 1)


class _Branches(nn.Module):
    """Halves of the channels, of which one goes another way."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = torch.chunk(x, 2, 1)
        return torch.cat((b.flip(2), torch.maximum(a, b), a), dim=1)


class _Turned(nn.Module):
    def __init__(self, axes: tuple[int, ...]) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(self.axes)
