"""Prints integer programs as PyTorch source."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np

from chop.errors import VerifyError
from chop.formats.rounding import Ints, Rounding
from chop.integer.modules import Carrier
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
    sources_of,
)

__all__ = ["HELPERS", "source_of"]

_BINARY: Mapping[type[Instruction], str] = {
    Add: "{} + {}",
    Subtract: "{} - {}",
    Multiply: "{} * {}",
    Maximum: "{}.clamp(min={})",
    Minimum: "{}.clamp(max={})",
}

_LOW = re.compile(r"(?P<to>\w+) = (?P<x>.+)\.clamp\(min=\(?(?P<low>-?\d+)\)?\)")
_HIGH = re.compile(r"(?P<to>\w+) = (?P<x>\w+)\.clamp\(max=\(?(?P<high>-?\d+)\)?\)")

# Functions that a generated file defines where its lines call them.
HELPERS = {
    "_powers": '''\
def _powers(amounts: Tensor) -> Tensor:
    """2^amounts, exactly."""
    return torch.ones_like(amounts, dtype=torch.int64) << amounts
''',
    "_shift_right": '''\
def _shift_right(x: Tensor, amounts: Tensor, mode: str) -> Tensor:
    """x * 2^-amounts, rounded: "floor", "half_up" or "half_even"."""
    below = (_powers(amounts) - 1) >> 1
    up = (amounts > 0).long()
    if mode == "half_even":
        up = up & (x >> amounts)
    return x >> amounts if mode == "floor" else (x + below + up) >> amounts
''',
    "_shift_right_float": '''\
def _shift_right_float(x: Tensor, amounts: Tensor, mode: str) -> Tensor:
    """x * 2^-amounts, rounded, for whole numbers in float64: "floor", "half_up" or "half_even"."""
    power = _powers(amounts)
    if mode == "half_even":
        return (x / power).round()
    return ((x + (power >> 1) * (mode == "half_up")) / power).floor()
''',
    "_count_reached": '''\
def _count_reached(x: Tensor, thresholds: Tensor, axis: int = 0) -> Tensor:
    """How many of the ascending thresholds x reaches; a row of thresholds for each channel."""
    if thresholds.dim() == 1:
        return torch.searchsorted(thresholds, x.contiguous(), right=True)
    moved = x.movedim(axis, 0)
    rows = moved.reshape(len(thresholds), -1).contiguous()
    counts = torch.searchsorted(thresholds, rows, right=True)
    return counts.reshape(moved.shape).movedim(0, axis)
''',
    "_block_maximum": '''\
def _block_maximum(x: Tensor, size: int) -> Tensor:
    """The largest of every block of `size` on the last axis, at each of its elements."""
    blocks = [block.amax(-1, keepdim=True).expand_as(block) for block in x.split(size, -1)]
    return torch.cat(blocks, -1)
''',
}


def source_of(
    program: Program,
    carrier: Carrier,
    inputs: Sequence[str],
    result: str,
    store: Callable[[str, Ints], str],
    fresh: Callable[[str], str],
) -> list[str]:
    """Returns the lines that compute the variable `result` from the int64 variables `inputs`.

    `store(role, values)` keeps an int64 array and returns the expression that reads it;
    `fresh(name)` returns a name like this one that no other variable has. Lines may call the
    functions of HELPERS.
    """
    return _Printer(program, carrier, inputs, result, store, fresh).lines()


class _Printer:
    def __init__(
        self,
        program: Program,
        carrier: Carrier,
        inputs: Sequence[str],
        result: str,
        store: Callable[[str, Ints], str],
        fresh: Callable[[str], str],
    ) -> None:
        self._program = program
        self._result = result
        self._store = store
        self._fresh = fresh
        self._float = carrier is Carrier.FLOAT64
        self._names = {
            index: f"{name}.double()" if self._float else name for index, name in enumerate(inputs)
        }
        self._roles = _roles(program)
        self._last = program.last_uses()
        # The value that the variable `result` holds.
        self._holder: int | None = None

    def lines(self) -> list[str]:
        program, count = self._program, len(self._program.inputs)
        lines = []
        for number, step in enumerate(program.steps):
            index = number + count
            if isinstance(step.instruction, Constant):
                self._names[index] = self._constant(index, step.instruction.values)
                continue
            expression = self._expression(step.instruction)
            name = self._variable(number, index)
            lines.append(f"{name} = {expression}")
            self._names[index] = name
        last = self._names[program.result]
        if self._float:
            lines.append(f"{self._result} = {last}.long()")
        elif last != self._result:
            lines.append(f"{self._result} = {last}")
        return _merged(lines)

    def _variable(self, number: int, index: int) -> str:
        """The variable of a step: `result` itself, as soon as nobody reads what it holds."""
        held = self._holder
        if held is None or (self._last[held] <= number and held != self._program.result):
            self._holder = index
            return self._result
        return self._fresh(self._result)

    def _constant(self, index: int, values: Ints) -> str:
        role = self._roles.get(index, "constant")
        if values.ndim == 0:
            number = int(values)
            return f"({number})" if number < 0 else f"{number}"
        stored = self._store(role, values)
        integral = role in ("shift", "table")
        return f"{stored}.double()" if self._float and not integral else stored

    def _expression(self, instruction: Instruction) -> str:
        name = self._names
        match instruction:
            case MatMul(x, weight):
                return f"{name[x]} @ {name[weight]}.T"
            case Add(a, b) | Subtract(a, b) | Multiply(a, b) | Maximum(a, b) | Minimum(a, b):
                return _BINARY[type(instruction)].format(name[a], name[b])
            case ShiftLeft(x, amount):
                return self._shift_left(name[x], name[amount])
            case ShiftRight(x, amount, rounding):
                return self._shift_right(name[x], name[amount], rounding)
            case Select(x, a, b):
                return f"torch.where({name[x]} >= 0, {name[a]}, {name[b]})"
            case Reshape() | Permute() | Take() | Concatenate():
                return self._moved(instruction)
            case Lookup(x, table, base):
                at = f"{name[x]}.long()" if self._float else name[x]
                entries = name[table]
                found = f"{entries}[{at} - {base}]" if base else f"{entries}[{at}]"
                return f"{found}.double()" if self._float else found
            case CountReached(x, thresholds, trailing):
                channels = f", {-1 - trailing}" if self._rank(thresholds) == 2 else ""
                counts = f"_count_reached({name[x]}, {name[thresholds]}{channels})"
                return f"{counts}.double()" if self._float else counts
            case BlockMaximum(x, size):
                return f"_block_maximum({name[x]}, {size})"
            case _:
                raise VerifyError(f"no integer instruction: {instruction}")

    def _moved(self, instruction: Reshape | Permute | Take | Concatenate) -> str:
        name = self._names
        match instruction:
            case Reshape(x, shape):
                sizes = ", ".join(map(str, shape))
                return f"{name[x]}.reshape(-1, {sizes})"
            case Permute(x, axes):
                order = ", ".join(str(axis + 1) for axis in axes)
                return f"{name[x]}.permute(0, {order})"
            case Take(x, axis, index, fill):
                return self._take(name[x], axis, index, fill)
            case Concatenate(sources, axis):
                return f"torch.cat([{', '.join(name[s] for s in sources)}], {axis + 1})"

    def _take(self, x: str, axis: int, index: Sequence[int], fill: int) -> str:
        """A slice where the indices are one, else the indices themselves."""
        colons = ":, " * (axis + 1)
        steps = {b - a for a, b in pairwise(index)}
        if len(index) == 1 and index[0] >= 0:
            return f"{x}[{colons}{index[0]} : {index[0] + 1}]"
        if len(steps) == 1 and min(index) >= 0 and min(steps) > 0:
            (step,) = steps
            by = f" : {step}" if step > 1 else ""
            return f"{x}[{colons}{index[0]} : {index[-1] + 1}{by}]"
        taken = f"{x}[{colons}{self._store('index', np.maximum(np.array(index), 0))}]"
        filled = np.flatnonzero(np.array(index) < 0)
        if not len(filled):
            return taken
        return f"{taken}.index_fill({axis + 1}, {self._store('filled', filled)}, {fill})"

    def _shift_left(self, x: str, amount: str) -> str:
        if not self._float:
            return f"{x} << {amount}"
        return f"{x} * 2.0**{amount}" if amount.isdigit() else f"{x} * _powers({amount})"

    def _shift_right(self, x: str, amount: str, rounding: Rounding) -> str:
        if not amount.isdigit():
            function = "_shift_right_float" if self._float else "_shift_right"
            return f'{function}({x}, {amount}, "{rounding}")'
        half = (1 << int(amount)) >> 1
        if self._float:
            if rounding is Rounding.HALF_EVEN:
                return f"({x} * 2.0**-{amount}).round()"
            sum = f"({x} + {half})" if rounding is Rounding.HALF_UP else x
            return f"({sum} * 2.0**-{amount}).floor()"
        if rounding is Rounding.HALF_EVEN:
            return f"({x} + {half - 1} + (({x} >> {amount}) & 1)) >> {amount}"
        return f"({x} + {half}) >> {amount}" if rounding is Rounding.HALF_UP else f"{x} >> {amount}"

    def _rank(self, index: int) -> int:
        return len(self._program.steps[index - len(self._program.inputs)].shape)


def _merged(lines: Sequence[str]) -> list[str]:
    """Returns the lines with a lower bound and the upper bound after it as one clamp."""
    merged: list[str] = []
    for line in lines:
        low = _LOW.fullmatch(merged[-1]) if merged else None
        high = _HIGH.fullmatch(line)
        if low and high and low["to"] == high["to"] == high["x"]:
            merged[-1] = f"{low['to']} = {low['x']}.clamp({low['low']}, {high['high']})"
        else:
            merged.append(line)
    return merged


def _roles(program: Program) -> dict[int, str]:
    """What every constant is for, which is what it is called."""
    found: dict[int, str] = {}
    names: dict[type[Instruction], str] = {
        MatMul: "weight",
        Add: "offset",
        Subtract: "offset",
        Multiply: "factor",
        Maximum: "low",
        Minimum: "high",
        ShiftLeft: "shift",
        ShiftRight: "shift",
        Lookup: "table",
        CountReached: "thresholds",
    }
    for step in program.steps:
        for source in sources_of(step.instruction)[1:]:
            found.setdefault(source, names.get(type(step.instruction), "constant"))
    return found
