"""Sums, maxima and minima over axes of a stream: what reductions and pools share.

The hardware is `hw/layers/chop_reduce.sv`, whose words are used here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import Any

import numpy as np

from chop.formats.rounding import Ints
from chop.formats.scale import Scale
from chop.integer.record import Value
from chop.ir.meta import Cost, Folding
from chop.ir.tensor_type import Layout, TensorType
from chop.ops.accumulate import LEVELS_PER_STAGE, ram_luts
from chop.ops.base import Site
from chop.ops.elementwise import flag
from chop.ops.events import EventGraph, Offer
from chop.ops.timing import Flow

__all__ = [
    "Kind",
    "Nest",
    "last_beats",
    "nest_of",
    "parts_of_divisor",
    "reduce_cost",
    "reduce_events",
    "reduce_flow",
    "reduce_foldings",
    "reduce_latency",
    "reduce_parameters",
    "reduced",
    "result_type",
    "value_parameters",
]


class Kind(Enum):
    """What is made of several elements; the values are those of chop_reduce."""

    SUM = 0
    MAXIMUM = 1
    MINIMUM = 2


@dataclass(frozen=True, slots=True)
class Nest:
    """The axes of a stream, outermost first: those reduced are `outer` and `inner`.

    frames x outer x groups x inner x channels elements; every axis may be 1.
    """

    frames: int
    outer: int
    groups: int
    inner: int
    channels: int

    @property
    def elements(self) -> int:
        return self.frames * self.outer * self.groups * self.inner * self.channels


def nest_of(
    shape: tuple[int, ...], layout: Layout, reduces: Sequence[bool]
) -> tuple[Nest | None, Layout]:
    """Returns how a stream of that shape and layout is reduced over the axes marked.

    And the layout of the result. The nest is None where the axes, in the stream's order, change
    between kept and reduced too often, or no axis of the layout is one of the shape.
    """
    parts = _parts(shape, layout)
    if parts is None:
        return None, None
    pixels, channels = parts
    kept = None
    if layout is not None:
        left = [
            math.prod(size for axis, size in side if not reduces[axis])
            for side in (channels, pixels)
        ]
        kept = None if 1 in left else (left[0], 1, left[1])
    # Neighbours that are both kept, or both reduced, are one axis.
    runs: list[tuple[int, bool]] = []
    for axis, size in pixels + channels:
        if size == 1:
            continue
        if runs and runs[-1][1] == reduces[axis]:
            runs[-1] = (runs[-1][0] * size, reduces[axis])
        else:
            runs.append((size, reduces[axis]))
    frames = runs.pop(0)[0] if runs and not runs[0][1] else 1
    sizes = [size for size, _ in runs]
    if not sizes:
        return Nest(1, 1, 1, 1, frames), kept
    if len(sizes) <= 2:
        return Nest(frames, 1, 1, *(*sizes, 1)[:2]), kept
    return (Nest(frames, *(*sizes, 1)[:4]) if len(sizes) <= 4 else None), kept


_Parts = list[tuple[int, int]]


def _parts(shape: tuple[int, ...], layout: Layout) -> tuple[_Parts, _Parts] | None:
    """Returns the axes of the shape, or factors of them, as (axis, size) in the stream's order.

    In two parts: the pixels, and the channels of each. None where the layout's channels end inside
    an axis that they do not divide.
    """
    pixels: _Parts = []
    channels: _Parts = []
    missing = 1 if layout is None else layout[0]
    for axis, size in enumerate(shape):
        inside = math.gcd(missing, size)
        if inside not in (missing, size):
            return None
        channels.append((axis, inside))
        pixels.append((axis, size // inside))
        missing //= inside
    return pixels, channels


# ---- Integers ----


def reduced(x: Value, kind: Kind) -> Value:
    """Returns a tensor [..., n] without its last axis."""
    size, shape = x.shape[-1], x.shape[:-1]
    rows = x.reshape((math.prod(shape), size))
    if kind is Kind.SUM:
        return rows.matmul(np.ones((1, size), np.int64)).reshape(shape)
    if kind is Kind.MAXIMUM:
        return rows.block_maximum(size).take(1, (0,)).reshape(shape)
    return ((-rows).block_maximum(size).take(1, (0,)) * -1).reshape(shape)


def parts_of_divisor(divisor: int) -> tuple[int, Scale | None]:
    """Returns k and the scale 1/m of a division by 2^k * m, m odd: exact without rounding."""
    k = (divisor & -divisor).bit_length() - 1
    return k, Scale((Fraction(1, divisor >> k),)).simplified()


# ---- Hardware ----


def reduce_foldings(nest: Nest) -> tuple[Folding, ...]:
    """Returns lanes of the channels, and for all of them several taps of the inner axis."""
    found = []
    for lanes in (n for n in range(1, nest.channels + 1) if nest.channels % n == 0):
        found.append(Folding(lanes, lanes, nest.elements // lanes, 0))
    for taps in (n for n in range(2, nest.inner + 1) if nest.inner % n == 0):
        lanes = taps * nest.channels
        found.append(Folding(lanes, nest.channels, nest.elements // lanes, 0))
    return tuple(found)


def reduce_parameters(site: Site[Any], kind: Kind, nest: Nest, folding: Folding) -> dict[str, Any]:
    """Returns the parameters of chop_reduce."""
    taps = folding.in_lanes // folding.out_lanes
    return {
        "Kind": kind.value,
        "Taps": taps,
        "Lanes": folding.out_lanes,
        "OuterSteps": nest.outer,
        "Groups": nest.groups,
        "InnerSteps": nest.inner // taps,
        "Beats": nest.channels // folding.out_lanes,
        **value_parameters(site, ("OutWidth", "OutSigned")),
    }


def value_parameters(site: Site[Any], out: tuple[str, str]) -> dict[str, int | str]:
    """Returns widths, shifts and rounding; `out` are the names of those of the result."""
    x, y, exact = site.inputs[0].fixed, site.output.fixed, site.exact.fixed
    shift = exact.frac_width - y.frac_width
    return {
        "InWidth": x.width,
        "InSigned": flag(x.signed),
        # The bounds of what comes in may need fewer bits than it has.
        "SumWidth": max(exact.width, x.width),
        "SumSigned": flag(exact.signed),
        out[0]: y.width,
        out[1]: flag(y.signed),
        "ShiftRight": max(shift, 0),
        "ShiftLeft": max(-shift, 0),
        "Rounding": site.rounding.code,
        "LevelsPerStage": LEVELS_PER_STAGE,
    }


def reduce_latency(taps: int) -> int:
    """Returns the cycles from the last beat of a result to the result."""
    levels = (taps - 1).bit_length()
    return max(1, -(-levels // LEVELS_PER_STAGE)) + 1


def reduce_flow(nest: Nest, folding: Folding, valid: Ints, samples: int) -> Flow:
    """Returns the movement of beats through chop_reduce: a result follows its last beat."""
    last = valid[last_beats(nest, folding, samples)]
    return Flow((valid,), last + reduce_latency(folding.in_lanes // folding.out_lanes))


def reduce_events(graph: EventGraph, offer: Offer, latency: int, last: Ints) -> Offer:
    """Returns the result of `chop_reduce`, given the last beat of every result.

    Every stage but the last takes each beat; the last one those that complete a result.
    """
    beats = np.arange(offer.count, dtype=np.int64)
    stage = graph.take(offer)
    for _ in range(latency - 2):
        after = graph.add(offer.count)
        graph.after(after, None, stage, beats, 1)
        graph.after(stage, None, after, beats - 1)
        stage = after
    rounded, results = graph.add(len(last)), np.arange(len(last), dtype=np.int64)
    graph.after(rounded, None, stage, last, 1)
    # The beat behind one that completes a result waits until that one has moved on.
    sample, place = np.divmod(last + 1, offer.count)
    graph.after(stage, place, rounded, results - sample * len(last))
    return graph.offered(rounded, results, 1, 1)


def last_beats(nest: Nest, folding: Folding, samples: int) -> Ints:
    """Returns the number of the last beat of every result."""
    taps = folding.in_lanes // folding.out_lanes
    shape = (
        samples * nest.frames,
        nest.outer,
        nest.groups,
        nest.inner // taps,
        nest.channels // folding.out_lanes,
    )
    beats = np.arange(samples * nest.elements // folding.in_lanes, dtype=np.int64)
    return beats.reshape(shape)[:, -1, :, -1, :].reshape(-1)


def reduce_cost(site: Site[Any], kind: Kind, nest: Nest, folding: Folding) -> Cost:
    """Counts 4-input LUTs: the joins, the partial results kept, the rounding and the counters."""
    lanes, taps = folding.out_lanes, folding.in_lanes // folding.out_lanes
    partials = nest.groups * (nest.channels // lanes)
    steps = nest.outer * nest.inner // taps
    x, exact, out = (t.fixed.width for t in (site.inputs[0], site.exact, site.output))
    # A comparison and a choice, where a sum takes one adder.
    each, width = (1, exact) if kind is Kind.SUM else (2, x)
    levels = [lanes * -(-taps // (1 << k)) * width for k in range(1, (taps - 1).bit_length() + 1)]
    counters = partials.bit_length() + steps.bit_length()
    own = Cost(each * sum(levels) + 3 * counters, sum(levels) // LEVELS_PER_STAGE + 2 * counters)
    if steps > 1:
        words = ram_luts(partials, lanes * width) if partials > 1 else 0
        own += Cost(each * lanes * width + words, lanes * width)
    rounds = site.exact.fixed.frac_width > site.output.fixed.frac_width
    return own + Cost(lanes * (out + rounds * exact), lanes * (x + out) + 2)


def result_type(site: Site[Any], low: int, high: int, divisor: int, layout: Layout) -> TensorType:
    """Returns the type of integers in [low, high] divided by the divisor."""
    k, _ = parts_of_divisor(divisor)
    frac_width = site.inputs[0].fixed.frac_width + k
    return TensorType.bounded(site.exact.shape, low, high, frac_width, layout)
