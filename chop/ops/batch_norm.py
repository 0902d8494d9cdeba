"""batch_norm: in evaluation a multiplication and an addition per channel."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from chop.nn.layers import ChannelAffine
from chop.ops.affine import AffineOp
from chop.ops.base import Call
from chop.ops.channels import Axes, Resize, resized_parameters

__all__ = ["BATCH_NORM"]


def _layer(call: Call) -> ChannelAffine:
    """y = x g + h with g = gamma / sqrt(var + eps), h = beta - mu g (NUMERICS)."""
    if isinstance(call.module, nn.BatchNorm1d | nn.BatchNorm2d):
        norm = call.module
        mean, variance, eps = norm.running_mean, norm.running_var, norm.eps
        gamma, beta = norm.weight, norm.bias
    else:
        mean, variance = call.argument(1, "running_mean"), call.argument(2, "running_var")
        gamma, beta = call.argument(3, "weight"), call.argument(4, "bias")
        eps = call.argument(7, "eps", 1e-5)
        if call.argument(5, "training", False):
            mean = None
    if mean is None or variance is None:
        raise call.refuse(
            "batch statistics change with every batch",
            "use running statistics (track_running_stats=True, training=False)",
        )
    # float64: the folded constants are rounded once, by quantisation.
    g = 1.0 / torch.sqrt(variance.detach().double() + eps)
    if gamma is not None:
        g = g * gamma.detach().double()
    h = -mean.detach().double() * g
    if beta is not None:
        h = h + beta.detach().double()
    shape = (-1, *[1] * (len(call.output_shape) - 1))
    return ChannelAffine(g.reshape(shape).to(mean.dtype), h.reshape(shape).to(mean.dtype))


def _resize(layer: nn.Module, output: Axes) -> Resize:
    names = ("weight", "bias", "running_mean", "running_var")
    sizes = {"num_features": len(output[0])}
    return resized_parameters(layer, dict.fromkeys(names, (output[0],)), sizes)


class _Trained(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(6)
        state = self.norm.state_dict()
        for name, centre in (
            ("weight", 1.0),
            ("running_var", 1.0),
            ("bias", 0),
            ("running_mean", 0),
        ):
            nn.init.uniform_(state[name], centre - 0.5, centre + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.norm(x)
        return y


class _Function(_Trained):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        norm = self.norm
        return functional.batch_norm(
            x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
        )


BATCH_NORM = AffineOp(
    "batch_norm",
    "batch normalisation in evaluation: a multiplication and an addition per channel",
    (nn.BatchNorm1d, nn.BatchNorm2d, functional.batch_norm),
    _layer,
    (("module", _Trained, (6,)), ("function", _Function, (6,))),
    _resize,
)
