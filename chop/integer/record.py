"""How an operator writes its integer program: arithmetic on values that are not there yet."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from chop.errors import FormatError
from chop.formats.rounding import MAX_BITS, Ints, Rounding
from chop.integer.program import (
    Add,
    BlockMaximum,
    Concatenate,
    Constant,
    CountReached,
    Instruction,
    Lookup,
    MatMul,
    Maximum,
    Minimum,
    Multiply,
    Permute,
    Program,
    Reshape,
    Select,
    ShiftLeft,
    ShiftRight,
    Step,
    Subtract,
    Take,
)

__all__ = ["Value", "record"]

_INT64 = 1 << 63


class _Recorder:
    """The steps written so far."""

    def __init__(self, inputs: Sequence[tuple[tuple[int, ...], int, int]]) -> None:
        self.inputs = tuple(inputs)
        self.steps: list[Step] = []

    def add(
        self, instruction: Instruction, shape: tuple[int, ...], low: int, high: int, peak: int = 0
    ) -> Value:
        """Appends a step. Raises FormatError where a number on the way may leave int64."""
        peak = max(peak, abs(low), abs(high))
        if peak >= _INT64:
            raise FormatError(
                f"a number of up to {peak.bit_length()} bits does not fit int64; use narrower "
                "formats, or fractions that lie closer together"
            )
        self.steps.append(Step(instruction, shape, low, high, peak))
        return Value(self, len(self.inputs) + len(self.steps) - 1, shape, low, high)

    def constant(self, values: Ints | int) -> Value:
        array = np.array(values, np.int64)
        array.setflags(write=False)
        low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
        return self.add(Constant(array), array.shape, low, high)


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """A tensor of integers, of which the shape of one sample and the bounds are known.

    Every method writes one instruction, or none where it would change nothing, and returns its
    result. Tensors of one rank broadcast; so do constants, which never make a tensor larger. Raises
    FormatError where a number may leave int64, ValueError (our bug) for shapes that do not fit.
    """

    recorder: _Recorder
    index: int
    shape: tuple[int, ...]
    low: int
    high: int

    @property
    def magnitude(self) -> int:
        """The largest magnitude that an element can have."""
        return max(abs(self.low), abs(self.high))

    @property
    def is_constant(self) -> bool:
        """Whether it is the same for all samples, without a batch dimension."""
        number = self.index - len(self.recorder.inputs)
        return number >= 0 and isinstance(self.recorder.steps[number].instruction, Constant)

    def matmul(self, weight: Ints) -> Value:
        """Returns self @ weight.T on the last axis, for a weight [outputs, inputs]."""
        if weight.ndim != 2 or weight.shape[1] != self.shape[-1]:
            raise ValueError(f"a weight of shape {weight.shape} for a tensor {self.shape}")
        up, down = _sums(np.maximum(weight, 0)), _sums(np.maximum(-weight, 0))
        ends = [
            (u * self.low - d * self.high, u * self.high - d * self.low)
            for u, d in zip(up, down, strict=True)
        ]
        peak = max(u + d for u, d in zip(up, down, strict=True)) * self.magnitude
        constant = self.recorder.constant(weight)
        return self.recorder.add(
            MatMul(self.index, constant.index),
            (*self.shape[:-1], len(weight)),
            min(low for low, _ in ends),
            max(high for _, high in ends),
            peak,
        )

    def __add__(self, other: Value | Ints | int) -> Value:
        if _is(other, 0):
            return self
        b = self._operand(other)
        low, high = self.low + b.low, self.high + b.high
        return self.recorder.add(Add(self.index, b.index), self._shape(b), low, high)

    def __sub__(self, other: Value | Ints | int) -> Value:
        if _is(other, 0):
            return self
        b = self._operand(other)
        low, high = self.low - b.high, self.high - b.low
        return self.recorder.add(Subtract(self.index, b.index), self._shape(b), low, high)

    def __neg__(self) -> Value:
        return self * -1

    def __mul__(self, other: Value | Ints | int) -> Value:
        if _is(other, 1):
            return self
        b = self._operand(other)
        ends = [x * y for x in (self.low, self.high) for y in (b.low, b.high)]
        return self.recorder.add(
            Multiply(self.index, b.index), self._shape(b), min(ends), max(ends)
        )

    def maximum(self, other: Value | Ints | int) -> Value:
        """Returns the larger of the two, element by element."""
        if not isinstance(other, Value) and int(np.max(other)) <= self.low:
            return self
        b = self._operand(other)
        low, high = max(self.low, b.low), max(self.high, b.high)
        return self.recorder.add(Maximum(self.index, b.index), self._shape(b), low, high)

    def minimum(self, other: Value | Ints | int) -> Value:
        """Returns the smaller of the two, element by element."""
        if not isinstance(other, Value) and int(np.min(other)) >= self.high:
            return self
        b = self._operand(other)
        low, high = min(self.low, b.low), min(self.high, b.high)
        return self.recorder.add(Minimum(self.index, b.index), self._shape(b), low, high)

    def clip(self, low: Ints | int, high: Ints | int) -> Value:
        """Returns min(max(self, low), high)."""
        return self.maximum(low).minimum(high)

    def absolute(self) -> Value:
        """Returns |self|."""
        if self.low >= 0:
            return self
        low = 0 if self.high >= 0 else -self.high
        other = -self
        return self.recorder.add(Maximum(self.index, other.index), self.shape, low, self.magnitude)

    def shift_left(self, amount: Value | Ints | int) -> Value:
        """Returns self * 2^amount. Raises FormatError where that may leave 62 bits."""
        if _is(amount, 0):
            return self
        n = self._operand(amount)
        low = min(self.low << n.low, self.low << n.high)
        high = max(self.high << n.low, self.high << n.high)
        if max(abs(low), abs(high)) >= 1 << MAX_BITS:
            raise FormatError(
                f"a value of {self.magnitude.bit_length()} bits moved left by {n.high} does not "
                f"fit {MAX_BITS} bits; use fractions that lie closer together"
            )
        return self.recorder.add(ShiftLeft(self.index, n.index), self._shape(n), low, high)

    def shift_right(self, amount: Value | Ints | int, rounding: Rounding) -> Value:
        """Returns self * 2^-amount rounded to an integer; amounts that vary are at most 62."""
        if _is(amount, 0):
            return self
        if isinstance(amount, int):
            return self._shift_right_by(amount, rounding)
        n = self._operand(amount)
        if not 0 <= n.low <= n.high <= MAX_BITS:
            raise ValueError(f"amounts of a shift in [{n.low}, {n.high}]")
        ends = [_shifted(x, k, rounding) for x in (self.low, self.high) for k in (n.low, n.high)]
        # Towards 0 (or -1) from either side: the ends of the amounts are those of the result.
        peak = self.magnitude + ((1 << n.high) >> 1)
        return self.recorder.add(
            ShiftRight(self.index, n.index, rounding), self._shape(n), min(ends), max(ends), peak
        )

    def _shift_right_by(self, amount: int, rounding: Rounding) -> Value:
        if amount < 0:
            return self.shift_left(-amount)
        if rounding is Rounding.FLOOR:
            # Nothing but the sign is left from here on.
            amount = min(amount, MAX_BITS)
        elif self.magnitude < (1 << amount) >> 1:
            return self * 0
        n = self._operand(amount)
        low, high = (_shifted(x, amount, rounding) for x in (self.low, self.high))
        peak = 0 if rounding is Rounding.FLOOR else self.magnitude + ((1 << amount) >> 1)
        return self.recorder.add(
            ShiftRight(self.index, n.index, rounding), self.shape, low, high, peak
        )

    def where_nonnegative(self, positive: Value | int, negative: Value | int) -> Value:
        """Returns `positive` where self >= 0, else `negative`."""
        if isinstance(positive, int):
            positive = self.recorder.constant(positive)
        if isinstance(negative, int):
            negative = self.recorder.constant(negative)
        if self.low >= 0 and positive.shape == self.shape:
            return positive
        if (self.high < 0 and negative.shape == self.shape) or negative.index == positive.index:
            return negative
        low, high = min(positive.low, negative.low), max(positive.high, negative.high)
        instruction = Select(self.index, positive.index, negative.index)
        return self.recorder.add(instruction, self._shape(positive, negative), low, high)

    def reshape(self, shape: tuple[int, ...]) -> Value:
        """Returns the same elements of every sample in another shape."""
        if math.prod(shape) != math.prod(self.shape):
            raise ValueError(f"{self.shape} has no shape {shape}")
        if shape == self.shape:
            return self
        return self.recorder.add(Reshape(self.index, shape), shape, self.low, self.high)

    def permute(self, axes: tuple[int, ...]) -> Value:
        """Returns the axes of a sample in another order (the batch is not one of them)."""
        if sorted(axes) != list(range(len(self.shape))):
            raise ValueError(f"axes {axes} of a tensor {self.shape}")
        if list(axes) == sorted(axes):
            return self
        shape = tuple(self.shape[axis] for axis in axes)
        return self.recorder.add(Permute(self.index, axes), shape, self.low, self.high)

    def take(self, axis: int, index: tuple[int, ...], fill: int = 0) -> Value:
        """Returns the entries of these indices along an axis of a sample.

        An index of -1 stands for an entry that is `fill` throughout.
        """
        size = self.shape[axis]
        if not index or not all(-1 <= i < size for i in index):
            raise ValueError(f"indices {index} of an axis of {size} entries")
        if index == tuple(range(size)):
            return self
        shape = (*self.shape[:axis], len(index), *self.shape[axis + 1 :])
        filled = (fill,) if -1 in index else ()
        low, high = min((self.low, *filled)), max((self.high, *filled))
        return self.recorder.add(Take(self.index, axis, index, fill), shape, low, high)

    def concatenate(self, others: Sequence[Value], axis: int) -> Value:
        """Returns this tensor and the others behind it along an axis of a sample."""
        parts = (self, *others)
        rest = {(*p.shape[:axis], *p.shape[axis + 1 :]) for p in parts}
        if len(rest) > 1:
            raise ValueError(f"{[p.shape for p in parts]} do not fit along axis {axis}")
        if not others:
            return self
        size = sum(p.shape[axis] for p in parts)
        return self.recorder.add(
            Concatenate(tuple(p.index for p in parts), axis),
            (*self.shape[:axis], size, *self.shape[axis + 1 :]),
            min(p.low for p in parts),
            max(p.high for p in parts),
        )

    def lookup(self, table: Ints, base: int) -> Value:
        """Returns table[self - base] for a table [entries] that has one for every value."""
        if not (base <= self.low and self.high - base < len(table)):
            raise ValueError(
                f"a table of {len(table)} entries from {base} on for [{self.low}, {self.high}]"
            )
        reached = table[self.low - base : self.high - base + 1]
        constant = self.recorder.constant(table)
        return self.recorder.add(
            Lookup(self.index, constant.index, base),
            self.shape,
            int(reached.min()),
            int(reached.max()),
            max(self.magnitude, abs(self.low - base), abs(self.high - base)),
        )

    def count_reached(self, thresholds: Ints, trailing: int = 0) -> Value:
        """Returns how many of the thresholds are reached (self >= threshold).

        `thresholds` ascend along the last axis: [T] for every element, or [C, T] for the channels
        on the axis that has `trailing` axes behind it.
        """
        if (np.diff(thresholds, axis=-1) < 0).any():
            raise ValueError("thresholds must ascend")
        if thresholds.ndim == 2 and len(thresholds) != self.shape[len(self.shape) - 1 - trailing]:
            raise ValueError(f"thresholds of {len(thresholds)} channels for {self.shape}")
        low, high = ((thresholds <= end).sum(axis=-1) for end in (self.low, self.high))
        constant = self.recorder.constant(thresholds)
        peak = int(np.abs(thresholds).max()) if thresholds.size else 0
        return self.recorder.add(
            CountReached(self.index, constant.index, trailing),
            self.shape,
            int(low.min()),
            int(high.max()),
            max(self.magnitude, peak),
        )

    def bit_length(self) -> Value:
        """Returns the bits of a value that is not negative: 0 for 0, else floor(log2) + 1."""
        if self.low < 0:
            raise ValueError("the bits of a value that may be negative")
        powers = np.array([1 << k for k in range(self.high.bit_length())], np.int64)
        return self.count_reached(powers)

    def block_maximum(self, size: int) -> Value:
        """Returns at every element the largest of its block of `size` on the last axis."""
        if size == 1:
            return self
        return self.recorder.add(
            BlockMaximum(self.index, size), self.shape, self.low, self.high, self.magnitude
        )

    def _operand(self, other: Value | Ints | int) -> Value:
        if isinstance(other, Value):
            return other
        array = np.asarray(other, np.int64)
        if array.size and (array == array.flat[0]).all():
            # Equal constants are one: a smaller program to read and to run.
            array = array.reshape(-1)[0]
        return self.recorder.constant(array)

    def _shape(self, *others: Value) -> tuple[int, ...]:
        shape = np.broadcast_shapes(self.shape, *(other.shape for other in others))
        tensors = [value.shape for value in (self, *others) if not value.is_constant]
        # Of one rank, so that their batches meet.
        if shape != np.broadcast_shapes(*tensors) or len({len(t) for t in tensors}) > 1:
            raise ValueError(f"{[o.shape for o in others]} do not suit a tensor {self.shape}")
        return shape


def record(
    define: Callable[[Sequence[Value]], Value],
    inputs: Sequence[tuple[tuple[int, ...], int, int]],
) -> Program:
    """Returns the program that `define` writes for inputs of these (shape, low, high)."""
    recorder = _Recorder(inputs)
    values = [
        Value(recorder, number, shape, low, high)
        for number, (shape, low, high) in enumerate(recorder.inputs)
    ]
    result = define(values)
    return Program(recorder.inputs, tuple(recorder.steps), result.index)


def _is(operand: Value | Ints | int, number: int) -> bool:
    return not isinstance(operand, Value) and bool((np.asarray(operand) == number).all())


def _sums(rows: Ints) -> list[int]:
    """Returns the sum of every row, exactly."""
    most = int(rows.max(initial=0)).bit_length() + rows.shape[1].bit_length()
    exact = rows if most < MAX_BITS else rows.astype(object)
    return [int(total) for total in exact.sum(axis=1)]


def _shifted(value: int, amount: int, rounding: Rounding) -> int:
    """The rounded shift on Python's integers."""
    floor, half = value >> amount, (1 << amount) >> 1
    rest = value - (floor << amount)
    if amount == 0 or rounding is Rounding.FLOOR:
        return floor
    if rounding is Rounding.HALF_UP:
        return floor + (rest >= half)
    return floor + (rest > half or (rest == half and floor % 2 == 1))
