"""A VGG for 32x32 images."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from chop.errors import ConfigError
from chop.models.blocks import conv_bn_relu
from chop.models.checks import check_counts, check_sizes

__all__ = ["vgg_small"]


def vgg_small(
    channels: Sequence[int] = (32, 64, 128),
    image_size: int = 32,
    in_channels: int = 3,
    classes: int = 10,
) -> nn.Sequential:
    """Stages of two 3x3 convolutions and a 2x2 max pool: [N, 3, 32, 32] -> [N, classes].

    One stage per entry of `channels`, in which both convolutions (without bias) have a batch norm
    and ReLU; then one linear layer. After Simonyan, Zisserman: Very deep convolutional networks for
    large-scale image recognition, 2015, reduced. `image_size` is a multiple of 2^stages.
    307,946 parameters, 38,653,952 multiply-accumulates.
    """
    check_sizes("vgg_small", "channels", channels)
    counts = {"image_size": image_size, "in_channels": in_channels, "classes": classes}
    check_counts("vgg_small", counts)
    if image_size % (1 << len(channels)):
        raise ConfigError(
            f"model 'vgg_small': image_size must be a multiple of {1 << len(channels)} for "
            f"{len(channels)} pools, got {image_size}"
        )
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    width = in_channels
    for stage, outer in enumerate(channels, start=1):
        layers[f"conv{stage}a"] = conv_bn_relu(width, outer, 3, padding=1, bias=False)
        layers[f"conv{stage}b"] = conv_bn_relu(outer, outer, 3, padding=1, bias=False)
        layers[f"pool{stage}"] = nn.MaxPool2d(2)
        width = outer
    layers["flatten"] = nn.Flatten()
    side = image_size >> len(channels)
    layers["fc"] = nn.Linear(width * side * side, classes)
    return nn.Sequential(layers)
