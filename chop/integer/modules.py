"""Runs integer programs in PyTorch: the modules of a true graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum

import numpy as np
import torch
from torch import Tensor, nn

from chop.errors import DataError, VerifyError
from chop.formats.base import Format
from chop.formats.rounding import Ints, Rounding
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

__all__ = ["Carrier", "IntegerInput", "IntegerModule", "IntegerNode", "holds_integers"]

_BINARY: Mapping[type[Instruction], Callable[[Tensor, Tensor], Tensor]] = {
    Add: torch.add,
    Subtract: torch.sub,
    Multiply: torch.mul,
    Maximum: torch.maximum,
    Minimum: torch.minimum,
}


class Carrier(StrEnum):
    """In what the integers inside a node are held; between nodes they are int64."""

    INT64 = "int64"
    FLOAT64 = "float64"


class IntegerModule(nn.Module):
    """Base of the modules of a true graph: int64 tensors in, one int64 tensor out."""


def holds_integers(module: nn.Module) -> bool:
    """Returns whether the module is that of a true graph: it takes and returns integers."""
    return any(isinstance(part, IntegerModule) for part in module.modules())


class IntegerInput(IntegerModule):
    """Takes the integers of a graph's input: real value = integer * 2^-frac_width * scale.

    `layout` moves the elements once they are checked. Raises DataError for values that are not
    integers, or not levels of the format.
    """

    def __init__(self, name: str, format: Format, layout: IntegerNode | None = None) -> None:
        super().__init__()
        self.name = name
        self.format = format
        self.layout = layout
        levels = format.levels()
        found = torch.tensor([] if levels is None else levels, dtype=torch.int64)
        self.register_buffer("levels", found)

    def forward(self, x: Tensor) -> Tensor:
        if x.is_complex() or x.dtype == torch.bool:
            raise self._refuse(f"integers of {self.format}", x.dtype)
        integers = x.to(torch.int64)
        if x.is_floating_point() and not torch.equal(integers.to(x.dtype), x):
            raise self._refuse("whole numbers", f"{x[integers.to(x.dtype) != x][0].item():g}")
        low, high = self.format.low, self.format.high
        if len(integers) and not low <= integers.min() <= integers.max() <= high:
            outside = integers[(integers < low) | (integers > high)]
            raise self._refuse(f"integers in [{low}, {high}] of {self.format}", outside[0].item())
        levels = self.get_buffer("levels")
        if len(levels):
            between = integers[~torch.isin(integers, levels)]
            if len(between):
                raise self._refuse(f"levels of {self.format}", between[0].item())
        return integers if self.layout is None else self.layout.forward(integers)

    def _refuse(self, rule: str, value: object) -> DataError:
        return DataError(
            f"input '{self.name}': must hold {rule}, got {value}; use to_integers to make them "
            "from real values"
        )

    def extra_repr(self) -> str:
        return f"{self.format}, integers in [{self.format.low}, {self.format.high}]"


class IntegerNode(IntegerModule):
    """One operator on int64 tensors [N, *shape], exactly.

    Inside, numbers are held in the carrier. Raises VerifyError for the carrier float64 where it is
    not proven that every number on the way is below 2^53.
    """

    def __init__(self, program: Program, carrier: Carrier = Carrier.INT64) -> None:
        super().__init__()
        obstacle = program.float64_obstacle() if carrier is Carrier.FLOAT64 else ""
        if obstacle:
            raise VerifyError(f"float64 does not carry the node exactly: {obstacle}; use int64")
        self.program = program
        self.carrier = carrier
        for index, values in _constants(program):
            self.register_buffer(f"constant_{index}", torch.from_numpy(np.array(values, np.int64)))

    def forward(self, *inputs: Tensor) -> Tensor:
        exact = self.carrier is Carrier.FLOAT64
        dtype = torch.float64 if exact else torch.int64
        values = [x.to(dtype) for x in inputs]
        step = _float64 if exact else _int64

        def value(index: int) -> Tensor:
            return values[index]

        for index, made in enumerate(self.program.steps, start=len(inputs)):
            if isinstance(made.instruction, Constant):
                values.append(self.get_buffer(f"constant_{index}").to(dtype))
            else:
                values.append(step(made.instruction, value))
        return values[self.program.result].to(torch.int64)

    def extra_repr(self) -> str:
        names = [type(step.instruction).__name__ for step in self.program.steps]
        return f"{self.carrier}: {', '.join(name for name in names if name != 'Constant')}"


def _constants(program: Program) -> Iterator[tuple[int, Ints]]:
    for index, step in enumerate(program.steps, start=len(program.inputs)):
        if isinstance(step.instruction, Constant):
            yield index, step.instruction.values


def _int64(instruction: Instruction, value: Callable[[int], Tensor]) -> Tensor:
    match instruction:
        case ShiftLeft(x, amount):
            return value(x) << value(amount)
        case ShiftRight(x, amount, rounding):
            return _shift_right(value(x), value(amount), rounding)
        case Lookup(x, table, base):
            return value(table)[value(x) - base]
        case _:
            return _common(instruction, value)


def _float64(instruction: Instruction, value: Callable[[int], Tensor]) -> Tensor:
    """Exact while every number is below 2^53: powers of two only move the exponent."""
    match instruction:
        case ShiftLeft(x, amount):
            return value(x) * _powers(value(amount))
        case ShiftRight(x, amount, rounding):
            power = _powers(value(amount))
            if rounding is Rounding.FLOOR:
                return (value(x) / power).floor()
            if rounding is Rounding.HALF_EVEN:
                return (value(x) / power).round()
            # floor(1/2) of a shift by 0 adds nothing.
            return ((value(x) + (power / 2).floor()) / power).floor()
        case Lookup(x, table, base):
            return value(table)[value(x).to(torch.int64) - base]
        case _:
            return _common(instruction, value)


def _common(instruction: Instruction, value: Callable[[int], Tensor]) -> Tensor:
    """What reads alike in both carriers."""
    match instruction:
        case MatMul(x, weight):
            return value(x) @ value(weight).T
        case Add(a, b) | Subtract(a, b) | Multiply(a, b) | Maximum(a, b) | Minimum(a, b):
            return _BINARY[type(instruction)](value(a), value(b))
        case Select(x, a, b):
            return torch.where(value(x) >= 0, value(a), value(b))
        case Reshape(x, shape):
            return value(x).reshape(len(value(x)), *shape)
        case Permute(x, axes):
            return value(x).permute(0, *(axis + 1 for axis in axes))
        case Take(x, axis, index, fill):
            return _take(value(x), axis + 1, index, fill)
        case Concatenate(sources, axis):
            return torch.cat([value(source) for source in sources], axis + 1)
        case CountReached(x, thresholds, trailing):
            return _count_reached(value(x), value(thresholds), trailing)
        case BlockMaximum(x, size):
            return _block_maximum(value(x), size)
        case _:
            raise VerifyError(f"no integer instruction: {instruction}")


def _powers(amounts: Tensor) -> Tensor:
    """Returns 2^amounts in float64, exactly, for amounts in 0..62."""
    one = torch.ones((), dtype=torch.int64)
    return (one << amounts.to(torch.int64)).to(torch.float64)


def _shift_right(x: Tensor, amount: Tensor, rounding: Rounding) -> Tensor:
    if rounding is Rounding.FLOOR:
        return x >> amount
    # One below the half, and one more where that makes it round up; a shift by 0 adds nothing.
    below = ((torch.ones_like(amount) << amount) - 1) >> 1
    some = (amount > 0).to(torch.int64)
    if rounding is Rounding.HALF_EVEN:
        some = some & (x >> amount)
    return (x + below + some) >> amount


def _take(x: Tensor, axis: int, index: Sequence[int], fill: int) -> Tensor:
    places = torch.tensor(index)
    taken = x.index_select(axis, places.clamp(min=0))
    return taken.index_fill(axis, (places < 0).nonzero()[:, 0], fill)


def _count_reached(x: Tensor, thresholds: Tensor, trailing: int) -> Tensor:
    if thresholds.dim() == 1:
        return torch.searchsorted(thresholds, x.contiguous(), right=True).to(x.dtype)
    moved = x.movedim(x.dim() - 1 - trailing, 0)
    channels = moved.reshape(len(thresholds), -1)
    counts = torch.searchsorted(thresholds.contiguous(), channels.contiguous(), right=True)
    return counts.reshape(moved.shape).movedim(0, x.dim() - 1 - trailing).to(x.dtype)


def _block_maximum(x: Tensor, size: int) -> Tensor:
    blocks = [block.amax(-1, keepdim=True).expand_as(block) for block in torch.split(x, size, -1)]
    return torch.cat(blocks, -1)
