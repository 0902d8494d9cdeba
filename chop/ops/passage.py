"""How a stream of moved elements comes from the stream before: which hardware, for which lanes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import numpy as np

from chop.formats.rounding import Ints
from chop.ir.meta import Folding
from chop.ir.tensor_type import FREE_LAYOUT, Layout, same_order, stream_permutation
from chop.ops.events import EventGraph, Offer
from chop.ops.moving import Move, Pick, View, moved
from chop.ops.timing import Flow, occupancy, serial

__all__ = [
    "Kind",
    "Passage",
    "can_reorder",
    "chosen_layout",
    "divided",
    "layouts_of",
    "likes_channels",
    "literal",
    "order_read",
    "passage",
    "passages",
]

Shape = tuple[int, ...]
# A map of lanes is wires; beyond this, unequal lanes are hardly worth the search.
_MOST_MAPPED_LANES = 64
# Rows, and the first axis innermost: those that come first in `layouts_of`.
_USUAL_LAYOUTS = 2
# Later than any cycle.
_NEVER = np.int64(1) << 60


class Kind(StrEnum):
    """What the hardware is, cheapest first: nothing, chop_slice, chop_pad, chop_reorder."""

    WIRES = "wires"
    SLICE = "slice"
    PAD = "pad"
    REORDER = "reorder"


@dataclass(frozen=True, slots=True, eq=False)
class Passage:
    """One way to build a move: beats of `in_lanes` become beats of `out_lanes`.

    `beats` of the input make a block of the result (a sample, but for REORDER); `places` are, for
    SLICE and REORDER, the beat of the block that each beat of the result comes from, for PAD the
    places of a sample's beats among those of the result, `out_beats` of them. `lane_map` says from
    which lane of its beat each lane comes. `counts` and `strides` are the nested loops, innermost
    first, that run through `places`.
    """

    kind: Kind
    in_lanes: int
    out_lanes: int
    beats: int
    out_beats: int
    places: Ints
    lane_map: tuple[int, ...]
    counts: tuple[int, ...]
    strides: tuple[int, ...]

    def moves(self, beats_between: bool) -> tuple[int, ...]:
        """Returns what chop_walk is told: the distance to the next place by the loops that end.

        `beats_between`: less one, and around the end of the sample; else back to the first place.
        """
        found, back = [], 0
        for count, stride in zip(self.counts, self.strides, strict=True):
            found.append(stride - back - beats_between)
            back += (count - 1) * stride
        period = self.out_beats if self.kind is Kind.PAD else self.beats
        found.append(period - back - 1 if beats_between else -back)
        # A loop of one turn never goes on.
        return tuple(
            0 if k < len(self.counts) and self.counts[k] == 1 else move
            for k, move in enumerate(found)
        )

    def loops(self) -> dict[str, int | str]:
        """Returns the parameters of the walk through the places."""
        moves = self.moves(self.kind is not Kind.REORDER)
        parameters: dict[str, int | str] = {
            "First": int(self.places[0]),
            "Levels": len(self.counts),
            "Counts": literal(self.counts, 32),
            "Moves": literal(moves, 32),
        }
        if self.kind is not Kind.REORDER:
            gap = max(*moves, int(self.places[0]))
            parameters["GapWidth"] = max(1, gap.bit_length())
        return parameters

    def flow(self, valid: Ints, samples: int) -> Flow:
        """Returns the movement of beats, exact for a consumer that takes every beat at once."""
        if self.kind is Kind.SLICE:
            kept = valid.reshape(samples, self.beats)[:, self.places]
            return Flow((valid,), kept.reshape(-1) + 1)
        return self._padded(valid, samples) if self.kind is Kind.PAD else self._reordered(valid)

    def events(self, graph: EventGraph, offer: Offer, in_depth: int) -> Offer:
        """Returns the result in the event graph."""
        numbers = np.arange(self.out_beats, dtype=np.int64)
        if self.kind is Kind.SLICE:
            return graph.offered(graph.take(offer), self.places, 1, 1)
        if self.kind is Kind.PAD:
            steps = graph.add(self.out_beats)
            graph.take(offer, steps, self.places)
            for beats, source, of, cycles in offer.bounds:
                # The constants before a sample's first beat wait until it is valid.
                first = beats == 0
                graph.after(steps, beats[first], source, of[first], cycles)
            return graph.offered(steps, numbers, 1, 1)
        depth, taken, steps = max(in_depth, self.beats), graph.take(offer), graph.add(len(numbers))
        blocks = offer.count // self.beats
        per_block = self.out_beats // blocks
        places = self.places.copy()
        places[-1] = self.beats - 1
        starts = np.arange(blocks, dtype=np.int64)[:, None] * self.beats
        graph.after(steps, None, taken, (starts + places).reshape(-1), 1)
        # A slot is free in the cycle after the last step of its block.
        slots = np.arange(offer.count, dtype=np.int64) - depth
        last = (slots // self.beats + 1) * per_block - 1
        graph.after(taken, None, steps, last, 1)
        return graph.offered(steps, numbers, 1, 1)

    def _padded(self, valid: Ints, samples: int) -> Flow:
        earliest = np.zeros((samples, self.out_beats), np.int64)
        offered = valid.reshape(samples, self.beats)
        earliest[:, self.places] = offered
        # The constants before a sample's first beat wait for it.
        earliest[:, 0] = offered[:, 0]
        given = serial(earliest.reshape(-1))
        taken = given.reshape(samples, self.out_beats)[:, self.places].reshape(-1)
        return Flow((taken,), given + 1)

    def _reordered(self, valid: Ints) -> Flow:
        blocks = len(valid) // self.beats
        places = self.places.copy()
        # A block's last step waits for the whole of it.
        places[-1] = self.beats - 1
        starts = np.arange(blocks, dtype=np.int64)[:, None] * self.beats
        needed = (starts + places).reshape(-1)
        steps = serial(valid[needed] + 1)
        freed = np.repeat(steps.reshape(blocks, -1)[:, -1] + 1, self.beats)
        deadlines = np.full(len(valid), _NEVER)
        np.minimum.at(deadlines, needed, steps - 1)
        # Beat k is needed by its deadline, and the ones after it a cycle each later.
        numbers = np.arange(len(valid), dtype=np.int64)
        latest = np.minimum.accumulate((deadlines - numbers)[::-1])[::-1] + numbers
        depth, patient = (max(self.beats, occupancy(times, freed)) for times in (valid, latest))
        return Flow((valid,), steps + 1, depth, patient)


def literal(values: Sequence[int], width: int) -> str:
    """Returns a SystemVerilog constant of the values side by side, the first one lowest."""
    word = sum((value & ((1 << width) - 1)) << (k * width) for k, value in enumerate(values))
    return f"{len(values) * width}'h{word:0{len(values) * width // 4}x}"


# ---- Layouts ----


def layouts_of(shape: Shape, channels_first: bool) -> tuple[Layout, ...]:
    """Returns the layouts in which a tensor of a shape may leave, the preferred ones first.

    Row-major order, or some leading axes as channels, innermost in the stream.
    """
    found: list[Layout] = []
    for split in range(1, len(shape)):
        channels, rest = int(np.prod(shape[:split])), shape[split:]
        if channels > 1 and np.prod(rest) > 1:
            height, width = rest if len(rest) == 2 else (1, int(np.prod(rest)))
            found.append((channels, height, width))
    if channels_first:
        return (*found[:1], None, *found[1:])
    return (None, *found)


def likes_channels(out: Shape, layout: Layout) -> bool:
    """Whether a result had better have its channels innermost: as the input has, or as images."""
    if len(out) == 3:
        return True
    return layout is not None and len(out) == 2


def can_reorder(shape: Shape, layout: Layout, wanted: Layout) -> bool:
    """Returns whether a stream can be brought from one layout into another."""
    if same_order(layout, wanted):
        return True
    return passage(Move(()), shape, layout, shape, wanted, 1, 1) is not None


@lru_cache(maxsize=1024)
def chosen_layout(
    move: Move, shape: Shape, layout: Layout, out: Shape, wanted: Layout
) -> Layout | str:
    """Returns the layout of the result: the wanted one, or that of the cheapest hardware.

    Where there is no hardware for any, returns why, as text.
    """
    free = wanted == FREE_LAYOUT
    found: list[tuple[tuple[int, int], Layout]] = []
    candidates = layouts_of(out, likes_channels(out, layout)) if free else (wanted,)
    for number, candidate in enumerate(candidates):
        made = passage(move, shape, layout, out, candidate, 1, 1)
        # An order that few readers know is for nothing but wires.
        if made is not None and (number < _USUAL_LAYOUTS or made.kind is Kind.WIRES):
            rank = list(Kind).index(made.kind)
            found.append(((rank, made.beats if made.kind is Kind.REORDER else 0), candidate))
    if not found and not free and order_read(move, shape, layout, out, wanted) != FREE_LAYOUT:
        return wanted
    if not found:
        return "moves elements in an order that no nested loops have"
    return min(found, key=lambda pair: pair[0])[1]


@lru_cache(maxsize=1024)
def order_read(move: Move, shape: Shape, layout: Layout, out: Shape, out_layout: Layout) -> Layout:
    """Returns the layout in which the input is read: its own, or one that it is brought into first.

    FREE_LAYOUT where there is no hardware either way.
    """
    for candidate in (layout, *layouts_of(shape, out_layout is not None)):
        if passage(move, shape, candidate, out, out_layout, 1, 1) is not None:
            return candidate
    return FREE_LAYOUT


@lru_cache(maxsize=1024)
def divided(
    move: Move, shape: Shape, layout: Layout, out: Shape, wanted: Layout
) -> tuple[tuple[Move, Shape, Layout], ...]:
    """Returns a move as several, one behind the other, with the shape and the layout of each.

    Each holds as many of the steps as there is hardware for in one. Empty where that is no help:
    there is but one, or a step without hardware.
    """
    found: list[tuple[Move, Shape, Layout]] = []
    rest = _single_moves(move)
    while rest:
        for count in range(len(rest), 0, -1):
            steps = tuple(step for single in rest[:count] for step in single.steps)
            filled = any(isinstance(step, Pick) and -1 in step.index for step in steps)
            joined = Move(steps, move.constant if filled else None)
            after = moved(joined, np.zeros(shape, np.int64)).shape
            target = wanted if count == len(rest) else FREE_LAYOUT
            chosen = chosen_layout(joined, shape, layout, after, target)
            if not isinstance(chosen, str):
                break
        else:
            return ()
        if count == len(rest) and _is_wires(joined, shape, layout, after, chosen):
            return ()
        found.append((joined, after, chosen))
        shape, layout, rest = after, chosen, rest[count:]
    return tuple(found) if len(found) > 1 else ()


def _is_wires(move: Move, shape: Shape, layout: Layout, out: Shape, out_layout: Layout) -> bool:
    made = passage(move, shape, layout, out, out_layout, 1, 1)
    return made is not None and made.kind is Kind.WIRES


def _single_moves(move: Move) -> list[Move]:
    found: list[Move] = []
    for step in move.steps:
        if isinstance(step, View) and found:
            found[-1] = Move((*found[-1].steps, step), found[-1].constant)
        elif isinstance(step, Pick) and -1 in step.index:
            kept = tuple(k for k in step.index if k >= 0)
            places = iter(range(len(kept)))
            spread = tuple(-1 if k < 0 else next(places) for k in step.index)
            found += [
                Move((Pick(step.axis, kept),)),
                Move((Pick(step.axis, spread),), move.constant),
            ]
        else:
            found.append(Move((step,)))
    return found


# ---- Passages ----


@lru_cache(maxsize=64)
def _positions(move: Move, shape: Shape, layout: Layout, out: Shape, out_layout: Layout) -> Ints:
    """Returns the stream position that every position of the result comes from, -1: constant."""
    elements = int(np.prod(shape))
    positions = np.empty(elements, np.int64)
    positions[stream_permutation(elements, layout)] = np.arange(elements)
    result = moved(move, positions.reshape(shape)).reshape(-1)
    return result[stream_permutation(len(result), out_layout)]


@lru_cache(maxsize=1024)
def passage(
    move: Move,
    shape: Shape,
    layout: Layout,
    out: Shape,
    out_layout: Layout,
    in_lanes: int,
    out_lanes: int,
) -> Passage | None:
    """Returns how a move is built with these lanes; None: it is not."""
    positions = _positions(move, shape, layout, out, out_layout)
    return _passage(positions, int(np.prod(shape)), in_lanes, out_lanes)


@lru_cache(maxsize=256)
def passages(
    move: Move, shape: Shape, layout: Layout, out: Shape, out_layout: Layout
) -> tuple[Folding, ...]:
    """Returns every folding that a move can be built with."""
    elements, positions = int(np.prod(shape)), _positions(move, shape, layout, out, out_layout)
    found = []
    for p in _divisors(elements):
        for q in _divisors(len(positions)):
            if p != q and max(p, q) > _MOST_MAPPED_LANES:
                continue
            made = _passage(positions, elements, p, q)
            if made is not None:
                cycles = max(elements // p, len(positions) // q)
                found.append(Folding(p, q, cycles, 0))
    return tuple(found)


def _passage(positions: Ints, elements: int, in_lanes: int, out_lanes: int) -> Passage | None:
    rows = positions.reshape(-1, out_lanes)
    constant = rows[:, 0] < 0
    real = rows[~constant]
    if (rows[constant] >= 0).any() or (real < 0).any():
        return None
    beats, lanes = np.divmod(real, in_lanes)
    if (beats != beats[:, :1]).any() or (lanes != lanes[:1]).any():
        return None
    order, lane_map = beats[:, 0], tuple(lanes[0].tolist())
    total = elements // in_lanes
    straight = in_lanes == out_lanes and lane_map == tuple(range(in_lanes))
    whole = np.array_equal(order, np.arange(total))
    if constant.any():
        if not (straight and whole):
            return None
        kind, block, places = Kind.PAD, total, np.flatnonzero(~constant)
    elif straight and whole:
        kind, block, places = Kind.WIRES, total, order
    elif (np.diff(order) > 0).all():
        kind, block, places = Kind.SLICE, total, order
    else:
        block, places = _block(order, total)
        kind = Kind.REORDER
        if in_lanes > _MOST_MAPPED_LANES and not straight:
            return None
    walk = _loops(places)
    if walk is None:
        return None
    counts, strides = tuple(c for c, _ in walk) or (1,), tuple(s for _, s in walk) or (0,)
    return Passage(kind, in_lanes, out_lanes, block, len(rows), places, lane_map, counts, strides)


def _block(order: Ints, total: int) -> tuple[int, Ints]:
    """Returns the shortest block of the input that is given anew, and its beats in their order."""
    for beats in _divisors(total):
        if len(order) % (total // beats):
            continue
        blocks = order.reshape(total // beats, -1) - np.arange(0, total, beats)[:, None]
        if (blocks == blocks[:1]).all() and blocks[0].min() >= 0 and blocks[0].max() < beats:
            return beats, blocks[0]
    raise AssertionError("a sample is a block")


def _loops(places: Ints) -> tuple[tuple[int, int], ...] | None:
    """Returns the nested loops (count, stride), innermost first, that run through the places."""
    if len(places) == 1:
        return ()
    steps = np.diff(places)
    changes = np.flatnonzero(steps != steps[0])
    longest = int(changes[0]) + 1 if len(changes) else len(places)
    for count in range(longest, 1, -1):
        if len(places) % count:
            continue
        rows = places.reshape(-1, count)
        if (np.diff(rows, axis=1) == steps[0]).all():
            outer = _loops(rows[:, 0])
            if outer is not None:
                return ((count, int(steps[0])), *outer)
    return None


def _divisors(value: int) -> list[int]:
    return [d for d in range(1, value + 1) if value % d == 0]
