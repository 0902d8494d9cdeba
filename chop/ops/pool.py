"""Pools: max_pool and avg_pool of [C, H, W] and [C, L], plain or adaptive; one class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from chop.errors import ShapeError
from chop.formats.base import Integers
from chop.formats.fixed import Fixed, covering
from chop.formats.rounding import Ints, Rounding
from chop.formats.scale import Scale
from chop.integer.record import Value
from chop.ir.meta import Cost, Folding
from chop.ir.tensor_type import Parameter, TensorType, channels_last
from chop.nn.fake_quantize import Cast
from chop.ops.affine import AffineAttributes
from chop.ops.base import Binding, Build, Call, Case, Op, Site, Stage, StreamOrder
from chop.ops.bins import BINS, BinsAttributes, binned
from chop.ops.channels import Axes, Ties, zeros
from chop.ops.events import EventGraph, Offer
from chop.ops.moving import Move, Pick
from chop.ops.mul import MUL
from chop.ops.pooling import (
    AVG_SPELLINGS,
    MAX_SPELLINGS,
    PoolAttributes,
    PoolSizes,
    adaptive_windows,
    divisors_of,
    frame_of,
    pool_windows,
    taps_of,
)
from chop.ops.reduction import (
    Kind,
    Nest,
    last_beats,
    parts_of_divisor,
    reduce_cost,
    reduce_events,
    reduce_flow,
    reduce_foldings,
    reduce_latency,
    reduce_parameters,
    reduced,
    value_parameters,
)
from chop.ops.timing import Flow
from chop.ops.upsample import UPSAMPLE
from chop.ops.window import window_cost, window_values
from chop.ops.window_events import window_events
from chop.ops.windows import (
    WindowOrder,
    cycles_per_frame,
    keeps_pace,
    least_depth,
    windows_flow,
)

__all__ = ["AVG_POOL", "MAX_POOL"]


class Pool(Op[PoolAttributes]):
    """`kind` of every window; MAX_POOL and AVG_POOL are its instances.

    Windows that are tiles of the frame are reduced as they stream; others are cut first. Sums with
    different divisors are multiplied by constants, so that one divisor suits all.
    """

    cycles = (
        "tiles, and unequal windows axis by axis: elements / lanes; else C / lanes x windows (x "
        "taps, one at a time), or the input's beats where those are more; the last element of a "
        "result to the result: 2 to 4"
    )
    module = "chop_pool"
    modules = ("chop_pool", "chop_reduce", "chop_bins")
    absorbs_cast = True
    divides = True

    def __init__(
        self,
        name: str,
        summary: str,
        kind: Kind,
        targets: tuple[object, ...],
        limits: str,
        cases: tuple[Case, ...],
    ) -> None:
        self.name = name
        self.summary = summary
        self.targets = targets
        self.limits = limits
        self._kind = kind
        self._cases = cases

    def read(self, call: Call) -> PoolAttributes:
        sizes = PoolSizes.of(call)
        try:
            if sizes.adaptive is not None:
                averages = self._kind is Kind.SUM
                windows = adaptive_windows(call, sizes.adaptive, averages)
            else:
                windows = pool_windows(call, sizes)
        except ShapeError as error:
            text = str(error).removeprefix("window: ")
            raise call.refuse(text, "see the pool's sizes") from error
        frame = frame_of(call)
        if taps_of(windows, frame).min() == 0:
            raise call.refuse("a window has no pixel of the frame", "use less padding or dilation")
        if self._kind is Kind.MAXIMUM:
            return PoolAttributes(self._kind, windows, frame)
        return PoolAttributes(self._kind, windows, frame, divisors_of(windows, sizes, call))

    def reads(self, shape: tuple[int, ...]) -> StreamOrder:
        return StreamOrder.CHANNELS

    def tie_channels(
        self, attributes: PoolAttributes, inputs: Sequence[Axes], shape: tuple[int, ...], ties: Ties
    ) -> Axes:
        for labels in inputs[0][1:]:
            ties.fix(labels, "moves windows along them")
        return (inputs[0][0], *zeros(shape[1:]))

    def infer(self, site: Site[PoolAttributes]) -> TensorType:
        (x,), a = site.inputs, site.attributes
        shape = site.exact.shape
        low, high = x.low, x.high
        if a.repeats_only:
            return replace(x, shape=shape, layout=channels_last(shape))
        if a.kind is Kind.SUM:
            # Padding adds nothing.
            factors = np.array(a.factors, np.int64)
            weights = [int(w) for w in (taps_of(a.windows, a.frame) * factors).reshape(-1)]
            low = min(w * x.low for w in weights)
            high = max(w * x.high for w in weights)
        k, _ = parts_of_divisor(a.divisor)
        layout = channels_last(shape)
        return TensorType.bounded(shape, low, high, x.fixed.frac_width + k, layout)

    def commutes_with_casts(self, attributes: PoolAttributes) -> bool:
        return attributes.kind is Kind.MAXIMUM

    def infer_scale(self, site: Site[PoolAttributes]) -> Scale | None:
        # Channels stay channels, with as many axes behind them.
        given, (_, scale) = site.inputs[0].scale, parts_of_divisor(site.attributes.divisor)
        return scale if given is None else given.times(scale)

    def define(self, site: Site[PoolAttributes], inputs: Sequence[Value]) -> Value:
        a, w = site.attributes, site.attributes.windows
        frame = inputs[0].reshape((w.channels, *a.frame))
        for axis, (size, count) in enumerate(a.resized, 1):
            if size > count:
                frame = binned(frame, axis, count, a.kind)
            elif size < count:
                frame = frame.take(axis, _repeated(size, count))
        taken = window_values(frame, w, _pad_value(site)).permute((4, 0, 1, 2, 3))
        values = reduced(taken.reshape((w.channels, *w.out, a.taps)), a.kind)
        if len(a.divisors) > 1:
            values = values * np.array(a.factors, np.int64).reshape(1, *w.out)
        return values.reshape(site.exact.shape)

    def stages(self, site: Site[PoolAttributes]) -> tuple[Stage[Any], ...]:
        """Returns what makes the windows' frame, the windows, and the factors of their sums."""
        a, (x,) = site.attributes, site.inputs
        scaled = len(a.divisors) > 1
        parts = _parts(site, self)
        found: list[Stage[Any]] = []
        for number, (label, op, attributes, shape) in enumerate(parts):
            if number == len(parts) - 1 and not scaled:
                own = replace(site, attributes=attributes, inputs=(x,))
            else:
                exact = TensorType(shape, layout=channels_last(shape))
                own = replace(site, name=f"{site.name}_{label}", attributes=attributes, inputs=(x,))
                x = replace(op.infer(replace(own, exact=exact)), scale=x.scale)
                own = replace(own, exact=x, output=x)
            found += [Stage(self, own)] if op is self else op.stages(own)
        return (*found, _factors(site, x)) if scaled else tuple(found)

    def foldings(self, site: Site[PoolAttributes]) -> tuple[Folding, ...]:
        a, nest = site.attributes, site.attributes.nest
        if nest is not None:
            return reduce_foldings(nest)
        found = []
        channels = a.windows.channels
        for lanes in (n for n in range(1, channels + 1) if channels % n == 0):
            serial, parallel = (cycles_per_frame(a.windows, lanes, o) for o in _ORDERS)
            found.append(Folding(lanes, lanes, serial, 0))
            if parallel < serial and keeps_pace(a.windows, lanes):
                found.append(Folding(lanes, lanes, parallel, 0))
        return tuple(found)

    def bind(self, site: Site[PoolAttributes], build: Build) -> Binding:
        a, folding = site.attributes, build.folding
        if a.nest is not None:
            parameters = reduce_parameters(site, a.kind, a.nest, folding)
            return Binding("chop_reduce", parameters)
        lanes = folding.in_lanes
        window = a.windows.parameters(lanes, _order(site, folding), _depth(site, build))
        del window["ChannelOuter"]
        pad = _pad_value(site) & ((1 << 64) - 1)
        return Binding(
            self.module,
            {
                "Kind": a.kind.value,
                **window,
                **({"PadValue": f"64'h{pad:x}"} if pad else {}),
                **value_parameters(site, ("ResultWidth", "ResultSigned")),
            },
        )

    def flow(
        self, site: Site[PoolAttributes], build: Build, valid: Sequence[Ints], samples: int
    ) -> Flow:
        a, folding = site.attributes, build.folding
        if a.nest is not None:
            return reduce_flow(a.nest, folding, valid[0], samples)
        order, taps = _order(site, folding), _tap_lanes(site, folding)
        windows = windows_flow(valid[0], samples, a.windows, folding.in_lanes, order)
        steps = a.taps // taps
        given = windows.valid[steps - 1 :: steps] + reduce_latency(taps)
        return Flow(windows.taken, given, windows.in_depth, windows.patient_depth)

    def events(
        self, site: Site[PoolAttributes], build: Build, graph: EventGraph, inputs: Sequence[Offer]
    ) -> Offer | None:
        a, folding = site.attributes, build.folding
        if a.nest is not None:
            latency = reduce_latency(folding.in_lanes // folding.out_lanes)
            return reduce_events(graph, inputs[0], latency, last_beats(a.nest, folding, 1))
        order, taps = _order(site, folding), _tap_lanes(site, folding)
        lanes, depth = folding.in_lanes, _depth(site, build)
        windows = window_events(graph, inputs[0], a.windows, lanes, order, depth)
        if windows is None:
            return None
        steps = a.taps // taps
        last = np.arange(steps - 1, windows.count, steps, dtype=np.int64)
        return reduce_events(graph, windows, reduce_latency(taps), last)

    def cost(self, site: Site[PoolAttributes], build: Build) -> Cost:
        a, folding = site.attributes, build.folding
        if a.nest is not None:
            return reduce_cost(site, a.kind, a.nest, folding)
        lanes, taps = folding.in_lanes, _tap_lanes(site, folding)
        nest = Nest(1, 1, 1, a.taps, lanes)
        joins = reduce_cost(site, a.kind, nest, replace(folding, in_lanes=lanes * taps))
        order, width = _order(site, folding), site.inputs[0].stream_width
        return joins + window_cost(a.windows, lanes, width, order, _depth(site, build))

    def cases(self) -> tuple[Case, ...]:
        return self._cases


def _parts(
    site: Site[PoolAttributes], pool: Pool
) -> list[tuple[str, Op[Any], Any, tuple[int, ...]]]:
    """Returns the units up to the sums or maxima: label, operator, attributes, its result's shape.

    A frame is repeated, then binned along its rows and its columns, as far as its windows need.
    """
    a, shape = site.attributes, site.inputs[0].shape
    parts: list[tuple[str, Op[Any], Any, tuple[int, ...]]] = []
    axes = [(len(shape) - 2 + k, size, count) for k, (size, count) in enumerate(a.resized)]
    picks = []
    for axis, size, count in axes:
        if size < count:
            picks.append(Pick(axis, _repeated(size, count)))
            shape = (*shape[:axis], count, *shape[axis + 1 :])
    if picks:
        parts.append(("repeated", UPSAMPLE, Move(tuple(picks)), shape))
    for axis, size, count in axes:
        if size > count:
            shape = (*shape[:axis], count, *shape[axis + 1 :])
            own = BinsAttributes(a.kind, axis, count)
            parts.append((f"bins{axis}", BINS, own, shape))
    if a.taps > 1 or not parts:
        divisors = a.divisors if len(a.divisors) == 1 else (1,)
        frame = (a.windows.height, a.windows.width)
        cut = replace(a, frame=frame, divisors=divisors)
        parts.append(("sum", pool, cut, site.exact.shape))
    return parts


def _factors(site: Site[PoolAttributes], x: TensorType) -> Stage[Any]:
    """Returns the stage that multiplies the sums, so that one divisor suits all."""
    a = site.attributes
    k, _ = parts_of_divisor(a.divisor)
    values = np.array(a.factors, np.int64).reshape(1, *site.exact.shape[1:])
    carrier = covering(-1, int(values.max()), k)
    weight = Parameter(Integers(values, carrier), carrier)
    attributes = AffineAttributes(has_weight=True, has_bias=False, negate=False)
    own = (site.name, attributes, (x,), {"weight": weight})
    return Stage(MUL, Site(*own, site.rounding, site.exact, site.output))


def _repeated(size: int, count: int) -> tuple[int, ...]:
    """Returns the pixel that each of `count` is, every one of `size` equally often."""
    return tuple(i * size // count for i in range(count))


_ORDERS = (WindowOrder.CHANNELS, WindowOrder.PARALLEL)


def _pad_value(site: Site[PoolAttributes]) -> int:
    """Returns the integer outside the frame: it changes no maximum, and no sum."""
    return site.inputs[0].low if site.attributes.kind is Kind.MAXIMUM else 0


def _order(site: Site[PoolAttributes], folding: Folding) -> WindowOrder:
    """Of two foldings with the same lanes, the quicker one takes all taps at once."""
    serial = cycles_per_frame(site.attributes.windows, folding.in_lanes, WindowOrder.CHANNELS)
    return WindowOrder.PARALLEL if folding.cycles < serial else WindowOrder.CHANNELS


def _tap_lanes(site: Site[PoolAttributes], folding: Folding) -> int:
    """Returns the taps of a window that are used in a cycle."""
    parallel = _order(site, folding) is WindowOrder.PARALLEL
    return site.attributes.taps if parallel else 1


def _depth(site: Site[PoolAttributes], build: Build) -> int:
    lanes, order = build.folding.in_lanes, _order(site, build.folding)
    return max(build.in_depth, least_depth(site.attributes.windows, lanes, order))


def _behind_conv() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())


def _bins_behind_conv() -> nn.Module:
    pool = nn.AdaptiveAvgPool2d((4, 3))
    return nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), _rounded(pool), nn.Flatten())


