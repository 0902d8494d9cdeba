"""window: every window of a frame, one after the other; the first stage of convolutions and pools.

No operator of torch: convolutions and pools put it in front of what works on the windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from chop.errors import UnsupportedOpError
from chop.formats.rounding import Ints
from chop.formats.scale import Scale
from chop.integer.record import Value
from chop.ir.meta import Cost, Folding
from chop.ir.tensor_type import TensorType
from chop.ops.accumulate import ram_cost
from chop.ops.base import Binding, Build, Call, Case, Op, Site
from chop.ops.events import EventGraph, Offer
from chop.ops.timing import Flow
from chop.ops.window_events import window_events
from chop.ops.windows import (
    WindowOrder,
    WindowShape,
    cycles_per_frame,
    keeps_pace,
    least_depth,
    windows_flow,
)

__all__ = [
    "WINDOW",
    "Window",
    "WindowAttributes",
    "padded_type",
    "taps_inside",
    "window_cost",
    "window_values",
]


@dataclass(frozen=True, slots=True)
class WindowAttributes:
    """The windows, of which a stream carries each by groups of channels, then taps, then channels.

    With one group that is the order (kh, kw, c), whatever the lanes. `pad_value` is the integer
    outside the frame.
    """

    shape: WindowShape
    groups: int = 1
    pad_value: int = 0


class Window(Op[WindowAttributes]):
    name = "window"
    summary = "the windows of a frame [C, H, W], as vectors"
    targets = ()
    module = "chop_window"
    is_buffer = True

    def read(self, call: Call) -> WindowAttributes:
        raise call.refuse("windows alone are no operator", "use a convolution or a pool")

    def infer(self, site: Site[WindowAttributes]) -> TensorType:
        """Returns vectors [OutHeight * OutWidth, T * C]."""
        a, x = site.attributes, padded_type(site.inputs[0], site.attributes)
        taps = a.shape.kernel[0] * a.shape.kernel[1]
        shape = (a.shape.out[0] * a.shape.out[1], taps * a.shape.channels)
        return replace(x, shape=shape, layout=None)

    def infer_scale(self, site: Site[WindowAttributes]) -> Scale | None:
        scale = site.inputs[0].scale
        if scale is not None and scale.per_channel:
            raise UnsupportedOpError(
                f"node '{site.name}': a scale per channel cannot pass through windows; "
                "give the tensor before it one scale (data_in)"
            )
        return scale

    def define(self, site: Site[WindowAttributes], inputs: Sequence[Value]) -> Value:
        a = site.attributes
        windows = window_values(inputs[0], a.shape, a.pad_value)
        pixels, taps = a.shape.out[0] * a.shape.out[1], a.shape.kernel[0] * a.shape.kernel[1]
        channels = a.shape.channels // a.groups
        grouped = windows.reshape((pixels, taps, a.groups, channels)).permute((0, 2, 1, 3))
        return grouped.reshape((pixels, taps * a.shape.channels))

    def foldings(self, site: Site[WindowAttributes]) -> tuple[Folding, ...]:
        a = site.attributes
        taps, channels = a.shape.kernel[0] * a.shape.kernel[1], a.shape.channels
        group = channels // a.groups
        lanes = (
            [group] if a.groups > 1 else [n for n in range(1, channels + 1) if channels % n == 0]
        )
        serial = WindowOrder.TAPS if a.groups == 1 else WindowOrder.CHANNELS
        found = [Folding(n, n, cycles_per_frame(a.shape, n, serial), 0) for n in lanes]
        if taps > 1 and keeps_pace(a.shape, group):
            cycles = cycles_per_frame(a.shape, group, WindowOrder.PARALLEL)
            found.append(Folding(group, taps * group, cycles, 0))
        return tuple(found)

    def bind(self, site: Site[WindowAttributes], build: Build) -> Binding:
        a, x = site.attributes, site.inputs[0]
        order = _order(site, build.folding)
        parameters: dict[str, int | str] = {
            "ElementWidth": x.stream_width,
            **a.shape.parameters(build.folding.in_lanes, order, _depth(site, build)),
        }
        if a.pad_value:
            parameters["PadValue"] = f"64'h{a.pad_value & ((1 << 64) - 1):x}"
        return Binding(self.module, parameters)

    def flow(
        self, site: Site[WindowAttributes], build: Build, valid: Sequence[Ints], samples: int
    ) -> Flow:
        order = _order(site, build.folding)
        return windows_flow(valid[0], samples, site.attributes.shape, build.folding.in_lanes, order)

    def stalled_flow(
        self,
        site: Site[WindowAttributes],
        build: Build,
        valid: Sequence[Ints],
        samples: int,
        left: Ints,
    ) -> Flow:
        order, lanes = _order(site, build.folding), build.folding.in_lanes
        return windows_flow(valid[0], samples, site.attributes.shape, lanes, order, left)

    def events(
        self,
        site: Site[WindowAttributes],
        build: Build,
        graph: EventGraph,
        inputs: Sequence[Offer],
    ) -> Offer | None:
        order, lanes = _order(site, build.folding), build.folding.in_lanes
        depth = _depth(site, build)
        return window_events(graph, inputs[0], site.attributes.shape, lanes, order, depth)

    def cost(self, site: Site[WindowAttributes], build: Build) -> Cost:
        order, width = _order(site, build.folding), site.inputs[0].stream_width
        shape, lanes = site.attributes.shape, build.folding.in_lanes
        return window_cost(shape, lanes, width, order, _depth(site, build))

    def cases(self) -> tuple[Case, ...]:
        return ()


WINDOW = Window()


def taps_inside(shape: WindowShape) -> bool:
    """Returns whether every tap of every window is a pixel of the frame: no padding."""
    ends = [
        (out - 1) * stride + reach - pad < size
        for out, stride, reach, pad, size in zip(
            shape.out,
            shape.stride,
            shape.reach,
            shape.padding,
            (shape.height, shape.width),
            strict=True,
        )
    ]
    return shape.padding == (0, 0) and all(ends)


def padded_type(x: TensorType, attributes: WindowAttributes) -> TensorType:
    """Returns the type of a tensor's elements with those of the padding among them."""
    if taps_inside(attributes.shape):
        return x
    pad, format = attributes.pad_value, x.format
    levels = None if format is None else format.levels()
    if levels is not None and pad not in levels:
        format = x.fixed
    return replace(x, format=format, low=min(x.low, pad), high=max(x.high, pad))


