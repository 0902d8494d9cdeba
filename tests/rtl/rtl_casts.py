"""Cases of the requantisers: comparisons, tables, blocks, rounding without the lowest level."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from chop.formats.fixed import Fixed
from chop.formats.mxint import MxInt
from chop.formats.rounding import Rounding
from tests.rtl.rtl_case import RANDOM, Case, Cast, Signal, element, layer_ports, rom_file
from tests.rtl.rtl_models import Beat, Blocks, Elastic, Register, pack, split


def _thresholds(
    lanes: int, channels: int, x: tuple[int, bool], y_width: int, count: int, style: str = "auto"
) -> Case:
    """Width and signedness of x; thresholds from one that is always passed to one that never is."""
    width, signed = x
    low, high = (-(1 << (width - 1)), 1 << (width - 1)) if signed else (0, 1 << width)
    rows = [sorted(RANDOM.randint(low, high) for _ in range(count)) for _ in range(channels)]
    rows[0][0], rows[-1][-1] = low, high
    # Rising, or not: the module must not care how levels are numbered.
    levels = [element(y_width, False) for _ in range(count + 1)]
    words = [
        pack([t for row in rows[k * lanes :][:lanes] for t in row], width + 1)
        for k in range(channels // lanes)
    ]
    threshold_file, roms = rom_file("t", words, lanes * count * (width + 1))
    level_file, more = rom_file("l", [pack(levels, y_width)], (count + 1) * y_width)

    def function(position: int, beat: Beat) -> Beat:
        own = rows[position * lanes :][:lanes]
        elements = split(beat, lanes, width, signed)
        passed = (bisect_right(row, v) for row, v in zip(own, elements, strict=True))
        return pack([levels[k] for k in passed], y_width)

    return Case(
        "chop_threshold_cast",
        {
            "Lanes": lanes,
            "Channels": channels,
            "InWidth": width,
            "InSigned": int(signed),
            "OutWidth": y_width,
            "Thresholds": count,
            "ThresholdFile": threshold_file,
            "LevelFile": level_file,
            "RomStyle": style,
        },
        lambda: Elastic(function, channels // lanes),
        layer_ports(),
        (Signal("x", lanes, width),),
        (Signal("y", lanes, y_width),),
        roms=roms | more,
    )


def _table(lanes: int, in_width: int, out_width: int, style: str = "auto") -> Case:
    words = [element(out_width, False) for _ in range(1 << in_width)]
    file, roms = rom_file("f", words, out_width)

    def function(_: int, beat: Beat) -> Beat:
        return pack([words[v] for v in split(beat, lanes, in_width, False)], out_width)

    return Case(
        "chop_table_cast",
        {
            "Lanes": lanes,
            "InWidth": in_width,
            "OutWidth": out_width,
            "TableFile": file,
            "RomStyle": style,
        },
        lambda: Elastic(function, 1, stages=[None, None]),
        layer_ports(),
        (Signal("x", lanes, in_width),),
        (Signal("y", lanes, out_width),),
        roms=roms,
    )


def _symmetric(cast: Cast) -> Case:
    lanes = 2

    def function(beat: Beat) -> Beat:
        found = (cast.finish(v) for v in split(beat, lanes, cast.in_width, cast.in_signed))
        lowest = -((1 << (cast.out_width - 1)) - 1)
        return pack([max(v, lowest) for v in found], cast.out_width)

    return Case(
        "chop_cast",
        {"Lanes": lanes, **cast.parameters(), "Symmetric": 1},
        lambda: Register(function),
        layer_ports(),
        (Signal("x", lanes, cast.in_width),),
        (Signal("y", lanes, cast.out_width),),
    )


def _blocks(
    lanes: int,
    beats: tuple[int, int],
    x: tuple[int, bool, int],
    format: tuple[int, int, int],
    rounding: Rounding = Rounding.HALF_UP,
) -> Case:
    """Beats of a block and of a row; width, signedness, fraction of x; width and exponent of y."""
    (block, row), (width, signed, fraction), (y_width, exponent_width, bias) = beats, x, format
    target = MxInt(y_width, exponent_width, bias, block * lanes)
    source = Fixed(width, fraction, signed)
    code = y_width + exponent_width

    def function(beats: Sequence[Beat]) -> list[Beat]:
        elements = [v for beat in beats for v in split(beat, lanes, width, signed)]
        levels = target.requantise(np.array([elements], np.int64), source, rounding)
        codes = target.encode(levels)[0].tolist()
        return [pack(codes[k * lanes :][:lanes], code) for k in range(len(beats))]

    base = 1 + fraction + target.lowest
    return Case(
        "chop_mxint_cast",
        {
            "Lanes": lanes,
            "BlockBeats": block,
            "RowBeats": row,
            "InWidth": width,
            "InSigned": int(signed),
            "OutWidth": y_width,
            "ExponentWidth": exponent_width,
            "Base": f"32'h{base & 0xFFFFFFFF:08x}",
            "Rounding": rounding.code,
        },
        lambda: Blocks(function, block, row),
        layer_ports(),
        (Signal("x", lanes, width),),
        (Signal("y", lanes, code),),
    )


CASES = (
    _blocks(2, (2, 4), (8, True, 4), (4, 2, 1)),
    _blocks(1, (3, 7), (6, True, 3), (3, 3, 3), Rounding.FLOOR),
    _blocks(2, (1, 1), (7, False, 4), (4, 2, 2), Rounding.HALF_EVEN),
    _blocks(2, (4, 5), (5, True, 0), (8, 3, 4)),
    _blocks(1, (2, 3), (4, True, 8), (3, 2, 1), Rounding.HALF_EVEN),
    _blocks(1, (2, 2), (8, True, -3), (3, 2, 8)),
    _blocks(3, (2, 2), (12, True, 6), (5, 3, 2), Rounding.HALF_EVEN),
    _thresholds(2, 6, (6, True), 4, 5),
    _thresholds(2, 2, (6, False), 3, 7, "logic"),
    _thresholds(1, 5, (4, True), 2, 1),
    _thresholds(3, 3, (1, True), 2, 2),
    _thresholds(1, 4, (5, False), 1, 3, "block"),
    _table(2, 5, 4),
    _table(1, 1, 3),
    _table(3, 6, 1, "logic"),
    _symmetric(Cast(6, True, 4, True, 1)),
    _symmetric(Cast(4, True, 4, True)),
    _symmetric(Cast(3, True, 4, True, left=1)),
    _symmetric(Cast(5, False, 2, True, 2, 0, 2)),
)