class _Function(nn.Module):
    """One function on frames and lines."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.kind == "max":
            y = functional.max_pool2d(x, (2, 1), padding=(1, 0))
            return functional.max_pool1d(y.flatten(2), 2, 1)
        y = functional.avg_pool2d(x, 2, 1, ceil_mode=True, divisor_override=4)
        return functional.avg_pool1d(y.flatten(2), 2)


def _rounded(pool: nn.Module) -> nn.Module:
    """A pool, the thirds of whose result a cast rounds."""
    return nn.Sequential(pool, Cast(Fixed(9, 5), Rounding.HALF_UP))


MAX_POOL = Pool(
    "max_pool",
    "largest element of windows of [C, H, W] or [C, L], plain or adaptive",
    Kind.MAXIMUM,
    tuple(MAX_SPELLINGS),
    "no return_indices",
    (
        Case("tiles", nn.MaxPool2d(2), ((3, 4, 4),)),
        Case("cropped", nn.MaxPool2d(2), ((2, 5, 3),)),
        Case("overlapping", nn.MaxPool2d(3, 2, 1), ((2, 6, 5),)),
        Case("dilated", nn.MaxPool2d(2, 1, 0, (2, 1)), ((2, 4, 3),)),
        Case("ceil", nn.MaxPool2d(2, ceil_mode=True), ((4, 3, 5),)),
        Case("line", nn.MaxPool1d(3, 2, 1), ((4, 7),)),
        Case("line_tiles", nn.MaxPool1d(2), ((4, 6),)),
        Case("global", nn.AdaptiveMaxPool2d(1), ((4, 2, 3),)),
        Case("adaptive", nn.AdaptiveMaxPool2d((None, 3)), ((2, 2, 4),)),
        Case("unequal", nn.AdaptiveMaxPool2d((3, 4)), ((2, 5, 6),)),
        Case("unequal_columns", nn.AdaptiveMaxPool2d((2, 3)), ((3, 4, 5),)),
        Case("unequal_line", nn.AdaptiveMaxPool1d(5), ((2, 8),)),
        Case("enlarged", nn.AdaptiveMaxPool2d((3, 4)), ((2, 2, 3),)),
        Case("repeated", nn.AdaptiveMaxPool2d((2, 6)), ((2, 1, 3),)),
        Case("function", _Function("max"), ((2, 2, 4),)),
        Case("behind_conv", _behind_conv(), ((2, 4, 4),)),
    ),
)

AVG_POOL = Pool(
    "avg_pool",
    "mean of windows of [C, H, W] or [C, L], plain or adaptive",
    Kind.SUM,
    tuple(AVG_SPELLINGS),
    "adaptive to more windows than pixels: to a multiple of their number, or of its half; a mean "
    "of a number of elements that is no power of two has a scale: a cast rounds it",
    (
        Case("tiles", nn.AvgPool2d(2), ((3, 4, 4),)),
        Case("of_nine", _rounded(nn.AvgPool2d(3, 2, 1)), ((2, 5, 4),)),
        Case("inside", _rounded(nn.AvgPool2d(3, 1, 1, count_include_pad=False)), ((2, 3, 4),)),
        Case("ceil", _rounded(nn.AvgPool2d(2, ceil_mode=True)), ((2, 3, 5),)),
        Case("line", nn.AvgPool1d(4, 2, 1), ((3, 8),)),
        Case("line_inside", nn.AvgPool1d(2, 1, 1, count_include_pad=False), ((2, 4),)),
        Case("global", _rounded(nn.AdaptiveAvgPool2d(1)), ((4, 2, 3),)),
        Case("adaptive", nn.AdaptiveAvgPool2d((2, 3)), ((2, 4, 4),)),
        Case("unequal", _rounded(nn.AdaptiveAvgPool2d((4, 3))), ((2, 7, 5),)),
        Case("unequal_rows", _rounded(nn.AdaptiveAvgPool2d((3, 2))), ((1, 5, 4),)),
        Case("unequal_line", _rounded(nn.AdaptiveAvgPool1d(4)), ((3, 7),)),
        Case("behind_conv", _bins_behind_conv(), ((2, 6, 5),)),
        Case("enlarged", nn.AdaptiveAvgPool2d((3, 4)), ((2, 2, 2),)),
        Case("function", _Function("avg"), ((2, 4, 3),)),
    ),
)
