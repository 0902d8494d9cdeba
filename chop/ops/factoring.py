"""A layer as several smaller ones: what a linear layer and a convolution fall apart into."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

__all__ = ["Factoring", "of_conv", "of_linear"]

ConvLayer = nn.Conv1d | nn.Conv2d


@dataclass(frozen=True, slots=True, eq=False)
class Factoring:
    """What can be factored of a layer.

    Attributes:
        matrix: its weights [outputs, weights of one output].
        in_two: the layers, one behind the other, for factors [rank, inputs] and [outputs, rank].
        filters: its weights [outputs, channels, height, width]; None: it has no such.
        in_three: the layers for factors [outputs, rank, channels], [outputs, rank, height] and
            [outputs, rank, width]: along each axis by itself, and the sum over the rank.
    """

    matrix: torch.Tensor
    in_two: Callable[[torch.Tensor, torch.Tensor], tuple[nn.Module, ...]]
    filters: torch.Tensor | None = None
    in_three: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], tuple[nn.Module, ...]] | None = (
        None
    )


def of_linear(layer: nn.Linear) -> Factoring:
    """Returns the factoring of a linear layer: two linear layers, the bias in the second."""
    return Factoring(layer.weight.detach(), partial(_two_linear, layer))


def of_conv(layer: ConvLayer) -> Factoring | None:
    """Returns the factoring of a convolution without groups.

    In two: its windows onto fewer channels, then a convolution of single pixels. In three, of a 2-D
    one: single pixels, columns, rows (Jin, Dundar, Culurciello: Flattened convolutional neural
    networks, 2015). The bias is in the last.
    """
    if layer.groups > 1 or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        return None
    weight = layer.weight.detach()
    in_two = partial(_two_conv, layer)
    if not isinstance(layer, nn.Conv2d):
        return Factoring(weight.flatten(1), in_two)
    return Factoring(weight.flatten(1), in_two, weight, partial(_three_conv, layer))


def _filled(layer: nn.Module, weight: torch.Tensor, like: nn.Module) -> nn.Module:
    """Returns the layer with a weight, in the mode and precision of another, and its bias."""
    old = like.weight
    assert isinstance(old, torch.Tensor)
    layer.weight = nn.Parameter(weight.to(old.dtype).contiguous())
    if layer.bias is not None:
        bias = like.bias
        assert isinstance(bias, torch.Tensor)
        layer.bias = nn.Parameter(bias.detach().clone())
    return layer.train(like.training)


def _two_linear(
    layer: nn.Linear, first: torch.Tensor, second: torch.Tensor
) -> tuple[nn.Module, ...]:
    rank, inputs = first.shape
    outputs = len(second)
    return (
        _filled(nn.Linear(inputs, rank, False), first, layer),
        _filled(nn.Linear(rank, outputs, layer.bias is not None), second, layer),
    )


def _two_conv(layer: ConvLayer, first: torch.Tensor, second: torch.Tensor) -> tuple[nn.Module, ...]:
    kind: Callable[..., ConvLayer] = nn.Conv2d if isinstance(layer, nn.Conv2d) else nn.Conv1d
    rank, outputs = len(first), len(second)
    sizes = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    windows = kind(layer.in_channels, rank, *sizes, bias=False)
    pixels = kind(rank, outputs, 1, bias=layer.bias is not None)
    return (
        _filled(windows, first.reshape(windows.weight.shape), layer),
        _filled(pixels, second.reshape(pixels.weight.shape), layer),
    )


def _three_conv(
    layer: nn.Conv2d, channels: torch.Tensor, columns: torch.Tensor, rows: torch.Tensor
) -> tuple[nn.Module, ...]:
    outputs, rank, count = channels.shape
    inner = outputs * rank
    (height, width), (down, right) = layer.kernel_size, layer.stride
    (high, wide), (apart, beside) = layer.dilation, (0, 0)
    assert not isinstance(layer.padding, str)
    apart, beside = layer.padding
    pixels = nn.Conv2d(count, inner, 1, bias=False)
    down_the_columns = nn.Conv2d(
        inner, inner, (height, 1), (down, 1), (apart, 0), (high, 1), inner, bias=False
    )
    along_the_rows = nn.Conv2d(
        inner, outputs, (1, width), (1, right), (0, beside), (1, wide), outputs,
        bias=layer.bias is not None,
    )  # fmt: skip
    return (
        _filled(pixels, channels.reshape(inner, count, 1, 1), layer),
        _filled(down_the_columns, columns.reshape(inner, 1, height, 1), layer),
        _filled(along_the_rows, rows.reshape(outputs, rank, 1, width), layer),
    )
