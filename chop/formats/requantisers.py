"""The kinds of requantiser: what each computes, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from chop.formats.fixed import Fixed
from chop.formats.rounding import Ints, Rounding, shift_right

if TYPE_CHECKING:
    from chop.formats.mxint import MxInt

__all__ = ["LaneCost", "Multiply", "MxIntBlocks", "Requantiser", "Shift", "Table", "Thresholds"]

# What the choice takes a multiplier block (18 x 18 bits) and a block memory to be worth in LUTs.
_DSP_LUTS = 64
_BRAM_LUTS = 150
_DSP_BITS = 18
_BRAM_BITS = 1 << 14


@dataclass(frozen=True, slots=True)
class LaneCost:
    """An estimate of one lane: four-input LUTs, multiplier blocks, block memories."""

    luts: int
    dsps: int = 0
    brams: int = 0

    @property
    def total(self) -> int:
        """All of it in LUTs."""
        return self.luts + _DSP_LUTS * self.dsps + _BRAM_LUTS * self.brams


@dataclass(frozen=True, slots=True)
class Shift:
    """clip(round(A * 2^-shift), low, high); a negative shift is a left shift."""

    shift: int
    rounding: Rounding
    low: int
    high: int
    proof: str

    kind: ClassVar[str] = "shift"

    def apply(self, values: Ints) -> Ints:
        if self.shift >= 0:
            return np.clip(shift_right(values, self.shift, self.rounding), self.low, self.high)
        # What saturates must not be shifted first: it could leave int64.
        left = -self.shift
        low, high = -(-self.low >> left), self.high >> left
        inside = np.clip(values, low, high) << np.int64(min(left, 62))
        return np.where(values > high, self.high, np.where(values < low, self.low, inside))

    def cost(self, in_width: int, out_width: int) -> LaneCost:
        rounds = self.shift > 0 and self.rounding is not Rounding.FLOOR
        return LaneCost(out_width + rounds * out_width)


@dataclass(frozen=True, slots=True)
class Multiply:
    """clip(round((A * multipliers[c] + offsets[c]) * 2^-shift), low, high).

    One multiplier and offset, or one per channel on the axis with `trailing` axes behind it.
    """

    multipliers: tuple[int, ...]
    offsets: tuple[int, ...]
    shift: int
    rounding: Rounding
    low: int
    high: int
    trailing: int
    proof: str

    kind: ClassVar[str] = "multiply"

    def constants(self) -> tuple[Ints, Ints]:
        """Returns multipliers and offsets, shaped to broadcast against the tensor."""
        m, b = np.array(self.multipliers, np.int64), np.array(self.offsets, np.int64)
        shape = (-1, *([1] * self.trailing)) if len(m) > 1 else ()
        return m.reshape(shape), b.reshape(shape)

    def apply(self, values: Ints) -> Ints:
        multipliers, offsets = self.constants()
        rounded = shift_right(values * multipliers + offsets, self.shift, self.rounding)
        return np.clip(rounded, self.low, self.high)

    def cost(self, in_width: int, out_width: int) -> LaneCost:
        width = max(self.multipliers).bit_length() + 1
        bias = max(abs(b) for b in self.offsets).bit_length() + 1
        tiles = -(-in_width // _DSP_BITS) * -(-width // _DSP_BITS)
        stored = len(self.multipliers) > 1
        rom = (width + bias) * -(-len(self.multipliers) // 64) * stored
        return LaneCost(max(in_width + width, bias) + out_width + rom, dsps=tiles)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """levels[#{k : A >= rows[c][k]}]: one row of thresholds, or one per channel."""

    rows: tuple[tuple[int, ...], ...]
    levels: tuple[int, ...]
    trailing: int
    proof: str

    kind: ClassVar[str] = "thresholds"

    def constants(self) -> tuple[Ints, Ints]:
        """Returns the thresholds, [T] or [C, T], and the levels [T + 1]."""
        rows = np.array(self.rows, np.int64).reshape(len(self.rows), -1)
        return rows if len(rows) > 1 else rows[0], np.array(self.levels, np.int64)

    def apply(self, values: Ints) -> Ints:
        rows, levels = self.constants()
        if rows.ndim == 1:
            return levels[np.searchsorted(rows, values, side="right")]
        axis = values.ndim - 1 - self.trailing
        parts = [
            np.searchsorted(row, part, side="right")
            for row, part in zip(rows, np.moveaxis(values, axis, 0), strict=True)
        ]
        result: Ints = levels[np.moveaxis(np.stack(parts), 0, axis)]
        return result

    def cost(self, in_width: int, out_width: int) -> LaneCost:
        count, stored = len(self.levels) - 1, len(self.rows) > 1
        # A comparison with a constant is about half a LUT a bit, with a word one LUT.
        compare = count * (in_width if stored else -(-in_width // 2))
        rom = count * in_width * -(-len(self.rows) // 64) * stored
        return LaneCost(compare + rom + -(-count * out_width // 6))


@dataclass(frozen=True, slots=True)
class Table:
    """levels[A - first]."""

    first: int
    levels: tuple[int, ...]
    proof: str

    kind: ClassVar[str] = "table"

    def constants(self) -> Ints:
        """Returns the level of every code from `first` on."""
        return np.array(self.levels, np.int64)

    def apply(self, values: Ints) -> Ints:
        result: Ints = self.constants()[values - self.first]
        return result

    def cost(self, in_width: int, out_width: int) -> LaneCost:
        luts = -(-(out_width << in_width) // 16)
        brams = -(-(out_width << in_width) // _BRAM_BITS)
        logic, block = LaneCost(luts), LaneCost(0, brams=brams)
        return min(logic, block, key=lambda cost: cost.total)


@dataclass(frozen=True, slots=True)
class MxIntBlocks:
    """`MxInt.requantise`: blocks along the last axis, from integers in `source`."""

    format: MxInt
    source: Fixed
    rounding: Rounding
    proof: str

    kind: ClassVar[str] = "mxint"

    def apply(self, values: Ints) -> Ints:
        return self.format.requantise(values, self.source, self.rounding)

    def cost(self, in_width: int, out_width: int) -> LaneCost:
        # The largest magnitude, the shifter, the rounding, and the wait for the block's end.
        return LaneCost(4 * in_width + in_width * in_width.bit_length() // 2 + out_width)


Requantiser = Shift | Multiply | Thresholds | Table | MxIntBlocks
