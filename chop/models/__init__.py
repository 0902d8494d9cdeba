"""Ready-made models; looked up on first use, so that listing them does not import torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from chop.models.registry import MODELS

if TYPE_CHECKING:
    from chop.models.autoencoders import autoencoder, conv_autoencoder
    from chop.models.convolutional import cnn
    from chop.models.jsc import JSC_Three_Linear_Layers, JSC_Tiny
    from chop.models.lenet import lenet5, lenet_300_100
    from chop.models.perceptron import mlp
    from chop.models.resnet import resnet8
    from chop.models.separable import ds_cnn, mobilenet_v1
    from chop.models.squeeze_excite import se_net
    from chop.models.temporal import tcn
    from chop.models.unet import unet_mini
    from chop.models.vgg import vgg_small

__all__ = [
    "JSC_Three_Linear_Layers",
    "JSC_Tiny",
    "autoencoder",
    "cnn",
    "conv_autoencoder",
    "ds_cnn",
    "lenet5",
    "lenet_300_100",
    "mlp",
    "mobilenet_v1",
    "resnet8",
    "se_net",
    "tcn",
    "unet_mini",
    "vgg_small",
]


def __getattr__(name: str) -> object:
    if name not in MODELS:
        raise AttributeError(f"module 'chop.models' has no attribute '{name}'")
    module, attribute = MODELS[name].split(":")
    return getattr(importlib.import_module(module), attribute)
