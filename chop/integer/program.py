"""Small integer programs: what an operator computes, written once and run in several worlds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chop.formats.rounding import FLOAT64_EXACT, Ints, Rounding

__all__ = [
    "WHITELIST",
    "Add",
    "BlockMaximum",
    "Concatenate",
    "Constant",
    "CountReached",
    "Instruction",
    "Lookup",
    "MatMul",
    "Maximum",
    "Minimum",
    "Multiply",
    "Permute",
    "Program",
    "Reshape",
    "Select",
    "ShiftLeft",
    "ShiftRight",
    "Step",
    "Subtract",
    "Take",
    "sources_of",
]


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """An int64 array that broadcasts against one sample."""

    values: Ints


@dataclass(frozen=True, slots=True)
class MatMul:
    """y = x @ weight.T on the last axis; `weight` is a constant [outputs, inputs]."""

    x: int
    weight: int


@dataclass(frozen=True, slots=True)
class Add:
    a: int
    b: int


@dataclass(frozen=True, slots=True)
class Subtract:
    a: int
    b: int


@dataclass(frozen=True, slots=True)
class Multiply:
    a: int
    b: int


@dataclass(frozen=True, slots=True)
class Maximum:
    a: int
    b: int


@dataclass(frozen=True, slots=True)
class Minimum:
    a: int
    b: int


@dataclass(frozen=True, slots=True)
class ShiftLeft:
    """y = x * 2^amount."""

    x: int
    amount: int


@dataclass(frozen=True, slots=True)
class ShiftRight:
    """y = x * 2^-amount, rounded to an integer; the amount is at most 62."""

    x: int
    amount: int
    rounding: Rounding


@dataclass(frozen=True, slots=True)
class Select:
    """y = a where x >= 0, else b."""

    x: int
    a: int
    b: int


@dataclass(frozen=True, slots=True)
class Reshape:
    """The same elements of every sample in another shape."""

    x: int
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Permute:
    """The axes of a sample in another order: axis i of the result is axis axes[i]."""

    x: int
    axes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Take:
    """Along an axis of a sample, the entries of these indices; `fill` where an index is -1."""

    x: int
    axis: int
    index: tuple[int, ...]
    fill: int


@dataclass(frozen=True, slots=True)
class Concatenate:
    """One tensor after the other along an axis of a sample."""

    sources: tuple[int, ...]
    axis: int


@dataclass(frozen=True, slots=True)
class Lookup:
    """y = table[x - base]; `table` is a constant [entries]."""

    x: int
    table: int
    base: int


@dataclass(frozen=True, slots=True)
class CountReached:
    """y = how many of the thresholds x reaches (x >= threshold).

    `thresholds` is a constant, ascending along its last axis: [T], or [C, T] for the channels on
    the axis that has `trailing` axes behind it.
    """

    x: int
    thresholds: int
    trailing: int


@dataclass(frozen=True, slots=True)
class BlockMaximum:
    """y = the largest of the block of `size` neighbours on the last axis, at every one of them.

    The last block is short where the axis is no multiple of the size.
    """

    x: int
    size: int


# Sources are numbers of values: first the inputs of the program, then one per instruction.
Instruction = (
    Constant
    | MatMul
    | Add
    | Subtract
    | Multiply
    | Maximum
    | Minimum
    | ShiftLeft
    | ShiftRight
    | Select
    | Reshape
    | Permute
    | Take
    | Concatenate
    | Lookup
    | CountReached
    | BlockMaximum
)

# Every instruction that there is: integers in, integers out, and no division.
WHITELIST: tuple[type[Instruction], ...] = (
    *(Constant, MatMul, Add, Subtract, Multiply, Maximum, Minimum, ShiftLeft, ShiftRight),
    *(Select, Reshape, Permute, Take, Concatenate, Lookup, CountReached, BlockMaximum),
)


@dataclass(frozen=True, slots=True)
class Step:
    """An instruction and what is known of its result for one sample.

    Every element lies in [low, high]. `peak` bounds the magnitude of every number on the way to the
    result, in any order of summation.
    """

    instruction: Instruction
    shape: tuple[int, ...]
    low: int
    high: int
    peak: int


@dataclass(frozen=True, slots=True)
class Program:
    """What an operator computes on the integers of its inputs, for every sample [*shape] alike.

    `inputs` are (shape, low, high) of each; `result` is the number of the value returned.
    """

    inputs: tuple[tuple[tuple[int, ...], int, int], ...]
    steps: tuple[Step, ...]
    result: int

    def __deepcopy__(self, memo: object) -> Program:
        # Nobody changes a program: copies of its constants would gain nothing.
        return self

    @property
    def peak(self) -> int:
        """The largest magnitude that any number on the way to the result can have."""
        ends = [max(abs(low), abs(high)) for _, low, high in self.inputs]
        return max((*ends, *(step.peak for step in self.steps)), default=0)

    @property
    def bounds(self) -> tuple[int, int]:
        """The integers that every element of the result lies between."""
        count = len(self.inputs)
        if self.result < count:
            return self.inputs[self.result][1:]
        step = self.steps[self.result - count]
        return step.low, step.high

    @property
    def multiplies_matrices(self) -> bool:
        return any(isinstance(step.instruction, MatMul) for step in self.steps)

    def float64_obstacle(self) -> str:
        """Returns why float64 is not proven to carry the program exactly ("": it is)."""
        if self.peak >= FLOAT64_EXACT:
            return f"a number of up to {self.peak.bit_length()} bits does not fit 53"
        count = len(self.inputs)
        for step in self.steps:
            match step.instruction:
                case ShiftLeft(_, amount) | ShiftRight(_, amount, _):
                    by = self.steps[amount - count].instruction if amount >= count else None
                    if not isinstance(by, Constant):
                        return "it shifts by amounts that depend on the data"
        return ""

    def last_uses(self) -> tuple[int, ...]:
        """Returns for every value the step that reads it last; -1: none does."""
        count = len(self.inputs)
        found = [-1] * (count + len(self.steps))
        for number, step in enumerate(self.steps):
            for source in sources_of(step.instruction):
                found[source] = number
        return tuple(found)


def sources_of(instruction: Instruction) -> Sequence[int]:
    """Returns the numbers of the values that an instruction reads."""
    match instruction:
        case Constant():
            return ()
        case MatMul(x, other) | ShiftLeft(x, other) | ShiftRight(x, other, _):
            return (x, other)
        case Lookup(x, other, _) | CountReached(x, other, _):
            return (x, other)
        case Add(a, b) | Subtract(a, b) | Multiply(a, b) | Maximum(a, b) | Minimum(a, b):
            return (a, b)
        case Select(x, a, b):
            return (x, a, b)
        case Concatenate(sources, _):
            return sources
        case Reshape(x, _) | Permute(x, _) | BlockMaximum(x, _) | Take(x, _, _, _):
            return (x,)
