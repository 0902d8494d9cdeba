"""Runs integer programs on numpy's int64 arrays: the reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from chop.formats.rounding import Ints, exact_matmul, shift_right_by
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
    Subtract,
    Take,
)

__all__ = ["run"]

# Of one value of a program, for all samples that are computed at a time.
_MOST_ELEMENTS = 1 << 23

_BINARY: Mapping[type[Instruction], Callable[[Ints, Ints], Ints]] = {
    Add: np.add,
    Subtract: np.subtract,
    Multiply: np.multiply,
    Maximum: np.maximum,
    Minimum: np.minimum,
}


def run(program: Program, inputs: Sequence[Ints]) -> Ints:
    """Returns the result [N, *shape] for inputs [N, *shape] within the program's bounds.

    A program that only moves elements takes arrays of any type. Samples are computed some at a
    time where those of a whole batch, on the way, would be large: windows of images are.
    """
    made = [step for step in program.steps if not isinstance(step.instruction, Constant)]
    largest = max((math.prod(step.shape) for step in made), default=1)
    count, most = len(inputs[0]), max(1, _MOST_ELEMENTS // max(1, largest))
    if count <= most:
        return _run(program, inputs)
    parts = [
        _run(program, [x[start : start + most] for x in inputs]) for start in range(0, count, most)
    ]
    return np.concatenate(parts)


def _run(program: Program, inputs: Sequence[Ints]) -> Ints:
    values: list[Ints | None] = list(inputs)
    last = program.last_uses()

    def value(index: int) -> Ints:
        found = values[index]
        assert found is not None
        return found

    for number, step in enumerate(program.steps):
        values.append(_result(step.instruction, value, step.peak))
        for index, reader in enumerate(last[: len(values)]):
            # Batches are large: what nobody reads any more is let go.
            if reader == number and index != program.result:
                values[index] = None
    return value(program.result)


def _result(instruction: Instruction, value: Callable[[int], Ints], peak: int) -> Ints:
    match instruction:
        case Constant(values):
            return values
        case MatMul(x, weight):
            return _matmul(value(x), value(weight), peak)
        case Add(a, b) | Subtract(a, b) | Multiply(a, b) | Maximum(a, b) | Minimum(a, b):
            return _BINARY[type(instruction)](value(a), value(b))
        case ShiftLeft(x, amount):
            return value(x) << value(amount)
        case ShiftRight(x, amount, rounding):
            return shift_right_by(value(x), value(amount), rounding)
        case Select(x, a, b):
            return np.where(value(x) >= 0, value(a), value(b))
        case Reshape() | Permute() | Take() | Concatenate():
            return _moved(instruction, value)
        case Lookup(x, table, base):
            return value(table)[value(x) - base]
        case CountReached(x, thresholds, trailing):
            return _count_reached(value(x), value(thresholds), trailing)
        case BlockMaximum(x, size):
            return _block_maximum(value(x), size)


def _moved(
    instruction: Reshape | Permute | Take | Concatenate, value: Callable[[int], Ints]
) -> Ints:
    match instruction:
        case Reshape(x, shape):
            return value(x).reshape(len(value(x)), *shape)
        case Permute(x, axes):
            return value(x).transpose(0, *(axis + 1 for axis in axes))
        case Take(x, axis, index, fill):
            return _take(value(x), axis + 1, np.array(index), fill)
        case Concatenate(sources, axis):
            return np.concatenate([value(source) for source in sources], axis + 1)


def _matmul(x: Ints, weight: Ints, peak: int) -> Ints:
    flat = exact_matmul(x.reshape(-1, x.shape[-1]), weight, peak)
    return flat.reshape(*x.shape[:-1], len(weight))


def _take(x: Ints, axis: int, index: Ints, fill: int) -> Ints:
    taken: Ints = x.take(index, axis)
    if (index < 0).any():
        np.moveaxis(taken, axis, 0)[index < 0] = fill
    return taken


def _count_reached(x: Ints, thresholds: Ints, trailing: int) -> Ints:
    if thresholds.ndim == 1:
        return np.searchsorted(thresholds, x, side="right")
    axis = x.ndim - 1 - trailing
    moved = np.moveaxis(x, axis, 0)
    counts = [
        np.searchsorted(row, channel, side="right")
        for row, channel in zip(thresholds, moved, strict=True)
    ]
    return np.moveaxis(np.stack(counts), 0, axis)


def _block_maximum(x: Ints, size: int) -> Ints:
    starts = np.arange(0, x.shape[-1], size)
    largest: Ints = np.maximum.reduceat(x, starts, axis=-1)
    return np.repeat(largest, size, axis=-1)[..., : x.shape[-1]]
