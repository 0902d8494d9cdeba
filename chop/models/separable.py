"""Networks of depthwise separable convolutions: DS-CNN and MobileNet, as in MLPerf Tiny."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from chop.errors import ConfigError
from chop.models.blocks import conv_bn_relu
from chop.models.checks import check_counts

__all__ = ["ds_cnn", "mobilenet_v1"]

# Output channels at width 1 and stride of the 13 blocks: Howard et al., MobileNets, 2017, table 1.
_MOBILENET = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
    (512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1),
)  # fmt: skip
_MOBILENET_STRIDE = 32


def ds_cnn(channels: int = 64, blocks: int = 4, classes: int = 12) -> nn.Sequential:
    """Keyword spotter of MLPerf Tiny: features [N, 1, 49, 10] -> [N, classes].

    A 10x4 convolution of stride 2, then blocks of a depthwise 3x3 and a 1x1 convolution, each with
    batch norm and ReLU; dropout; an average over the 25x5 pixels; a linear layer. The first
    convolution is padded by 5 above and below, TensorFlow's "same" by 4 and 5: a row's difference.
    23,756 parameters (with the running statistics 24,908, as MLPerf counts), 2,656,768
    multiply-accumulates.
    """
    check_counts("ds_cnn", {"channels": channels, "blocks": blocks, "classes": classes})
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["stem"] = conv_bn_relu(1, channels, (10, 4), 2, (5, 1))
    layers["drop"] = nn.Dropout(0.2)
    for index in range(1, blocks + 1):
        layers[f"block{index}"] = _separable(channels, channels, 1)
    layers["drop_last"] = nn.Dropout(0.4)
    layers["pool"] = nn.AvgPool2d((25, 5))
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(channels, classes)
    return nn.Sequential(layers)


def mobilenet_v1(
    width: float = 0.25, image_size: int = 32, in_channels: int = 3, classes: int = 10
) -> nn.Sequential:
    """MobileNetV1 with a factor on its widths: [N, 3, size, size] -> [N, classes].

    `image_size` is 32, 64 or 96: five strides of 2, then an average over what is left. With 96 and
    two classes it is the visual wake words model of MLPerf Tiny but for the padding, 1 on every
    side. (Howard et al.: MobileNets, 2017.)
    218,378 parameters, 834,688 multiply-accumulates.
    """
    check_counts("mobilenet_v1", {"in_channels": in_channels, "classes": classes})
    if not isinstance(width, float | int) or not 0 < width <= 1:
        raise ConfigError(f"model 'mobilenet_v1': width must be in (0, 1], got {width!r}")
    if image_size not in (32, 64, 96):
        raise ConfigError(
            f"model 'mobilenet_v1': image_size must be 32, 64 or 96, got {image_size!r}"
        )

    def scaled(channels: int) -> int:
        return max(int(channels * width), 1)

    layers: OrderedDict[str, nn.Module] = OrderedDict()
    inner = scaled(32)
    layers["stem"] = conv_bn_relu(in_channels, inner, 3, 2, 1)
    for index, (channels, stride) in enumerate(_MOBILENET, start=1):
        layers[f"block{index}"] = _separable(inner, scaled(channels), stride)
        inner = scaled(channels)
    layers["pool"] = nn.AvgPool2d(image_size // _MOBILENET_STRIDE)
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(inner, classes)
    return nn.Sequential(layers)


def _separable(width_in: int, width_out: int, stride: int) -> nn.Sequential:
    """Returns a depthwise 3x3 convolution, then a 1x1 one, each with batch norm and ReLU."""
    layers = (
        ("depthwise", conv_bn_relu(width_in, width_in, 3, stride, 1, groups=width_in)),
        ("pointwise", conv_bn_relu(width_in, width_out, 1)),
    )
    return nn.Sequential(OrderedDict[str, nn.Module](layers))
