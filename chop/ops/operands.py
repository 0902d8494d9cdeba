"""Two operands of which one may be smaller: how its stream becomes as long as the result's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from chop.errors import UnsupportedOpError
from chop.formats.rounding import Ints
from chop.ir.meta import Cost, Folding
from chop.ir.tensor_type import Layout, stream_permutation
from chop.ops.base import Build, Call, Site, elementwise_foldings
from chop.ops.elementwise import flag
from chop.ops.events import EventGraph, Offer
from chop.ops.passage import can_reorder, layouts_of
from chop.ops.timing import Flow, occupancy, serial

__all__ = [
    "Spread",
    "check_shapes",
    "operand_foldings",
    "operand_layouts",
    "operand_parameters",
    "operands_cost",
    "operands_events",
    "operands_flow",
    "result_layout",
    "spreads_of",
]

_NEVER = -(1 << 60)


@dataclass(frozen=True, slots=True)
class Spread:
    """How a smaller operand's stream becomes as long as the result's.

    Blocks of `block` elements are given `repeats` times each; or, with `holds`, every element is
    (then `block` is 1).
    """

    block: int
    repeats: int
    holds: bool

    def lanes_fit(self, lanes: int, elements: int) -> bool:
        """Returns whether the hardware can be built with these lanes."""
        if self.holds:
            return self.repeats % lanes == 0 and elements % lanes == 0
        return self.block % lanes == 0

    def beats(self, lanes: int) -> int:
        """Returns the beats of a block: with `holds` every beat is one."""
        return 1 if self.holds else self.block // lanes

    def first_uses(self, beats: int, lanes: int) -> Ints:
        """Returns the steps at which `beats` beats are used first; the last `more` steps later."""
        own = self.beats(lanes)
        block, place = np.divmod(np.arange(beats, dtype=np.int64), own)
        return block * own * self.repeats + place

    def more(self, lanes: int) -> int:
        """Returns how many steps after its first use a beat is used last."""
        return (self.repeats - 1) * self.beats(lanes)


def check_shapes(call: Call) -> None:
    """Raises UnsupportedOpError where the operands' shapes do not align axis by axis."""
    a, b = call.input_shapes
    if len(a) != len(b):
        raise call.refuse(
            f"tensors of different rank, of shapes {a} and {b}, meet in the batch dimension",
            "reshape one of them so that both have as many axes",
        )


def result_layout(site: Site[Any]) -> Layout:
    """Returns the layout of the result: that of the operand that has its size, if one has."""
    shape = site.exact.shape
    for x in site.inputs:
        if x.shape == shape:
            return x.layout
    if len(shape) == 3 and shape[0] > 1 and shape[1] * shape[2] > 1:
        return (shape[0], shape[1], shape[2])
    return None


def operand_layouts(site: Site[Any]) -> tuple[Layout, ...]:
    """Returns the layouts in which the operands stream as the result does.

    Raises UnsupportedOpError where an operand has none: it is repeated along axes apart.
    """
    layout = result_layout(site)
    found = []
    for x in site.inputs:
        for own in (x.layout, *layouts_of(x.shape, layout is not None)):
            fits = _spread(x.shape, own, site.exact.shape, layout)[1]
            if fits and can_reorder(x.shape, x.layout, own):
                found.append(own)
                break
        else:
            raise UnsupportedOpError(
                f"node '{site.name}': its operands of shapes "
                f"{' and '.join(str(t.shape) for t in site.inputs)} stream in different orders; "
                "broadcast along neighbouring axes, or reshape before what sets the order"
            )
    return tuple(found)


def spreads_of(site: Site[Any]) -> tuple[Spread | None, ...]:
    """Returns how each operand is repeated; None: it has the result's size.

    Raises UnsupportedOpError where it cannot be, whatever the order that it comes in.
    """
    layout = result_layout(site)
    return tuple(
        _spread(x.shape, own, site.exact.shape, layout)[0]
        for x, own in zip(site.inputs, operand_layouts(site), strict=True)
    )


