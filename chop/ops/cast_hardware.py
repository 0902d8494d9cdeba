"""The hardware of a cast: one module per kind of requantiser."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from chop.errors import UnsupportedOpError
from chop.formats.fixed import covering
from chop.formats.requantisers import Multiply, MxIntBlocks, Requantiser, Shift, Table, Thresholds
from chop.formats.rounding import Ints
from chop.ir.meta import Cost, Folding
from chop.ir.tensor_type import TensorType, stream_permutation
from chop.ops.base import Binding, Build, Memory, Site, elementwise_foldings
from chop.ops.elementwise import flag
from chop.ops.timing import Flow, elastic, serial

__all__ = ["MODULES", "cast_binding", "cast_cost", "cast_flow", "cast_foldings", "cast_memories"]

_SHIFT, _MULTIPLY = "chop_cast", "chop_channel_affine"
_THRESHOLDS, _TABLE, _MXINT = "chop_threshold_cast", "chop_table_cast", "chop_mxint_cast"
_Parameters = dict[str, int | str]

# Those that a cast of any network may need; blocks need a reader of blocks, too.
MODULES = (_SHIFT, _MULTIPLY, _THRESHOLDS, _TABLE)

# Cycles from a beat's acceptance to its result, by elastic kind: docs/streams.md.
_LATENCY = {"shift": 1, "multiply": 3, "thresholds": 3, "table": 2}


def cast_foldings(site: Site[Any], found: Requantiser) -> tuple[Folding, ...]:
    """Returns every folding, with the multipliers of the kind.

    Blocks are made of whole beats. Raises UnsupportedOpError where a stream would scatter them.
    """
    per_lane = int(isinstance(found, Multiply))
    foldings = tuple(
        replace(f, multipliers=per_lane * f.out_lanes)
        for f in elementwise_foldings(site.exact.elements)
    )
    if not isinstance(found, MxIntBlocks):
        return foldings
    x = site.inputs[0]
    if x.layout is not None:
        raise UnsupportedOpError(
            f"node '{site.name}': blocks of {found.format} lie along the last axis, and the stream "
            f"of {x} has its channels innermost; flatten it first"
        )
    row = x.shape[-1] if x.shape else 1
    size = min(found.format.block_size, row)
    return tuple(f for f in foldings if row % f.out_lanes == 0 and size % f.out_lanes == 0)


def cast_flow(site: Site[Any], build: Build, found: Requantiser, valid: Ints) -> Flow:
    """Returns when beats are taken and given."""
    if not isinstance(found, MxIntBlocks):
        return elastic(valid, _LATENCY[found.kind])
    # A block's beats leave one by one from its last one on: two stages to reach the head of the
    # FIFO, two behind it.
    block, row = _block_beats(site, build, found)
    beats = np.arange(len(valid))
    in_row = beats % row
    last = beats - in_row + np.minimum(in_row // block * block + block, row) - 1
    return Flow((valid,), serial(valid[last] + 2) + 2)


def _block_beats(site: Site[Any], build: Build, found: MxIntBlocks) -> tuple[int, int]:
    """Returns the beats of a block and of a row."""
    shape, lanes = site.inputs[0].shape, build.folding.out_lanes
    row = shape[-1] if shape else 1
    return min(found.format.block_size, row) // lanes, row // lanes


def cast_memories(site: Site[Any], build: Build, found: Requantiser) -> tuple[Memory, ...]:
    """Returns the constants of the kind in the order in which the hardware reads them."""
    lanes, x, y = build.folding.out_lanes, site.inputs[0], site.output.fixed
    file = build.rom.file
    if isinstance(found, Multiply):
        channels = _channels(x, lanes, len(found.multipliers), found.trailing)
        multipliers, offsets = np.array(found.multipliers), np.array(found.offsets)
        return (
            Memory(file(f"{site.name}_weight"), multipliers[channels], _width(multipliers)),
            Memory(file(f"{site.name}_bias"), offsets[channels], _width(offsets)),
        )
    if isinstance(found, Thresholds):
        channels = _channels(x, lanes, len(found.rows), found.trailing)
        rows, levels = np.array(found.rows, np.int64), np.array(found.levels, np.int64)
        words = rows[channels].reshape(len(channels), -1)
        return (
            Memory(file(f"{site.name}_thresholds"), words, x.fixed.width + 1),
            Memory(file(f"{site.name}_levels"), levels[np.newaxis], y.width),
        )
    if isinstance(found, Table):
        # In the order of the codes: the non-negative integers first.
        words = np.roll(found.constants(), found.first)[:, np.newaxis]
        return (Memory(file(f"{site.name}_table"), words, y.width),)
    return ()


def cast_binding(site: Site[Any], build: Build, found: Requantiser) -> Binding:
    """Returns the module of the kind with its parameters."""
    lanes, x, y = build.folding.out_lanes, site.inputs[0].fixed, site.output.fixed
    own = cast_memories(site, build, found)
    files = [f'"{memory.file}"' for memory in own]
    lane: _Parameters = {"Lanes": lanes, "InWidth": x.width, "InSigned": flag(x.signed)}
    result: _Parameters = {"OutWidth": y.width, "OutSigned": flag(y.signed)}
    # Narrow words, read at every beat: block memories are for tables, which are deep.
    style = "logic" if build.rom.style == "auto" else build.rom.style
    rom: _Parameters = {"RomStyle": f'"{style}"'}
    if isinstance(found, Shift):
        shifts: _Parameters = {"ShiftRight": max(found.shift, 0), "ShiftLeft": max(-found.shift, 0)}
        return Binding(_SHIFT, {**lane, **result, **shifts, **_rounding(site, found)})
    if isinstance(found, Multiply):
        channels = len(own[0].words) * lanes
        widths: _Parameters = {"WeightWidth": own[0].width, "BiasWidth": own[1].width}
        files_named: _Parameters = {"WeightFile": files[0], "BiasFile": files[1]}
        shift: _Parameters = {"ShiftRight": found.shift, **_rounding(site, found)}
        most = {**lane, "Channels": channels, **widths, **result}
        return Binding(_MULTIPLY, {**most, **shift, **files_named, **rom})
    if isinstance(found, Thresholds):
        channels = len(own[0].words) * lanes
        counts: _Parameters = {"Channels": channels, "Thresholds": len(found.rows[0])}
        files_named = {"ThresholdFile": files[0], "LevelFile": files[1]}
        return Binding(_THRESHOLDS, {**lane, **counts, "OutWidth": y.width, **files_named, **rom})
    if isinstance(found, MxIntBlocks):
        return _mxint_binding(site, build, found, lane)
    return Binding(
        _TABLE,
        {
            "Lanes": lanes,
            "InWidth": x.width,
            "OutWidth": y.width,
            "TableFile": files[0],
            "RomStyle": f'"{build.rom.style}"',
        },
    )


def _mxint_binding(site: Site[Any], build: Build, found: MxIntBlocks, lane: _Parameters) -> Binding:
    block, row = _block_beats(site, build, found)
    format = found.format
    base = 1 + found.source.frac_width + format.lowest
    return Binding(
        _MXINT,
        {
            **lane,
            "BlockBeats": block,
            "RowBeats": row,
            "OutWidth": format.width,
            "ExponentWidth": format.exponent_width,
            "Base": f"{'-' * (base < 0)}32'sd{abs(base)}",
            "Rounding": found.rounding.code,
        },
    )


def cast_cost(site: Site[Any], build: Build, found: Requantiser) -> Cost:
    """Returns an estimate: the requantiser's own, lane by lane, and its registers."""
    lanes, x, y = build.folding.out_lanes, site.inputs[0].fixed, site.output.fixed
    lane = found.cost(x.width, y.width)
    ffs = y.width
    if isinstance(found, MxIntBlocks):
        block, _ = _block_beats(site, build, found)
        stored = -(-lanes * x.width * (block + 1) // 16)
        ffs, width = x.width * 3 + found.format.stream_width, found.format.stream_width
        luts = lanes * (lane.luts - y.width + width) + stored
        return Cost(luts, lanes * ffs + 8)
    if isinstance(found, Multiply):
        weight, bias = (m.width for m in cast_memories(site, build, found))
        stored = (weight + bias) * (len(found.multipliers) > 1)
        ffs += x.width + stored + x.width + weight
    elif isinstance(found, Thresholds):
        count = len(found.levels) - 1
        ffs += x.width + count + count * (x.width + 1) * (len(found.rows) > 1)
    elif isinstance(found, Table):
        ffs += y.width * (lane.brams == 0)
    luts, brams = lanes * lane.luts, lanes * lane.brams
    return Cost(luts, lanes * ffs + _LATENCY[found.kind], lanes * lane.dsps, brams)


def _rounding(site: Site[Any], found: Shift | Multiply) -> _Parameters:
    """Without the lowest level where the format does without it."""
    symmetric = found.low > site.output.fixed.low
    return {"Rounding": found.rounding.code, "Symmetric": flag(symmetric)}


def _channels(x: TensorType, lanes: int, count: int, trailing: int) -> Ints:
    """Returns the channel of every lane, beat by beat: [beats, lanes] over the shortest period."""
    if count == 1:
        return np.zeros((1, lanes), np.int64)
    along = np.arange(count, dtype=np.int64).reshape(-1, *([1] * trailing))
    flat = np.broadcast_to(along, x.shape).reshape(-1)
    order = stream_permutation(math.prod(x.shape), x.layout)
    words = flat[order].reshape(-1, lanes)
    period = next(
        p
        for p in range(1, len(words) + 1)
        if len(words) % p == 0 and (words.reshape(-1, p, lanes) == words[:p]).all()
    )
    return words[:period]


def _width(values: Ints) -> int:
    """Returns the signed bits of these constants, at least two."""
    return max(covering(min(int(values.min()), -1), int(values.max()), 0).width, 2)