def window_values(x: Value, shape: WindowShape, pad_value: int = 0) -> Value:
    """Returns the windows of a frame [C, H, W] as [OutHeight, OutWidth, *kernel, C]."""
    rows, columns = (_places(shape, axis) for axis in (0, 1))
    (height, width), (tall, wide) = shape.out, shape.kernel
    taken = x.take(1, rows, pad_value).take(2, columns, pad_value)
    split = taken.reshape((shape.channels, height, tall, width, wide))
    return split.permute((1, 3, 2, 4, 0))


def window_cost(shape: WindowShape, lanes: int, width: int, order: WindowOrder, depth: int) -> Cost:
    """Counts 4-input LUTs, as Yosys does for ECP5: memory, selections, counters."""
    bits, beats = lanes * width, shape.beats(lanes)
    counters = (shape.height * shape.width * beats).bit_length()
    if order is not WindowOrder.PARALLEL:
        return ram_cost(depth, bits) + Cost(bits + 16 * counters, 6 * counters)
    rows, columns = shape.kernel
    words = shape.width * beats
    banks = -(-depth // words)
    shifted = rows * (shape.reach[1] * beats + 1) * bits
    # Of every row the bank is chosen, of every tap whether it lies in the frame.
    chosen = rows * bits * max(banks - 1, 1) // 2 + rows * columns * bits
    found = Cost(chosen + 24 * counters, shifted + 8 * counters)
    for _ in range(banks):
        bank = ram_cost(words, bits)
        found += Cost(luts=bank.luts, brams=bank.brams)
    return found


def _places(shape: WindowShape, axis: int) -> tuple[int, ...]:
    """Returns the row or column of every tap of every window, -1 in the padding."""
    size = (shape.height, shape.width)[axis]
    starts = np.arange(shape.out[axis]) * shape.stride[axis] - shape.padding[axis]
    places = starts[:, None] + np.arange(shape.kernel[axis]) * shape.dilation[axis]
    inside = (places >= 0) & (places < size)
    return tuple(np.where(inside, places, -1).reshape(-1).tolist())


def _order(site: Site[WindowAttributes], folding: Folding) -> WindowOrder:
    if folding.out_lanes > folding.in_lanes:
        return WindowOrder.PARALLEL
    return WindowOrder.TAPS if site.attributes.groups == 1 else WindowOrder.CHANNELS


def _depth(site: Site[WindowAttributes], build: Build) -> int:
    lanes, order = build.folding.in_lanes, _order(site, build.folding)
    return max(build.in_depth, least_depth(site.attributes.shape, lanes, order))
