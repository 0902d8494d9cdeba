"""LeNet for 28x28 grey images.

LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition, 1998; with
ReLU and max pools in the place of the original's tanh and scaled sums, as is usual now.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from torch import nn

from chop.models.checks import check_choice, check_counts
from chop.models.perceptron import mlp

__all__ = ["lenet5", "lenet5_caffe", "lenet_300_100"]

_POOLS: dict[str, Callable[[], nn.Module]] = {
    "avg": lambda: nn.AvgPool2d(2),
    "max": lambda: nn.MaxPool2d(2),
}


def lenet5(classes: int = 10, pool: str = "max", batch_norm: bool = False) -> nn.Sequential:
    """Two convolutions, three linear layers: [N, 1, 28, 28] -> [N, classes].

    conv1 6@5x5 (padding 2), conv2 16@5x5, each with ReLU and a 2x2 pool ("max" or "avg"); then
    400-120-84-classes. `batch_norm` puts one behind each convolution.
    61,706 parameters, 416,520 multiply-accumulates.
    """
    check_counts("lenet5", {"classes": classes})
    check_choice("lenet5", "pool", pool, tuple(_POOLS))
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for index, conv in enumerate((nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)), start=1):
        layers[f"conv{index}"] = conv
        if batch_norm:
            layers[f"bn{index}"] = nn.BatchNorm2d(conv.out_channels)
        layers[f"relu{index}"] = nn.ReLU()
        layers[f"pool{index}"] = _POOLS[pool]()
    layers["flatten"] = nn.Flatten()
    layers["fc1"], layers["relu3"] = nn.Linear(400, 120), nn.ReLU()
    layers["fc2"], layers["relu4"] = nn.Linear(120, 84), nn.ReLU()
    layers["fc3"] = nn.Linear(84, classes)
    return nn.Sequential(layers)


def lenet5_caffe(classes: int = 10) -> nn.Sequential:
    """The LeNet-5 that comes with Caffe, and that publications on compression mean.

    [N, 1, 28, 28] -> [N, classes]: conv1 20@5x5, conv2 50@5x5, a 2x2 max pool behind each; then
    800-500-classes with one ReLU between. 431,080 parameters, 2,293,000 multiply-accumulates.
    Jia et al., "Caffe: convolutional architecture for fast feature embedding", 2014.
    """
    check_counts("lenet5_caffe", {"classes": classes})
    return nn.Sequential(
        OrderedDict(
            (
                ("conv1", nn.Conv2d(1, 20, 5)),
                ("pool1", nn.MaxPool2d(2)),
                ("conv2", nn.Conv2d(20, 50, 5)),
                ("pool2", nn.MaxPool2d(2)),
                ("flatten", nn.Flatten()),
                ("fc1", nn.Linear(800, 500)),
                ("relu1", nn.ReLU()),
                ("fc2", nn.Linear(500, classes)),
            )
        )
    )


def lenet_300_100(classes: int = 10) -> nn.Sequential:
    """Three linear layers, 784-300-100-classes with ReLU: [N, 784] -> [N, classes].

    266,610 parameters, 266,200 multiply-accumulates.
    """
    check_counts("lenet_300_100", {"classes": classes})
    return mlp([784, 300, 100, classes])
