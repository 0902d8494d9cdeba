"""Name -> "module:function" of every ready-made model."""

from __future__ import annotations

__all__ = ["MODELS"]

MODELS = {
    "JSC_Three_Linear_Layers": "chop.models.jsc:JSC_Three_Linear_Layers",
    "JSC_Tiny": "chop.models.jsc:JSC_Tiny",
    "autoencoder": "chop.models.autoencoders:autoencoder",
    "cnn": "chop.models.convolutional:cnn",
    "conv_autoencoder": "chop.models.autoencoders:conv_autoencoder",
    "ds_cnn": "chop.models.separable:ds_cnn",
    "lenet5": "chop.models.lenet:lenet5",
    "lenet5_caffe": "chop.models.lenet:lenet5_caffe",
    "lenet_300_100": "chop.models.lenet:lenet_300_100",
    "mlp": "chop.models.perceptron:mlp",
    "mobilenet_v1": "chop.models.separable:mobilenet_v1",
    "resnet8": "chop.models.resnet:resnet8",
    "se_net": "chop.models.squeeze_excite:se_net",
    "tcn": "chop.models.temporal:tcn",
    "unet_mini": "chop.models.unet:unet_mini",
    "vgg_small": "chop.models.vgg:vgg_small",
}
