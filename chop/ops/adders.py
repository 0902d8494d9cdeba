"""Products with constants as one graph of shared additions: the hardware without multipliers.

A unit takes whole vectors and gives all outputs. Numbers go through the graph at once, or digit by
digit, the lowest first: narrower additions, as many cycles as digits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from chop.formats.fixed import covering
from chop.formats.rounding import Ints
from chop.ir.meta import Cost
from chop.ops.accumulate import LEVELS_PER_STAGE, ram_luts
from chop.ops.adder_graph import AdderGraph, signed_digits, solve

__all__ = ["Adders", "adders_of", "digit_counts", "is_solvable"]

# More terms than these take longer to share than anyone wants to wait.
_MOST_TERMS = 12_000


@dataclass(frozen=True, slots=True, eq=False)
class Adders:
    """A graph and how numbers come to it.

    `start` [outputs] is what each sum begins with; `width` and `signed` those of a number,
    `out_width` the bits of a result, all of it in the order of the streams.
    """

    graph: AdderGraph
    start: tuple[int, ...]
    width: int
    signed: bool
    digits: int
    digit_width: int
    out_width: int

    @property
    def stages(self) -> int:
        """The registers from a digit to its terms."""
        return -(-self.graph.depth // LEVELS_PER_STAGE)

    @property
    def latency(self) -> int:
        """The cycles from the step of a vector's last digit to its result."""
        return self.stages + 2

    @property
    def term_width(self) -> int:
        """The bits of a term."""
        width = max((_signed_width(*self._term(o)) for o in range(self._outputs)), default=1)
        return min(width, self.out_width) if self.digits == 1 else width

    @property
    def sum_width(self) -> int:
        """The bits of the sums of terms, while digits come."""
        if self.digits == 1:
            return self.out_width
        width = self.term_width
        for output, start in enumerate(self.start):
            low, high = self._term(output)
            if self.graph.outputs[output].negative:
                low, high = -high, -low
            least = most = start
            width = max(width, _signed_width(start, start))
            for digit in range(self.digits):
                down = self.digit_width if digit else 0
                least, most = (least >> down) + low, (most >> down) + high
                width = max(width, _signed_width(least, most))
        return width

    @property
    def _outputs(self) -> int:
        return len(self.start)

    def _uses(self) -> _Uses:
        return _Uses(self.graph, self.stages, self.digit_width, self.term_width)

    def _term(self, output: int) -> tuple[int, int]:
        found = self.graph.outputs[output]
        if found.node is None:
            return 0, 0
        low, high = self.graph.range_of(found.node)
        return low << found.shift, high << found.shift

    def parameters(self) -> dict[str, Any]:
        """Returns what the template of the module is filled with."""
        graph, stages = self.graph, self.stages
        uses = self._uses()
        words = [start & ((1 << self.sum_width) - 1) for start in self.start]
        numbers = [
            {
                "name": uses.name(i, 0),
                "place": i * self.digit_width,
                **uses.bits(i),
            }
            for i in range(graph.inputs)
            if uses.last[i] >= 0
        ]
        given = [
            {
                "place": o * self.term_width,
                "name": f"{self.term_width}'d0" if s.node is None else uses.name(s.node, stages),
                "shift": s.shift,
            }
            for o, s in enumerate(graph.outputs)
        ]
        start = sum(word << (o * self.sum_width) for o, word in enumerate(words))
        negative = sum(s.negative << o for o, s in enumerate(graph.outputs))
        return {
            "inputs": graph.inputs,
            "outputs": self._outputs,
            "adders": len(graph.nodes),
            "in_width": self.width,
            "in_signed": int(self.signed),
            "digits": self.digits,
            "digit_width": self.digit_width,
            "term_width": self.term_width,
            "sum_width": self.sum_width,
            "out_width": self.out_width,
            "stages": stages,
            "negative": f"{negative:x}",
            "start": f"{start:x}",
            "numbers": numbers,
            "some_unused": sum(n["width"] for n in numbers) < graph.inputs * self.digit_width,
            "levels": [uses.stage(k) for k in range(stages)],
            "given": given,
        }

    def cost(self, in_depth: int, out_depth: int) -> Cost:
        """Counts 4-input LUTs, as Yosys does for ECP5: carry chains go by two bits."""
        graph, uses = self.graph, self._uses()
        x_bits, sums = graph.inputs * self.width, self._outputs * self.sum_width
        results = self._outputs * self.out_width
        adders = sum(n.cost + n.cost % 2 for n in graph.nodes)
        # Of every digit's bit one of `digits` is chosen; two of four by a LUT each.
        used = sum(uses.last[i] >= 0 for i in range(graph.inputs))
        chosen = used * self.digit_width * (self.digits - 1) * 2 // 3
        starts = sum(start != 0 for start in self.start) * self.sum_width
        luts = (
            40
            + adders
            + chosen
            + (starts if self.digits == 1 else 2 * sums)
            + (ram_luts(out_depth, results) if out_depth > 1 else 0)
            + (ram_luts(in_depth, x_bits) if in_depth > 1 else 0)
        )
        ffs = (
            20
            + x_bits * (2 if in_depth == 1 else 1)
            + 2 * self.stages
            + uses.registered_bits
            + (0 if self.digits == 1 else sums + (self.digits - 1) * self.digit_width)
            + (results if out_depth == 1 else 0)
        )
        return Cost(luts, ffs)


def is_solvable(matrix: Ints) -> bool:
    """Returns whether a graph of the matrix is found in seconds."""
    return int(np.count_nonzero(signed_digits(matrix))) <= _MOST_TERMS


