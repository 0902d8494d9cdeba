"""conv: convolutions of [C, H, W] and [C, L], in groups or not.

In hardware the windows of the frame, then a matrix-vector product for each (and each group); a
depthwise convolution has hardware of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from chop.errors import ShapeError
from chop.formats.base import Integers
from chop.formats.fixed import covering
from chop.formats.mxint import MxInt
from chop.formats.rounding import Ints
from chop.formats.scale import Scale
from chop.integer.record import Value
from chop.ir.tensor_type import Parameter, TensorType, channels_last
from chop.ops.accumulate import alignment
from chop.ops.base import Call, Case, Op, Site, Stage, StreamOrder
from chop.ops.channels import Axes, Resize, Ties, resized_parameters, zeros
from chop.ops.depthwise import DEPTHWISE, DepthwiseAttributes
from chop.ops.factoring import Factoring, of_conv
from chop.ops.linear import Linear, LinearAttributes
from chop.ops.window import WINDOW, WindowAttributes, taps_inside, window_values
from chop.ops.windows import WindowShape

__all__ = ["Conv", "ConvAttributes"]

ConvLayer = nn.Conv1d | nn.Conv2d

_LINEAR = Linear()


@dataclass(frozen=True, slots=True)
class ConvAttributes:
    """A convolution of [C, L] has frames of height 1."""

    windows: WindowShape
    out_channels: int
    groups: int
    has_bias: bool

    @property
    def vectors(self) -> int:
        """Windows of a frame."""
        return self.windows.out[0] * self.windows.out[1]

    @property
    def taps(self) -> int:
        return self.windows.kernel[0] * self.windows.kernel[1]

    @property
    def is_depthwise(self) -> bool:
        return self.groups == self.windows.channels > 1

    @property
    def needs_windows(self) -> bool:
        """Whether the stream is not yet the windows, one after the other."""
        w = self.windows
        single = self.taps == 1 and w.stride == (1, 1) and w.out == (w.height, w.width)
        # A window that is the frame.
        whole = w.kernel == (w.height, w.width) and w.out == (1, 1) and self.groups == 1
        return not ((single or whole) and taps_inside(w) and w.dilation == (1, 1))


class Conv(Op[ConvAttributes]):
    name = "conv"
    summary = "convolution of [C, H, W] or [C, L]: stride, padding, dilation, groups, depthwise"
    targets = (nn.Conv1d, nn.Conv2d, functional.conv1d, functional.conv2d)
    module = "chop_linear"
    modules = ("chop_linear", "chop_window", "chop_depthwise")
    cycles = (
        "windows * groups * (taps * channels / groups / in_lanes) * (out_channels / groups / "
        "out_lanes), or the time of the windows if that is longer; depthwise: windows * taps * "
        "channels / lanes, or windows * channels / lanes with all taps at once; latency of the "
        "first window, then as linear"
    )
    limits = (
        "padding with zeros only; batches of [C, H, W] or [C, L]; weight and bias are constants"
    )
    quantizes_input = True

    def read(self, call: Call) -> ConvAttributes:
        layer, shape = self.layer(call), call.input_shapes[0]
        rank = len(layer.kernel_size)
        if len(shape) != rank + 1:
            raise call.refuse(
                f"a {rank}-D convolution of a batch of tensors of shape {shape}",
                f"give it a batch of {'[C, H, W]' if rank == 2 else '[C, L]'}",
            )
        if layer.padding_mode != "zeros":
            raise call.refuse(
                f"padding_mode '{layer.padding_mode}'", "use 'zeros', or a pad before it"
            )
        sizes = (layer.kernel_size, layer.stride, layer.dilation)
        kernel, stride, dilation = (_pair(size) for size in sizes)
        channels, height, width = shape if rank == 2 else (shape[0], 1, shape[1])
        try:
            windows = WindowShape.of(
                (channels, height, width), kernel, stride, dilation, _padding(layer)
            )
        except ShapeError as error:
            raise call.refuse(
                str(error).removeprefix("window: "), "change its kernel, padding or dilation"
            ) from error
        return ConvAttributes(windows, layer.out_channels, layer.groups, layer.bias is not None)

    def layer(self, call: Call) -> ConvLayer:
        if isinstance(call.module, nn.Conv1d | nn.Conv2d):
            return call.module
        weight, bias = call.argument(1, "weight"), call.argument(2, "bias")
        if not isinstance(weight, torch.Tensor) or not isinstance(bias, torch.Tensor | None):
            raise call.refuse(
                "the weight or bias of a convolution is computed from an input",
                "make it a parameter or a constant",
            )
        groups = call.argument(6, "groups", 1)
        made: Callable[..., ConvLayer] = nn.Conv1d if weight.dim() == 3 else nn.Conv2d
        layer = made(
            weight.shape[1] * groups,
            weight.shape[0],
            tuple(weight.shape[2:]),
            call.argument(3, "stride", 1),
            call.argument(4, "padding", 0),
            call.argument(5, "dilation", 1),
            groups,
            bias is not None,
        )
        layer.weight = nn.Parameter(weight.detach().clone())
        if bias is not None:
            layer.bias = nn.Parameter(bias.detach().clone())
        return layer

    def tie_channels(
        self, attributes: ConvAttributes, inputs: Sequence[Axes], shape: tuple[int, ...], ties: Ties
    ) -> Axes:
        (x,), a = inputs, attributes
        for labels in x[1:]:
            ties.fix(labels, "moves windows along them")
        made = ties.fresh(a.out_channels)
        of_group, given = x[0].reshape(a.groups, -1), made.reshape(a.groups, -1)
        for k in range(given.shape[1] if a.is_depthwise else 0):
            ties.tie(x[0], given[:, k])
        for group in range(1, 1 if a.is_depthwise else a.groups):
            ties.tie(of_group[0], of_group[group])
            ties.tie(given[0], given[group])
        if a.groups > 1 and not a.is_depthwise and given.shape[1] == 1:
            ties.fix(made, "gives one channel for each of its groups")
        return (made, *zeros(shape[1:]))

    def resized(self, layer: nn.Module, inputs: Sequence[Axes], output: Axes) -> Resize:
        assert isinstance(layer, ConvLayer)
        into, out, groups = inputs[0][0], output[0], layer.groups
        each = layer.in_channels // groups
        sizes = {"in_channels": len(into), "out_channels": len(out)}
        if groups > 1 and each == 1:
            sizes["groups"] = len(into)
            parameters = {"weight": (out, None), "bias": (out,)}
            return resized_parameters(layer, parameters, sizes)
        of_group = (into % each)[: len(into) // groups]
        parameters = {"weight": (out, of_group), "bias": (out,)}
        return resized_parameters(layer, parameters, sizes, 1)

    def factoring(self, layer: nn.Module) -> Factoring | None:
        return of_conv(layer) if isinstance(layer, ConvLayer) else None

    def reads(self, shape: tuple[int, ...]) -> StreamOrder:
        return StreamOrder.CHANNELS

    def fold_before(self, layer: nn.Module, scale: torch.Tensor, shift: torch.Tensor) -> bool:
        if not isinstance(layer, nn.Conv1d | nn.Conv2d):
            return False
        if any(_padding(layer)) and bool((shift != 0).any()):
            # The shift would have to be added to the padding too.
            return False
        weight = layer.weight.detach().double()
        # [group, output, input, taps]
        grouped = weight.reshape(
            layer.groups, layer.out_channels // layer.groups, -1, *_taps(layer)
        )
        across = (layer.groups, 1, -1, *[1] * len(layer.kernel_size))
        moved = (grouped * shift.reshape(across)).flatten(2).sum(2).reshape(-1)
        scaled = (grouped * scale.reshape(across)).reshape(weight.shape)
        _set(layer, scaled, _bias_of(layer) + moved)
        return True

    def fold_after(self, layer: nn.Module, scale: torch.Tensor, shift: torch.Tensor) -> bool:
        if not isinstance(layer, nn.Conv1d | nn.Conv2d):
            return False
        weight = layer.weight.detach().double()
        rows = scale.reshape(-1, *[1] * (weight.dim() - 1))
        _set(layer, weight * rows, _bias_of(layer) * scale + shift)
        return True

    def infer(self, site: Site[ConvAttributes]) -> TensorType:
        last = self.stages(site)[-1]
        shape = site.exact.shape
        return replace(last.op.infer(last.site), shape=shape, layout=channels_last(shape))

    def infer_scale(self, site: Site[ConvAttributes]) -> Scale | None:
        last = self.stages(site)[-1]
        scale = last.op.infer_scale(last.site)
        return None if scale is None else scale.behind(len(site.exact.shape) - 1)

    def define(self, site: Site[ConvAttributes], inputs: Sequence[Value]) -> Value:
        a, w = site.attributes, site.attributes.windows
        x = inputs[0].reshape((w.channels, w.height, w.width))
        last = self.stages(site)[-1]
        if a.is_depthwise:
            return last.op.define(last.site, [x]).reshape(site.exact.shape)
        _, shift, bias = alignment(last.site)
        windows = window_values(x, w)
        weight = last.site.parameters["weight"].values
        outputs, channels = a.out_channels // a.groups, w.channels // a.groups
        found = []
        for group in range(a.groups):
            part = windows.take(4, tuple(range(group * channels, (group + 1) * channels)))
            rows = weight[group * outputs : (group + 1) * outputs]
            found.append(part.reshape((a.vectors, a.taps * channels)).matmul(rows))
        sums = found[0].concatenate(found[1:], 1).shift_left(shift) + bias
        return sums.permute((1, 0)).reshape(site.exact.shape)

    def macs(self, attributes: ConvAttributes, output: TensorType) -> int:
        a = attributes
        return a.vectors * a.taps * a.windows.channels // a.groups * a.out_channels

    def stages(self, site: Site[ConvAttributes]) -> tuple[Stage[Any], ...]:
        a = site.attributes
        parameters = dict(site.parameters)
        parameters["weight"] = _columns(parameters["weight"])
        if a.is_depthwise:
            own = DepthwiseAttributes(a.windows, a.out_channels // a.groups)
            return (Stage(DEPTHWISE, _site(site, own, site.inputs[0], parameters)),)
        features = a.taps * a.windows.channels // a.groups
        product = LinearAttributes(
            features, a.out_channels // a.groups, a.vectors * a.groups, a.has_bias, a.groups
        )
        vectors = (a.vectors * a.groups, features)
        x = replace(site.inputs[0], shape=vectors, layout=None)
        if not a.needs_windows:
            return (Stage(_LINEAR, _site(site, product, x, parameters)),)
        window: Site[WindowAttributes] = Site(
            f"{site.name}_window",
            WindowAttributes(a.windows, a.groups),
            site.inputs,
            {},
            site.rounding,
            x,
            x,
        )
        given = WINDOW.infer(window)
        window = replace(window, exact=given, output=given)
        x = replace(given, shape=vectors)
        return Stage(WINDOW, window), Stage(_LINEAR, _site(site, product, x, parameters))

    def cases(self) -> tuple[Case, ...]:
        same = nn.Conv2d(2, 3, (2, 3), padding="same", dilation=(1, 2))
        return (
            Case("plain", nn.Conv2d(2, 3, 3), ((2, 5, 4),)),
            Case("padding", nn.Conv2d(3, 4, 3, padding=1, bias=False), ((3, 4, 5),)),
            Case("stride", nn.Conv2d(2, 4, 3, stride=(2, 3), padding=(1, 2)), ((2, 7, 6),)),
            Case("same", same, ((2, 4, 5),)),
            Case("dilation", nn.Conv2d(1, 2, 2, dilation=2, padding=1), ((1, 5, 5),)),
            Case("pointwise", nn.Conv2d(4, 3, 1), ((4, 3, 2),)),
            Case("strided_pointwise", nn.Conv2d(2, 3, 1, stride=2), ((2, 4, 5),)),
            Case("whole_frame", nn.Conv2d(2, 3, (3, 2)), ((2, 3, 2),)),
            Case("groups", nn.Conv2d(4, 6, 3, groups=2, padding=1), ((4, 4, 3),)),
            Case("pointwise_groups", nn.Conv2d(6, 4, 1, groups=2, bias=False), ((6, 2, 3),)),
            Case("depthwise", nn.Conv2d(4, 4, 3, groups=4, padding=1), ((4, 4, 4),)),
            Case("multiplier", nn.Conv2d(2, 6, (1, 3), groups=2, bias=False), ((2, 3, 5),)),
            Case("depthwise_pointwise", nn.Conv2d(3, 3, 1, groups=3), ((3, 2, 3),)),
            Case("line", nn.Conv1d(3, 4, 3, padding=2, dilation=2), ((3, 6),)),
            Case("depthwise_line", nn.Conv1d(3, 3, 2, groups=3, stride=2), ((3, 7),)),
            Case("chain", _chain(), ((2, 5, 5),)),
            Case("line_chain", _line_chain(), ((2, 6),)),
            Case("function", _Function(), ((2, 4, 4),)),
        )


def _site(
    site: Site[ConvAttributes], attributes: Any, x: TensorType, parameters: dict[str, Parameter]
) -> Site[Any]:
    """Returns the site of the last stage, which gives the result."""
    return replace(site, attributes=attributes, inputs=(x,), parameters=parameters)


def _pair(size: tuple[int, ...]) -> tuple[int, int]:
    """Returns a size of one axis or two as that of two."""
    vertical, horizontal = (1, *size)[-2:]
    return vertical, horizontal


def _taps(layer: ConvLayer) -> tuple[int, ...]:
    return tuple(layer.kernel_size)


def _padding(layer: ConvLayer) -> tuple[int, int, int, int]:
    """Returns the rows and columns of zeros: (top, bottom, left, right), as PyTorch pads."""
    if layer.padding == "valid":
        return (0, 0, 0, 0)
    sides = []
    for axis, (kernel, dilation) in enumerate(zip(layer.kernel_size, layer.dilation, strict=True)):
        if layer.padding == "same":
            total = dilation * (kernel - 1)
            sides += [total // 2, total - total // 2]
        else:
            sides += [int(layer.padding[axis])] * 2
    top, bottom, left, right = (0, 0, *sides) if len(sides) == 2 else tuple(sides)
    return top, bottom, left, right


def _bias_of(layer: ConvLayer) -> torch.Tensor:
    if layer.bias is None:
        return torch.zeros(layer.out_channels, dtype=torch.float64)
    return layer.bias.detach().double()


def _set(layer: ConvLayer, weight: torch.Tensor, bias: torch.Tensor) -> None:
    dtype = layer.weight.dtype
    layer.weight = nn.Parameter(weight.to(dtype))
    layer.bias = nn.Parameter(bias.to(dtype))


# Asked for again and again while a design is scheduled.
@lru_cache(maxsize=256)
def _columns(weight: Parameter) -> Parameter:
    """Returns weights [O, C, *kernel] as [O, T * C], in the order (kh, kw, c) of a window.

    Blocks along the kernel are no blocks of the stream: their numbers are plain integers then.
    """
    values: Ints = weight.values
    columns = values.transpose(0, *range(2, values.ndim), 1).reshape(len(values), -1)
    carrier, format = weight.fixed, weight.format
    if isinstance(format, MxInt):
        low, high = min(int(values.min()), -1), int(values.max())
        carrier = format = covering(low, high, carrier.frac_width)
    return Parameter(Integers(columns, carrier, weight.scale), format)


def _chain() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 4, 2), nn.Flatten(), nn.Linear(64, 3)
    )


def _line_chain() -> nn.Module:
    return nn.Sequential(nn.Conv1d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv1d(4, 3, 2))


class _Function(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 2, 3, 3))
        self.line = nn.Parameter(torch.randn(2, 3, 2))
        self.bias = nn.Parameter(torch.randn(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.conv2d(x, self.weight, self.bias, padding="same")
        return functional.conv1d(y.flatten(2), self.line, stride=2, padding=1)