@lru_cache(maxsize=256)
def _spread(
    shape: tuple[int, ...], layout: Layout, result: tuple[int, ...], result_layout: Layout
) -> tuple[Spread | None, bool]:
    """Returns how the operand is repeated, and whether it can be."""
    elements, total = int(np.prod(shape)), int(np.prod(result))
    place = np.empty(elements, np.int64)
    place[stream_permutation(elements, layout)] = np.arange(elements)
    wanted = np.broadcast_to(place.reshape(shape), result).reshape(-1)
    order = wanted[stream_permutation(total, result_layout)]
    if elements == total:
        return None, bool((order == np.arange(total)).all())
    times = total // elements
    if (order == np.arange(total) // times).all():
        return Spread(1, times, True), True
    ends = np.flatnonzero(np.diff(order) != 1)
    block = int(ends[0]) + 1
    expected = np.arange(elements).reshape(-1, 1, block).repeat(times, axis=1).reshape(-1)
    matches = elements % block == 0 and bool((order == expected).all())
    return Spread(block, times, False), matches


def operand_foldings(site: Site[Any], multipliers: int = 0) -> tuple[Folding, ...]:
    """Returns the foldings whose lanes suit both operands, with `multipliers` for every lane."""
    pairs = list(zip(site.inputs, spreads_of(site), strict=True))
    return tuple(
        Folding(f.in_lanes, f.out_lanes, f.cycles, f.out_lanes * multipliers)
        for f in elementwise_foldings(site.exact.elements)
        if all(s is None or s.lanes_fit(f.in_lanes, x.elements) for x, s in pairs)
    )


def operand_parameters(site: Site[Any], build: Build) -> dict[str, int | str]:
    """Returns lanes, widths, signs and repetitions of a and b."""
    lanes = build.folding.in_lanes
    parameters: dict[str, int | str] = {"Lanes": lanes}
    for name, x, spread in zip("AB", site.inputs, spreads_of(site), strict=True):
        parameters |= {f"{name}Width": x.fixed.width, f"{name}Signed": flag(x.fixed.signed)}
        if spread is not None:
            parameters |= {
                f"{name}Beats": spread.beats(lanes),
                f"{name}Repeats": spread.repeats,
                f"{name}Spread": flag(spread.holds),
                f"{name}Depth": build.in_depth,
            }
    return parameters


def operands_flow(
    site: Site[Any], build: Build, valid: Sequence[Ints], samples: int, latency: int
) -> Flow:
    """Returns when beats are taken and given, `latency` cycles behind the join.

    A repeated operand is taken into a buffer as it comes: its beat can be in the buffer's output
    register two cycles later, and moves there when the beat before it has left.
    """
    lanes, spreads = build.folding.in_lanes, spreads_of(site)
    steps = samples * site.exact.elements // lanes
    earliest = np.full(steps, _NEVER, np.int64)
    for times, spread in zip(valid, spreads, strict=True):
        if spread is None:
            earliest = np.maximum(earliest, times)
        else:
            uses = spread.first_uses(len(times), lanes)
            earliest[uses] = np.maximum(earliest[uses], times + 2)
    joined = serial(earliest)
    taken, depth = [], 1
    for times, spread in zip(valid, spreads, strict=True):
        if spread is None:
            taken.append(joined)
            continue
        # A beat's last step into the register is taken as the beat before it leaves.
        last = spread.first_uses(len(times), lanes) + spread.more(lanes)
        freed = joined[last - 1]
        depth = max(depth, spread.beats(lanes), occupancy(times, freed))
        taken.append(times)
    delay = latency if all(spread is None for spread in spreads) else None
    return Flow(tuple(taken), joined + latency, depth, depth, delay=delay)


def operands_events(
    site: Site[Any], build: Build, graph: EventGraph, inputs: Sequence[Offer], latency: int
) -> Offer:
    """Returns the result of `chop_operands` and an elastic pipeline behind it."""
    lanes = build.folding.in_lanes
    joined = graph.add(site.exact.elements // lanes)
    steps = np.arange(site.exact.elements // lanes, dtype=np.int64)
    for offer, spread in zip(inputs, spreads_of(site), strict=True):
        if spread is None:
            graph.take(offer, joined)
            continue
        taken, read = graph.take(offer), graph.add(len(steps))
        beats = np.arange(offer.count, dtype=np.int64)
        first = spread.first_uses(offer.count, lanes)
        graph.after(read, first, taken, beats, 1)
        graph.after(joined, None, read, steps, 1)
        graph.after(read, None, joined, steps - 1)
        sample, place = np.divmod(beats - max(build.in_depth, 1), offer.count)
        last = (first + spread.more(lanes))[place] + sample * len(steps)
        graph.after(taken, None, read, last)
    return graph.offered(joined, steps, latency, latency)


def operands_cost(site: Site[Any], build: Build) -> Cost:
    """Returns an estimate of what repeats the operands."""
    cost, lanes = Cost(), build.folding.in_lanes
    for x, spread in zip(site.inputs, spreads_of(site), strict=True):
        if spread is None:
            continue
        width = lanes * x.fixed.width
        counters = 2 * (build.in_depth.bit_length() + spread.repeats.bit_length()) + 8
        memory = width * -(-build.in_depth // 32)
        select = x.fixed.width * lanes // 2 if spread.holds else 0
        cost += Cost(memory + counters + select, width + counters)
    return cost