def digit_counts(width: int) -> tuple[int, ...]:
    """Returns into how many digits numbers of that many bits may be cut: no digit without need."""
    return tuple(n for n in (1, 2, 4, 8, 16) if n <= width and -(-width // -(-width // n)) == n)


def adders_of(
    matrix: Ints,
    start: Ints,
    number: tuple[int, bool],
    limits: tuple[int, int],
    digits: int,
    out_width: int,
) -> Adders:
    """Returns the adders of matrix @ x + start, [outputs, inputs].

    `number` is the width of x, and whether it is signed; `limits` are the integers it reaches.
    """
    width, signed = number
    return _adders(
        matrix.astype(np.int64).tobytes(), matrix.shape[1], tuple(start.tolist()), width, signed,
        limits, digits, out_width,
    )  # fmt: skip


@lru_cache(maxsize=32)
def _solved(matrix: bytes, inputs: int, low: int, high: int) -> AdderGraph:
    return solve(np.frombuffer(matrix, np.int64).reshape(-1, inputs), low, high)


# Asked for each of many foldings of a layer.
@lru_cache(maxsize=64)
def _adders(
    matrix: bytes,
    inputs: int,
    start: tuple[int, ...],
    width: int,
    signed: bool,
    limits: tuple[int, int],
    digits: int,
    out_width: int,
) -> Adders:
    whole = _solved(matrix, inputs, *limits)
    if digits == 1:
        return Adders(whole, start, width, signed, 1, width, out_width)
    digit_width = -(-width // digits)
    rows = np.frombuffer(matrix, np.int64).reshape(-1, inputs).sum(axis=1).tolist()
    # Signed numbers come with their sign inverted: 2^(width-1) too large.
    more = 1 << (width - 1) if signed else 0
    own = tuple(s - more * row for s, row in zip(start, rows, strict=True))
    graph = whole.ranged(0, (1 << digit_width) - 1)
    return Adders(graph, own, width, signed, digits, digit_width, out_width)


class _Uses:
    """How long every node is needed, at time t it has passed t registers; and which of its bits."""

    def __init__(self, graph: AdderGraph, stages: int, input_width: int, term_width: int) -> None:
        self._graph, self._stages, self._input_width = graph, stages, input_width
        self.last = [-1] * (graph.inputs + len(graph.nodes))
        for n in graph.nodes:
            stage = _stage(n.depth)
            for operand in (n.a, n.b):
                self.last[operand] = max(self.last[operand], stage)
        for s in graph.outputs:
            if s.node is not None:
                self.last[s.node] = stages
        # Of every node, at every time, as many low bits as any reader then has.
        self._read = [[1] * (stages + 1) for _ in self.last]
        for s in graph.outputs:
            if s.node is not None:
                self._reads(s.node, stages, term_width - s.shift)
        for i, n in reversed(tuple(enumerate(graph.nodes, graph.inputs))):
            width, time = self.bits(i)["width"], _stage(n.depth)
            self._reads(n.a, time, width)
            self._reads(n.b, time, width - n.shift)

    def _reads(self, node: int, time: int, bits: int) -> None:
        self._read[node][time] = max(self._read[node][time], bits)

    def name(self, node: int, time: int) -> str:
        """Returns the name of a node behind so many registers of the pipeline."""
        inputs = self._graph.inputs
        word = f"x{node}" if node < inputs else f"n{node - inputs}"
        born = 0 if node < inputs else _stage(self._graph.depth_of(node))
        return word if time == born else f"{word}_{time}"

    def bits(self, node: int, time: int = 0) -> dict[str, Any]:
        """Returns the width of a node from that time on, and whether it has a sign."""
        low, high = self._graph.range_of(node)
        width = high.bit_length() if low >= 0 else _signed_width(low, high)
        if node < self._graph.inputs:
            width = self._input_width
        return {"width": max(min(width, max(self._read[node][time:])), 1), "signed": low < 0}

    def stage(self, k: int) -> Mapping[str, Any]:
        """Returns the nodes that are computed in a stage, and the registers at its end."""
        graph = self._graph
        nodes = [
            {
                "name": self.name(i, k),
                "a": self.name(n.a, k),
                "b": self.name(n.b, k),
                "shift": n.shift,
                "negative": n.negative,
                **self.bits(i),
            }
            for i, n in enumerate(graph.nodes, graph.inputs)
            if _stage(n.depth) == k
        ]
        registers = [self._register(i, k) for i in self._registered(k)]
        return {"nodes": nodes, "registers": registers}

    def _register(self, node: int, k: int) -> dict[str, Any]:
        """Returns the register of a node at the end of stage k: of the bits that are read later."""
        bits, source = self.bits(node, k + 1), self.name(node, k)
        if bits["width"] < self.bits(node, k)["width"]:
            source = f"{source}[{bits['width'] - 1}:0]"
        return {"name": self.name(node, k + 1), "source": source, **bits}

    @property
    def registered_bits(self) -> int:
        """The bits of all registers."""
        times = range(self._stages)
        return sum(self.bits(i, k + 1)["width"] for k in times for i in self._registered(k))

    def _registered(self, k: int) -> Iterator[int]:
        for i, last in enumerate(self.last):
            depth = self._graph.depth_of(i)
            if last > k and (depth == 0 or _stage(depth) <= k):
                yield i


def _stage(depth: int) -> int:
    """Returns between which registers a node of that depth is computed."""
    return (depth - 1) // LEVELS_PER_STAGE if depth else 0


def _signed_width(low: int, high: int) -> int:
    return covering(min(low, -1), high, 0).width
