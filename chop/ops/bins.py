"""bins: one axis of a tensor as fewer bins of unequal sizes; the first stages of adaptive pools.

No operator of torch: pools put it in front of their windows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chop.formats.rounding import Ints
from chop.formats.scale import Scale
from chop.integer.record import Value
from chop.ir.meta import Cost, Folding
from chop.ir.tensor_type import TensorType, channels_last
from chop.ops.base import Binding, Build, Call, Case, Op, Site
from chop.ops.events import EventGraph, Offer
from chop.ops.reduction import (
    Kind,
    Nest,
    reduce_cost,
    reduce_events,
    reduce_latency,
    reduced,
    value_parameters,
)
from chop.ops.timing import Flow

__all__ = ["BINS", "BinsAttributes", "bin_edges", "binned"]


@dataclass(frozen=True, slots=True)
class BinsAttributes:
    """An axis of [C, H, W] or [C, L], not the channels, which becomes so many `bins`."""

    kind: Kind
    axis: int
    bins: int


class Bins(Op[BinsAttributes]):
    """At most two bins share a position, and no two end at the same one, if none is empty."""

    name = "bins"
    summary = "sums or maxima of the bins of an axis of [C, H, W] or [C, L]"
    targets = ()
    module = "chop_bins"
    absorbs_cast = True

    def read(self, call: Call) -> BinsAttributes:
        raise call.refuse("no operator of torch", "use an adaptive pool")

    def infer(self, site: Site[BinsAttributes]) -> TensorType:
        (x,), a = site.inputs, site.attributes
        shape = (*x.shape[: a.axis], a.bins, *x.shape[a.axis + 1 :])
        low, high = x.low, x.high
        if a.kind is Kind.SUM:
            starts, ends = bin_edges(x.shape[a.axis], a.bins)
            sizes = (int((ends - starts).min()), int((ends - starts).max()))
            low, high = min(n * low for n in sizes), max(n * high for n in sizes)
        return TensorType.bounded(shape, low, high, x.fixed.frac_width, channels_last(shape))

    def infer_scale(self, site: Site[BinsAttributes]) -> Scale | None:
        return site.inputs[0].scale

    def define(self, site: Site[BinsAttributes], inputs: Sequence[Value]) -> Value:
        a = site.attributes
        return binned(inputs[0], a.axis, a.bins, a.kind)

    def foldings(self, site: Site[BinsAttributes]) -> tuple[Folding, ...]:
        elements, inner = site.inputs[0].elements, _inner(site)
        lanes = [n for n in range(1, inner + 1) if inner % n == 0]
        return tuple(Folding(n, n, elements // n, 0) for n in lanes)

    def bind(self, site: Site[BinsAttributes], build: Build) -> Binding:
        a, lanes = site.attributes, build.folding.in_lanes
        values = value_parameters(site, ("OutWidth", "OutSigned"))
        del values["LevelsPerStage"]
        return Binding(
            self.module,
            {
                "Kind": a.kind.value,
                "Size": site.inputs[0].shape[a.axis],
                "Bins": a.bins,
                "Beats": _inner(site) // lanes,
                "Lanes": lanes,
                **values,
            },
        )

    def flow(
        self, site: Site[BinsAttributes], build: Build, valid: Sequence[Ints], samples: int
    ) -> Flow:
        last = valid[0][_last_beats(site, build.folding, samples)]
        return Flow((valid[0],), last + reduce_latency(1))

    def events(
        self,
        site: Site[BinsAttributes],
        build: Build,
        graph: EventGraph,
        inputs: Sequence[Offer],
    ) -> Offer:
        last = _last_beats(site, build.folding, 1)
        return reduce_events(graph, inputs[0], reduce_latency(1), last)

    def cost(self, site: Site[BinsAttributes], build: Build) -> Cost:
        """Counts 4-input LUTs: a reduction, addresses, and a choice of what a bin begins with."""
        a, address = site.attributes, (_inner(site) // build.folding.in_lanes - 1).bit_length()
        nest = Nest(1, 1, 1, site.inputs[0].shape[a.axis], _inner(site))
        width = (site.exact if a.kind is Kind.SUM else site.inputs[0]).fixed.width
        own = Cost(build.folding.in_lanes * width + 6 * address, 2 * address)
        return reduce_cost(site, a.kind, nest, build.folding) + own

    def cases(self) -> tuple[Case, ...]:
        return ()


BINS = Bins()


def bin_edges(size: int, bins: int) -> tuple[Ints, Ints]:
    """Returns where the bins begin, and where they have ended: floor(i n / o), ceil((i + 1) n / o).

    As PyTorch defines adaptive pools (aten/src/ATen/native/AdaptivePooling.h).
    """
    numbers = np.arange(bins, dtype=np.int64)
    return numbers * size // bins, -(-(numbers + 1) * size // bins)


def binned(x: Value, axis: int, bins: int, kind: Kind) -> Value:
    """Returns the sums or maxima of the bins of an axis."""
    starts, ends = bin_edges(x.shape[axis], bins)
    places = starts[:, None] + np.arange((ends - starts).max())
    places = np.where(places < ends[:, None], places, -1)
    # It changes no maximum, and no sum.
    fill = x.low if kind is Kind.MAXIMUM else 0
    taken = x.take(axis, tuple(places.reshape(-1).tolist()), fill)
    split = taken.reshape((*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]))
    axes = tuple(k for k in range(len(split.shape)) if k != axis + 1)
    return reduced(split.permute((*axes, axis + 1)), kind)


def _inner(site: Site[BinsAttributes]) -> int:
    """Returns the elements of one position of the axis: the axes behind it, and the channels."""
    shape = site.inputs[0].shape
    return shape[0] * math.prod(shape[site.attributes.axis + 1 :])


def _last_beats(site: Site[BinsAttributes], folding: Folding, samples: int) -> Ints:
    """Returns the number of the last beat of every result."""
    a, shape, beats = site.attributes, site.inputs[0].shape, _inner(site) // folding.in_lanes
    outer = samples * math.prod(shape[1 : a.axis])
    numbers = np.arange(outer * shape[a.axis] * beats, dtype=np.int64)
    _, ends = bin_edges(shape[a.axis], a.bins)
    found: Ints = numbers.reshape(outer, shape[a.axis], beats)[:, ends - 1].reshape(-1)
    return found
