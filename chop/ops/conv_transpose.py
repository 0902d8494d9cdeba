"""conv_transpose: transposed convolutions of [C, H, W] and [C, L].

By phases: of the outputs along an axis, those of one index modulo the stride are an ordinary
convolution of the input with every stride-th entry of the kernel. In hardware every row of the
frame comes once per phase; a row's windows meet the weights of that phase, of all columns' phases
at once, so that their results follow one another as the stream wants them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from chop.errors import ShapeError
from chop.formats.base import Integers
from chop.formats.fixed import Fixed, covering
from chop.formats.mxint import MxInt
from chop.formats.scale import Scale
from chop.formats.scaled import Scaled
from chop.integer.record import Value
from chop.ir.tensor_type import Parameter, TensorType, channels_last
from chop.nn.transposed import TransposedConv
from chop.ops.accumulate import alignment, product_scale
from chop.ops.base import Call, Case, Op, Site, Stage, StreamOrder
from chop.ops.channels import Axes, Resize, Ties, resized_parameters, zeros
from chop.ops.linear import Linear, LinearAttributes
from chop.ops.moving import Move, Pick, View
from chop.ops.phases import Phases
from chop.ops.repeat_rows import REPEAT_ROWS, RepeatRowsAttributes
from chop.ops.slice import SLICE
from chop.ops.window import WINDOW, WindowAttributes, window_values

__all__ = ["ConvTranspose"]

Pair = tuple[int, int]

_LINEAR = Linear()


class ConvTranspose(Op[Phases]):
    name = "conv_transpose"
    summary = "transposed convolution of [C, H, W] or [C, L]: stride, padding, output_padding"
    targets = (
        *(nn.ConvTranspose1d, nn.ConvTranspose2d),
        *(functional.conv_transpose1d, functional.conv_transpose2d),
    )
    module = "chop_linear"
    modules = ("chop_linear", "chop_window", "chop_reorder", "chop_slice")
    cycles = (
        "out_height * windows of a row * (taps of a phase * channels / in_lanes) * (stride * "
        "out_channels / out_lanes), or the time of the windows if that is longer; without waste "
        "where the stride divides the kernel; latency of the first window, then as linear"
    )
    limits = (
        "groups and dilation are 1; output_padding in place of output_size; batches of [C, H, W] "
        "or [C, L]; weight and bias are constants"
    )
    quantizes_input = True

    def read(self, call: Call) -> Phases:
        layer, shape = self.layer(call), call.input_shapes[0]
        rank = len(layer.kernel_size)
        if len(shape) != rank + 1:
            raise call.refuse(
                f"a {rank}-D transposed convolution of a batch of tensors of shape {shape}",
                f"give it a batch of {'[C, H, W]' if rank == 2 else '[C, L]'}",
            )
        try:
            return Phases(
                shape[0],
                *_pair(shape[1:], 1),
                layer.weight.shape[0],
                _pair(call.output_shape[1:], 1),
                _pair(layer.kernel_size, 1),
                _pair(layer.stride, 1),
                _pair(layer.padding, 0),
                layer.bias is not None,
            )
        except ShapeError as error:
            raise call.refuse(
                str(error).removeprefix("window: "), "see the layer's sizes"
            ) from error

    def layer(self, call: Call) -> TransposedConv:
        module = call.module
        if isinstance(module, TransposedConv):
            return module
        if isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d):
            if call.argument(1, "output_size") is not None:
                raise call.refuse("output_size", "give the layer the output_padding of that size")
            _refuse(call, module.groups, module.dilation)
            sizes = (module.stride, module.padding, module.output_padding)
            made = TransposedConv(
                module.weight, module.bias, *(_size(s, module.weight) for s in sizes)
            )
            return made.train(module.training)
        weight, bias = call.argument(1, "weight"), call.argument(2, "bias")
        if not isinstance(weight, torch.Tensor) or not isinstance(bias, torch.Tensor | None):
            raise call.refuse(
                "the weight or bias of a transposed convolution is computed from an input",
                "make it a parameter or a constant",
            )
        _refuse(call, call.argument(6, "groups", 1), call.argument(7, "dilation", 1))
        return TransposedConv(
            weight,
            bias,
            _size(call.argument(3, "stride", 1), weight),
            _size(call.argument(4, "padding", 0), weight),
            _size(call.argument(5, "output_padding", 0), weight),
        )

    def tie_channels(
        self, attributes: Phases, inputs: Sequence[Axes], shape: tuple[int, ...], ties: Ties
    ) -> Axes:
        for labels in inputs[0][1:]:
            ties.fix(labels, "moves windows along them")
        return (ties.fresh(shape[0]), *zeros(shape[1:]))

    def resized(self, layer: nn.Module, inputs: Sequence[Axes], output: Axes) -> Resize:
        into, out = inputs[0][0], output[0]
        if isinstance(layer, TransposedConv):
            return resized_parameters(layer, {"weight": (out, into), "bias": (out,)}, {}, 1)
        sizes = {"in_channels": len(into), "out_channels": len(out)}
        return resized_parameters(layer, {"weight": (into, out), "bias": (out,)}, sizes, 0)

    def reads(self, shape: tuple[int, ...]) -> StreamOrder:
        return StreamOrder.CHANNELS

    def fold_before(self, layer: nn.Module, scale: torch.Tensor, shift: torch.Tensor) -> bool:
        weight, inputs, _ = _weight_of(layer)
        # Not every output meets every entry of the kernel, so a shift is no bias per channel.
        if weight is None or bool((shift != 0).any()):
            return False
        _set(layer, weight.detach().double() * _along(scale, inputs, weight), None)
        return True

    def fold_after(self, layer: nn.Module, scale: torch.Tensor, shift: torch.Tensor) -> bool:
        weight, _, outputs = _weight_of(layer)
        if weight is None:
            return False
        bias = getattr(layer, "bias", None)
        moved = shift if bias is None else bias.detach().double() * scale + shift
        _set(layer, weight.detach().double() * _along(scale, outputs, weight), moved)
        return True

    def infer(self, site: Site[Phases]) -> TensorType:
        sums = _LINEAR.infer(_product(site).site)
        shape = site.exact.shape
        return replace(sums, shape=shape, layout=channels_last(shape))

    def infer_scale(self, site: Site[Phases]) -> Scale | None:
        scale = product_scale(site)
        return None if scale is None else scale.behind(len(site.exact.shape) - 1)

    def define(self, site: Site[Phases], inputs: Sequence[Value]) -> Value:
        a, linear = site.attributes, _product(site).site
        (down, along), (height, width) = a.stride, a.out
        _, shift, bias = alignment(linear)
        rows = tuple(np.repeat(np.arange(a.height), down).tolist())
        x = inputs[0].reshape((a.channels, a.height, a.width)).take(1, rows)
        features = linear.attributes.in_features
        windows = window_values(x, a.windows).reshape((height, a.columns.count, features))
        weights = np.split(linear.parameters["weight"].values, linear.attributes.sets)
        found: list[Value] = []
        order: list[int] = []
        for phase, weight in enumerate(weights):
            own = tuple(range(phase, height, down))
            found.append(windows.take(0, own).matmul(weight))
            order += own
        sums = found[0].concatenate(found[1:], 0).take(0, tuple(np.argsort(order).tolist()))
        # All phases have one bias.
        sums = sums.shift_left(shift) + bias[: along * a.out_channels]
        pixels = sums.reshape((height, a.columns.count * along, a.out_channels))
        kept = pixels.take(1, tuple(range(a.columns.cut, a.columns.cut + width)))
        return kept.permute((2, 0, 1)).reshape(site.exact.shape)

    def macs(self, attributes: Phases, output: TensorType) -> int:
        """Returns the multiplications without those that only fill up windows with zeros."""
        a, counts = attributes, 1
        sizes = zip(a.out, a.kernel, a.stride, a.padding, strict=True)
        for out, kernel, stride, padding in sizes:
            phases = (np.arange(out) + padding) % stride
            counts *= int(np.maximum(-(-(kernel - phases) // stride), 0).sum())
        return counts * a.channels * a.out_channels

    def stages(self, site: Site[Phases]) -> tuple[Stage[Any], ...]:
        a, product = site.attributes, _product(site)
        before = _before(site)
        if not a.needs_cut:
            own = replace(product.site, name=site.name, output=site.output)
            return (*before, Stage(_LINEAR, own))
        c, shape = a.columns, site.exact.shape
        given = (a.out_channels, a.out[0], c.count * a.stride[1])
        sums = replace(product.site.exact, shape=given, layout=channels_last(given))
        # Its rows are in the order of the stream already: its own type has no layout.
        linear = replace(product.site, output=sums)
        kept = Pick(2, tuple(range(c.cut, c.cut + a.out[1])))
        move = Move((kept, View(shape)))
        cut = Site(site.name, move, (sums,), {}, site.rounding, site.exact, site.output)
        return (*before, Stage(_LINEAR, linear), Stage(SLICE, cut))

    def cases(self) -> tuple[Case, ...]:
        conv, line = nn.ConvTranspose2d, nn.ConvTranspose1d
        return (
            Case("twice", conv(4, 3, 2, stride=2), ((4, 3, 2),)),
            Case("same", conv(2, 3, 3, stride=2, padding=1, output_padding=1), ((2, 3, 4),)),
            Case("halves", conv(3, 2, 4, stride=2, padding=1, bias=False), ((3, 3, 4),)),
            Case("odd", conv(2, 2, 3, stride=2, padding=1), ((2, 3, 3),)),
            Case("plain", conv(2, 3, 3, bias=False), ((2, 3, 2),)),
            Case("shrinking", conv(2, 3, 3, padding=2), ((2, 4, 5),)),
            Case("asymmetric", conv(2, 2, (2, 3), (3, 2), (0, 1), (1, 0)), ((2, 2, 3),)),
            Case("gaps", conv(2, 3, 1, stride=2), ((2, 2, 3),)),
            Case("cropping", conv(2, 2, 2, stride=2, padding=1), ((2, 3, 4),)),
            Case("pixel", conv(3, 2, (3, 2), stride=2), ((3, 1, 1),)),
            Case("line", line(3, 2, 4, stride=2, padding=1), ((3, 5),)),
            Case("line_twice", line(4, 3, 2, stride=2, bias=False), ((4, 3),)),
            Case("fewer_rows", conv(2, 2, (2, 2), (3, 2)), ((2, 1, 2),)),
            Case("one_row", conv(2, 2, (3, 2), 2, (1, 0), bias=False), ((2, 1, 3),)),
            Case("line_point", line(3, 2, 2, stride=3), ((3, 1),)),
            Case("chain", _chain(), ((2, 4, 4),)),
            Case("function", _Function(), ((2, 2, 3),)),
        )


def _before(site: Site[Phases]) -> tuple[Stage[Any], ...]:
    """Returns the stages that make the vectors: repeated rows, and windows, where needed."""
    a, (x,) = site.attributes, site.inputs
    found: list[Stage[Any]] = []
    if a.stride[0] > 1:
        own = RepeatRowsAttributes(a.channels, a.height, a.width, a.stride[0])
        found.append(_stage(site, "rows", REPEAT_ROWS, own, x))
        x = found[-1].site.exact
    if a.needs_windows:
        found.append(_stage(site, "window", WINDOW, WindowAttributes(a.windows), x))
    return tuple(found)


def _stage(
    site: Site[Phases], name: str, op: Op[Any], attributes: Any, x: TensorType
) -> Stage[Any]:
    own: Site[Any] = Site(f"{site.name}_{name}", attributes, (x,), {}, site.rounding, x, x)
    given = op.infer(own)
    return Stage(op, replace(own, exact=given, output=given))


def _product(site: Site[Phases]) -> Stage[Any]:
    """Returns the stage that multiplies: from vectors [rows * windows, taps * channels]."""
    a, before = site.attributes, _before(site)
    x = before[-1].site.exact if before else site.inputs[0]
    taps, outputs = a.row_taps * a.columns.taps, a.stride[1] * a.out_channels
    vectors = a.out[0] * a.columns.count
    own = LinearAttributes(
        taps * a.channels, outputs, vectors, a.has_bias, a.row_phases, a.columns.count
    )
    x = replace(x, shape=(vectors, taps * a.channels), layout=None)
    exact = replace(site.exact, shape=(vectors, outputs), layout=None)
    parameters = {"weight": _rows(site.parameters["weight"], a)}
    if a.has_bias:
        parameters["bias"] = _repeated(site.parameters["bias"], a.row_phases * a.stride[1])
    linear = Site(f"{site.name}_product", own, (x,), parameters, site.rounding, exact, exact)
    return Stage(_LINEAR, linear)


# Asked for again and again while a design is scheduled.
@lru_cache(maxsize=256)
def _rows(weight: Parameter, a: Phases) -> Parameter:
    """Returns weights [O, C, *kernel] as [row phase, column phase, O] x [kh, kw, C], two axes.

    Where a phase has no entry of the kernel is 0. Formats that have no 0, or blocks along the
    kernel, become plain integers then.
    """
    values = weight.values.reshape(a.out_channels, a.channels, *a.kernel)
    # The entry behind the kernel's last is what it does not have.
    padded = np.pad(values, ((0, 0), (0, 0), (0, 1), (0, 1)))
    rows, columns = a.entries()
    # [O, C, row phase, kh, column phase, kw]
    phases = padded[:, :, rows][..., columns].transpose(2, 4, 0, 3, 5, 1)
    outputs = a.row_phases * a.stride[1] * a.out_channels
    matrix = np.ascontiguousarray(phases.reshape(outputs, -1))
    carrier, format = weight.fixed, weight.format
    filled = bool((rows == a.kernel[0]).any() or (columns == a.kernel[1]).any())
    levels = format.levels()
    has_zero = isinstance(format, Fixed | Scaled) if levels is None else 0 in levels
    if isinstance(format, MxInt) or (filled and not has_zero):
        low, high = min(int(values.min()), -1), max(int(values.max()), 0)
        carrier = format = covering(low, high, carrier.frac_width)
    scale = _scale(weight.scale, a.row_phases * a.stride[1])
    return Parameter(Integers(matrix, carrier, scale), format)


@lru_cache(maxsize=256)
def _repeated(bias: Parameter, times: int) -> Parameter:
    """Returns the biases of all phases."""
    values = np.tile(bias.values, times)
    return Parameter(Integers(values, bias.fixed, _scale(bias.scale, times)), bias.format)


def _scale(scale: Scale | None, times: int) -> Scale | None:
    if scale is None or not scale.per_channel:
        return scale
    return Scale(scale.factors * times, scale.trailing)


def _refuse(call: Call, groups: int, dilation: int | Sequence[int]) -> None:
    if groups != 1:
        raise call.refuse(
            f"a transposed convolution in {groups} groups",
            "split the channels, or upsample and use a convolution with groups",
        )
    if set(np.atleast_1d(dilation).tolist()) != {1}:
        raise call.refuse(
            f"a transposed convolution with dilation {dilation}",
            "use dilation 1, with zeros in a larger kernel",
        )


def _size(size: Any, weight: torch.Tensor) -> tuple[int, ...]:
    """Returns a size as PyTorch may be given it as one number per axis."""
    axes = weight.dim() - 2
    found = (size,) * axes if isinstance(size, int) else tuple(int(n) for n in size)
    return found * axes if len(found) == 1 else found


def _pair(size: Sequence[int], other: int) -> Pair:
    """Returns a size of one axis or two as that of two, with `other` for the first."""
    vertical, horizontal = (other, *size)[-2:]
    return vertical, horizontal


def _weight_of(layer: nn.Module) -> tuple[torch.Tensor | None, int, int]:
    """Returns the weight and its axes of inputs and outputs; None of another layer."""
    if isinstance(layer, TransposedConv):
        return layer.weight, 1, 0
    if isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d) and layer.groups == 1:
        return layer.weight, 0, 1
    return None, 0, 0


def _along(factors: torch.Tensor, axis: int, weight: torch.Tensor) -> torch.Tensor:
    return factors.reshape([-1 if a == axis else 1 for a in range(weight.dim())])


def _set(layer: Any, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
    dtype = layer.weight.dtype
    layer.weight = nn.Parameter(weight.to(dtype))
    if bias is not None:
        layer.bias = nn.Parameter(bias.to(dtype))


def _chain() -> nn.Module:
    """Down and up again, as a U-Net does."""
    return nn.Sequential(
        *(nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.ConvTranspose2d(4, 3, 2, stride=2), nn.ReLU()),
        *(nn.Conv2d(3, 2, 3, padding=1), nn.ConvTranspose2d(2, 2, 3, 2, 1, 1)),
    )


class _Function(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 3, 2, 2))
        self.line = nn.Parameter(torch.randn(3, 2, 3))
        self.bias = nn.Parameter(torch.randn(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.conv_transpose2d(x, self.weight, self.bias, stride=2)
        return functional.conv_transpose1d(y.flatten(2), self.line, stride=2, padding=1)
