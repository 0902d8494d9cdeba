"""The sizes of a pool, as PyTorch spells them: its windows, and what their sums are divided by."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from chop.formats.rounding import Ints
from chop.ops.base import Call
from chop.ops.bins import bin_edges
from chop.ops.reduction import Kind, Nest
from chop.ops.windows import WindowShape

__all__ = [
    "AVG_SPELLINGS",
    "MAX_SPELLINGS",
    "PoolAttributes",
    "PoolSizes",
    "adaptive_windows",
    "divisors_of",
    "frame_of",
    "pool_windows",
    "taps_of",
]

Pair = tuple[int, int]
_MAX = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
_AVG = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
_ADAPTIVE = ("output_size",)
# The axes of each spelling, and its arguments behind the tensor in order.
MAX_SPELLINGS: dict[object, tuple[int, tuple[str, ...]]] = {
    **dict.fromkeys((nn.MaxPool1d, functional.max_pool1d, torch.max_pool1d), (1, _MAX)),
    **dict.fromkeys((nn.MaxPool2d, functional.max_pool2d, torch.max_pool2d), (2, _MAX)),
    **dict.fromkeys((nn.AdaptiveMaxPool1d, functional.adaptive_max_pool1d), (1, _ADAPTIVE)),
    **dict.fromkeys((nn.AdaptiveMaxPool2d, functional.adaptive_max_pool2d), (2, _ADAPTIVE)),
}
AVG_SPELLINGS: dict[object, tuple[int, tuple[str, ...]]] = {
    **dict.fromkeys((nn.AvgPool1d, functional.avg_pool1d), (1, _AVG)),
    **dict.fromkeys((nn.AvgPool2d, functional.avg_pool2d), (2, _AVG)),
    **dict.fromkeys((nn.AdaptiveAvgPool1d, functional.adaptive_avg_pool1d), (1, _ADAPTIVE)),
    **dict.fromkeys((nn.AdaptiveAvgPool2d, functional.adaptive_avg_pool2d), (2, _ADAPTIVE)),
}


@dataclass(frozen=True, slots=True)
class PoolSizes:
    """The arguments of a pool; pairs are (vertical, horizontal), a pool of [C, L] is 1 high.

    `adaptive` is the number of windows per axis, where that is given in place of all others.
    """

    adaptive: Pair | None = None
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor_override: int | None = None

    @staticmethod
    def of(call: Call) -> PoolSizes:
        """Returns the sizes of a call. Raises UnsupportedOpError for forms that there are not."""
        shape = call.input_shapes[0]
        rank, _ = _spelling(call)
        if len(shape) != rank + 1:
            raise call.refuse(
                f"a {rank}-D pool of a batch of tensors of shape {shape}",
                f"give it a batch of {'[C, H, W]' if rank == 2 else '[C, L]'}",
            )
        given = _arguments(call)

        def pair(name: str, otherwise: int) -> Pair:
            found = given.get(name, otherwise)
            values = tuple(found) if isinstance(found, tuple | list) else (found,) * rank
            values = values * rank if len(values) < rank else values
            return (otherwise, int(values[0])) if rank == 1 else (int(values[0]), int(values[1]))

        if "output_size" in given:
            return PoolSizes(_adaptive(given["output_size"], shape))
        kernel = pair("kernel_size", 1)
        strided = given.get("stride") not in (None, (), [])
        override = given.get("divisor_override")
        if override is not None and int(override) < 1:
            raise call.refuse(f"divisor_override {override}", "use one of 1 or more")
        return PoolSizes(
            None,
            kernel,
            pair("stride", 1) if strided else kernel,
            pair("padding", 0),
            pair("dilation", 1),
            bool(given.get("ceil_mode", False)),
            bool(given.get("count_include_pad", True)),
            None if override is None else int(override),
        )


@dataclass(frozen=True, slots=True)
class PoolAttributes:
    """The windows, of which a pool of [C, L] has frames of height 1.

    `frame` is the one given. Where an axis of it is longer than that of the windows, they are of
    its bins (`chop.ops.bins`); where it is shorter, its pixels are repeated. `divisors` are what
    each window's sum is divided by, or one for all of them.
    """

    kind: Kind
    windows: WindowShape
    frame: Pair
    divisors: tuple[int, ...] = (1,)

    @property
    def taps(self) -> int:
        return self.windows.kernel[0] * self.windows.kernel[1]

    @property
    def divisor(self) -> int:
        """What the sums are divided by, once each is multiplied by its entry of `factors`."""
        return math.lcm(*self.divisors)

    @property
    def factors(self) -> tuple[int, ...]:
        return tuple(self.divisor // d for d in self.divisors)

    @property
    def resized(self) -> tuple[Pair, ...]:
        """The axes of the frame as (given, of the windows), vertical first."""
        return tuple(zip(self.frame, (self.windows.height, self.windows.width), strict=True))

    @property
    def repeats_only(self) -> bool:
        """Whether it moves pixels and makes nothing of them."""
        wider = any(size < count for size, count in self.resized)
        binned = any(size > count for size, count in self.resized)
        return wider and not binned and self.taps == 1

    @property
    def nest(self) -> Nest | None:
        """How the frame itself is reduced, where the windows are its tiles; else None."""
        w = self.windows
        for axis, size in enumerate((w.height, w.width)):
            apart = w.stride[axis] == w.kernel[axis] or w.out[axis] == 1
            dense = w.dilation[axis] == 1 or w.kernel[axis] == 1
            if not (apart and dense and w.kernel[axis] * w.out[axis] == size):
                return None
        if w.padding != (0, 0):
            return None
        if w.out[1] == 1:
            return Nest(w.out[0], 1, 1, self.taps, w.channels)
        if w.kernel[0] == 1:
            return Nest(w.out[0] * w.out[1], 1, 1, w.kernel[1], w.channels)
        if w.kernel[1] == 1:
            return Nest(w.out[0], 1, 1, w.kernel[0], w.width * w.channels)
        return Nest(w.out[0], w.kernel[0], w.out[1], w.kernel[1], w.channels)


def pool_windows(call: Call, sizes: PoolSizes) -> WindowShape:
    """Returns the windows of a pool that is not adaptive. Raises ShapeError where none fits."""
    top, left = sizes.padding
    return WindowShape.of(
        _frame(call.input_shapes[0]),
        sizes.kernel,
        sizes.stride,
        sizes.dilation,
        (top, top, left, left),
        sizes.ceil_mode,
    )


def adaptive_windows(call: Call, out: Pair, averages: bool) -> WindowShape:
    """Returns the windows of an adaptive pool: from floor(i n / o) to ceil((i + 1) n / o).

    An axis whose windows differ in size is binned or repeated first: the windows are of another
    frame than the one given. Raises UnsupportedOpError for means that neither can give.
    """
    channels, *frame = _frame(call.input_shapes[0])
    down, across = (
        _adaptive_axis(call, size, count, averages) for size, count in zip(frame, out, strict=True)
    )
    (height, rows, row_step), (width, columns, column_step) = down, across
    return WindowShape.of((channels, height, width), (rows, columns), (row_step, column_step))


def _adaptive_axis(call: Call, size: int, count: int, averages: bool) -> tuple[int, int, int]:
    """Returns the length of an axis on which the windows are alike, their size and stride.

    With n < o, that is the axis repeated r = o / gcd(n, o) times, cut evenly into parts of
    n / gcd(n, o): part i has the pixels of window i. A mean needs all of them equally often; a
    window has at most two pixels, so that parts of one and of two do.
    """
    if count < 1:
        raise call.refuse(f"an adaptive pool of {size} to {count}", "use an output of 1 or more")
    starts, ends = bin_edges(size, count)
    lengths, steps = set((ends - starts).tolist()), set(np.diff(starts).tolist()) or {size}
    if len(lengths) == len(steps) == 1 and 0 not in steps:
        return size, lengths.pop(), steps.pop()
    if count <= size:
        return count, 1, 1
    part = size // math.gcd(size, count)
    if averages and part > 2:
        half = size // math.gcd(size, 2)
        raise call.refuse(
            f"an adaptive mean of {size} to {count}, more windows than pixels",
            f"use an output of at most {size}, or of {-(-count // half) * half}",
        )
    return part * count, part, part


def taps_of(shape: WindowShape, frame: Pair) -> Ints:
    """Returns how many pixels every window has: [OutHeight * OutWidth].

    Those of the frame given, of which the windows' frame may have the bins.
    """
    sides = []
    for axis, (size, count) in enumerate(zip(frame, (shape.height, shape.width), strict=True)):
        inside = _inside(shape, axis, 0)
        if size > count:
            starts, ends = bin_edges(size, count)
            inside = inside * (ends - starts)
        sides.append(inside)
    return np.multiply.outer(*sides).reshape(-1)


def divisors_of(shape: WindowShape, sizes: PoolSizes, call: Call) -> tuple[int, ...]:
    """Returns what the sums are divided by, one for all where they agree, as PyTorch does."""
    if sizes.divisor_override is not None:
        return (sizes.divisor_override,)
    if sizes.adaptive is not None or not sizes.count_include_pad:
        counts = taps_of(shape, frame_of(call))
    else:
        # What ceil_mode puts behind the padding does not count.
        tall, wide = (_inside(shape, axis, sizes.padding[axis]) for axis in (0, 1))
        counts = np.multiply.outer(tall, wide).reshape(-1)
    found = tuple(counts.tolist())
    return found[:1] if len(set(found)) == 1 else found


def _inside(shape: WindowShape, axis: int, margin: int) -> Ints:
    """Returns how many rows or columns of every window lie in the frame, or its margin."""
    size = (shape.height, shape.width)[axis]
    starts = np.arange(shape.out[axis]) * shape.stride[axis] - shape.padding[axis]
    taps = np.arange(shape.kernel[axis]) * shape.dilation[axis]
    places = starts[:, None] + taps
    inside: Ints = ((places >= -margin) & (places < size + margin)).sum(axis=1, dtype=np.int64)
    return inside


def frame_of(call: Call) -> Pair:
    """Returns height and width of the frame given, of which a line is 1 high."""
    _, height, width = _frame(call.input_shapes[0])
    return height, width


def _frame(shape: tuple[int, ...]) -> tuple[int, int, int]:
    return (shape[0], 1, shape[1]) if len(shape) == 2 else (shape[0], shape[1], shape[2])


def _adaptive(size: Any, shape: tuple[int, ...]) -> Pair:
    """Returns the numbers of windows; None stands for as many as there are pixels."""
    frame = shape[1:]
    values = tuple(size) if isinstance(size, tuple | list) else (size,) * len(frame)
    values = values * len(frame) if len(values) < len(frame) else values
    found = [n if v is None else int(v) for v, n in zip(values, frame, strict=True)]
    return (1, found[0]) if len(found) == 1 else (found[0], found[1])


def _arguments(call: Call) -> dict[str, Any]:
    """Returns the arguments by name, of a module or of a call."""
    if call.module is not None:
        known = {*_MAX, *_AVG, *_ADAPTIVE}
        return {name: getattr(call.module, name) for name in known if hasattr(call.module, name)}
    _, names = _spelling(call)
    found = dict(zip(names, call.args[1:], strict=False))
    return found | {name: call.kwargs[name] for name in names if name in call.kwargs}


def _spelling(call: Call) -> tuple[int, tuple[str, ...]]:
    key = call.node.target if call.module is None else type(call.module)
    return (MAX_SPELLINGS | AVG_SPELLINGS)[key]
