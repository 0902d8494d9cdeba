"""Small convolutional networks of any sizes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from chop.errors import ConfigError
from chop.models.checks import check_counts, check_sizes

__all__ = ["cnn"]


def cnn(
    shape: Sequence[int] = (1, 8, 8),
    channels: Sequence[int] = (8, 16),
    hidden: Sequence[int] = (),
    classes: int = 10,
    batch_norm: bool = False,
) -> nn.Sequential:
    """3x3 convolutions, ReLU and 2x2 max pools, then linear layers: [N, *shape] -> [N, classes].

    `shape` is [C, H, W]; every convolution (conv1, ...) is followed by a pool, which halves height
    and width; `hidden` are the widths between the linear layers (fc1, ...).
    1,898 parameters, 23,680 multiply-accumulates.
    """
    check_sizes("cnn", "shape", shape, 3)
    check_sizes("cnn", "channels", channels)
    check_sizes("cnn", "hidden", hidden, 0)
    check_counts("cnn", {"classes": classes})
    width, height = shape[2] >> len(channels), shape[1] >> len(channels)
    if len(shape) != 3 or not width or not height:
        raise ConfigError(
            f"model 'cnn': shape must be [C, H, W] with H and W at least {2 ** len(channels)} for "
            f"{len(channels)} pools, got {list(shape)}"
        )
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for index, (inner, outer) in enumerate(pairwise((shape[0], *channels)), start=1):
        layers[f"conv{index}"] = nn.Conv2d(inner, outer, 3, padding=1)
        if batch_norm:
            layers[f"bn{index}"] = nn.BatchNorm2d(outer)
        layers[f"relu{index}"] = nn.ReLU()
        layers[f"pool{index}"] = nn.MaxPool2d(2)
    layers["flatten"] = nn.Flatten()
    sizes = (channels[-1] * height * width, *hidden, classes)
    for index, (inner, outer) in enumerate(pairwise(sizes), start=1):
        layers[f"fc{index}"] = nn.Linear(inner, outer)
        if index < len(sizes) - 1:
            layers[f"act{index}"] = nn.ReLU()
    return nn.Sequential(layers)
