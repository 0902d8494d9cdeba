"""Adder graphs: a constant matrix times a vector by shared additions and shifts.

The matrix is written in canonical signed digits, every entry as few +-2^k as there can be. A sum of
two terms, x_a +- 2^s x_b, that occurs in several places is computed once; the pair that saves most
is taken again and again until none occurs twice, and what is left of each output is summed as a
tree. This is the second stage of da4ml (C. Sun et al., "da4ml: Distributed Arithmetic for Real-time
Neural Networks on FPGAs", arXiv:2507.04535), which goes back to R. Hartley, "Subexpression sharing
in filters using canonic signed digit multipliers", IEEE TCAS-II 43(10), 1996.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from chop.formats.rounding import Ints

__all__ = ["AdderGraph", "Node", "Sum", "signed_digits", "solve"]

# Pairs of terms that are counted at a time: outputs are shared among in blocks of so many.
_MOST_PAIRS = 3_000_000
# Shifts of terms stay below.
_PLACES = 64


@dataclass(frozen=True, slots=True)
class Node:
    """a + 2^shift b, or a - 2^shift b: of the nodes a and b, the inputs being the first of all.

    `low` and `high` are the integers that it can reach, `depth` the additions in a row to it,
    `cost` the bits that its adder has.
    """

    a: int
    b: int
    shift: int
    negative: bool
    low: int
    high: int
    depth: int
    cost: int


@dataclass(frozen=True, slots=True)
class Sum:
    """What an output is: +-2^shift of a node, or 0 where `node` is None."""

    node: int | None
    shift: int
    negative: bool


@dataclass(frozen=True, slots=True, eq=False)
class AdderGraph:
    """`inputs` numbers in low..high, the nodes in an order of computation, the outputs."""

    inputs: int
    low: int
    high: int
    nodes: tuple[Node, ...]
    outputs: tuple[Sum, ...]

    @property
    def depth(self) -> int:
        """The additions in a row from an input to an output."""
        return max((self.depth_of(s.node) for s in self.outputs if s.node is not None), default=0)

    @property
    def cost(self) -> int:
        """The bits of all adders."""
        return sum(node.cost for node in self.nodes)

    def depth_of(self, node: int) -> int:
        """Returns the additions in a row to a node, 0 of an input."""
        return 0 if node < self.inputs else self.nodes[node - self.inputs].depth

    def range_of(self, node: int) -> tuple[int, int]:
        """Returns the integers that a node can reach."""
        if node < self.inputs:
            return self.low, self.high
        return self.nodes[node - self.inputs].low, self.nodes[node - self.inputs].high

    def ranged(self, low: int, high: int) -> AdderGraph:
        """Returns the same graph for integers in low..high."""
        rows = list(np.eye(self.inputs, dtype=np.int64))
        nodes = []
        for n in self.nodes:
            rows.append(_row(rows[n.a], rows[n.b], n.shift, n.negative))
            reached = _range(rows[-1], low, high)
            cost = _adder_bits(_range(rows[n.a], low, high), n.shift, n.negative, *reached)
            nodes.append(Node(n.a, n.b, n.shift, n.negative, *reached, n.depth, cost))
        return AdderGraph(self.inputs, low, high, tuple(nodes), self.outputs)

    def evaluate(self, x: Ints) -> Ints:
        """Returns the outputs [N, outputs] of integers [N, inputs], node by node."""
        values = [x[:, i] for i in range(self.inputs)]
        for n in self.nodes:
            term = values[n.b] << n.shift
            values.append(values[n.a] - term if n.negative else values[n.a] + term)
        zero = np.zeros(len(x), np.int64)
        found = [
            zero if s.node is None else (values[s.node] << s.shift) * (-1 if s.negative else 1)
            for s in self.outputs
        ]
        return np.stack(found, axis=1)


def signed_digits(values: Ints) -> Ints:
    """Returns the canonical signed digits [places, *shape], lowest first: values are their sum.

    No two neighbours are both nonzero, and no form has fewer nonzero digits.
    """
    digits, rest = [], values.astype(np.int64).copy()
    while rest.any():
        # An odd number ends in 1 or, where the next bit is set as well, in -1.
        digit = (rest & 1) * (1 - (rest & 2))
        digits.append(digit)
        rest = (rest - digit) >> 1
    return np.stack(digits) if digits else np.zeros((1, *values.shape), np.int64)


def solve(matrix: Ints, low: int, high: int) -> AdderGraph:
    """Returns a graph of y = matrix @ x, [outputs, inputs], for integers x in low..high.

    The same matrix gives the same graph. Its nodes are all used.
    """
    return _Solver(matrix, low, high).graph()


# A term of a sum: the node, how far it is shifted to the left; its sign stands beside.
_Term = tuple[int, int]
# A pair of terms: the nodes a and b, b's shift less a's, whether their signs differ.
_Pair = tuple[int, int, int, bool]


class _Solver:
    def __init__(self, matrix: Ints, low: int, high: int) -> None:
        outputs, self._inputs = matrix.shape
        self._low, self._high = low, high
        self._nodes: list[Node] = []
        self._known: dict[tuple[int, int, int, bool], int] = {}
        # What every node is in terms of the inputs, for its exact range.
        self._rows: list[Ints] = list(np.eye(self._inputs, dtype=np.int64))
        self._sums: list[dict[_Term, int]] = [{} for _ in range(outputs)]
        # Where a node occurs: output -> {shift: sign}.
        self._places: list[dict[int, dict[int, int]]] = [{} for _ in range(self._inputs)]
        digits = signed_digits(matrix)
        for place, output, i in zip(*(axis.tolist() for axis in digits.nonzero()), strict=True):
            self._put(output, (i, place), int(digits[place, output, i]))

    def graph(self) -> AdderGraph:
        for block in self._blocks():
            self._share(block)
        outputs = tuple(self._finish(dict(terms)) for terms in self._sums)
        return AdderGraph(self._inputs, self._low, self._high, tuple(self._nodes), outputs)

    def _blocks(self) -> Iterator[list[int]]:
        block: list[int] = []
        pairs = 0
        for output, terms in enumerate(self._sums):
            own = len(terms) * (len(terms) - 1) // 2
            if block and pairs + own > _MOST_PAIRS:
                yield block
                block, pairs = [], 0
            block.append(output)
            pairs += own
        if block:
            yield block

    def _put(self, output: int, term: _Term, sign: int) -> None:
        self._sums[output][term] = sign
        self._places[term[0]].setdefault(output, {})[term[1]] = sign

    def _drop(self, output: int, term: _Term) -> None:
        del self._sums[output][term]
        shifts = self._places[term[0]][output]
        del shifts[term[1]]
        if not shifts:
            del self._places[term[0]][output]

    # ---- Sharing ----

    def _share(self, block: Sequence[int]) -> None:
        """Replaces pairs, the most saving first, until none of the block's occurs twice.

        How often a pair occurs only falls while others are replaced, so that an old count is an
        upper bound: the first of the queue is counted anew, and taken if it still is the first.
        """
        allowed = set(block)
        queue = [self._entry(pair, count) for pair, count in self._pairs(block)]
        heapq.heapify(queue)
        while queue:
            *_, count, pair = heapq.heappop(queue)
            found = list(self._occurrences(pair, allowed))
            if len(found) < 2:
                continue
            if len(found) < count:
                heapq.heappush(queue, self._entry(pair, len(found)))
                continue
            for entry in self._replace(pair, found):
                heapq.heappush(queue, entry)

    def _entry(self, pair: _Pair, count: int) -> tuple[int, int, _Pair, int, _Pair]:
        """Returns a place in the queue: most bits saved, then fewest additions in a row."""
        a, b, shift, negative = pair
        node = self._node(a, b, shift, negative)
        return -(count - 1) * node.cost, node.depth, pair, count, pair

    def _pairs(self, block: Sequence[int]) -> Iterator[tuple[_Pair, int]]:
        """Yields the pairs that occur at least twice, with an upper bound of how often."""
        keys = []
        for output in block:
            terms = sorted(self._sums[output].items())
            nodes = np.array([node for (node, _), _ in terms], np.int64)
            shifts = np.array([shift for (_, shift), _ in terms], np.int64)
            signs = np.array([sign for _, sign in terms], np.int64)
            i, j = np.triu_indices(len(terms), 1)
            far = (shifts[j] - shifts[i] + _PLACES) * 2 + (signs[i] != signs[j])
            keys.append((nodes[i] * len(self._places) + nodes[j]) * (4 * _PLACES) + far)
        found, counts = np.unique(np.concatenate(keys), return_counts=True)
        for key, count in zip(found[counts > 1].tolist(), counts[counts > 1].tolist(), strict=True):
            nodes_, far = divmod(key, 4 * _PLACES)
            a, b = divmod(nodes_, len(self._places))
            yield (a, b, far // 2 - _PLACES, bool(far % 2)), count

    def _occurrences(self, pair: _Pair, allowed: set[int]) -> Iterator[tuple[int, int]]:
        """Yields the places of a pair, none sharing a term: the output, and a's shift."""
        a, b, far, negative = pair
        ours, theirs = self._places[a], self._places[b]
        for output in sorted(ours if len(ours) < len(theirs) else theirs):
            if output not in ours or output not in theirs or output not in allowed:
                continue
            taken: set[int] = set()
            second = theirs[output]
            for shift in sorted(ours[output]):
                other = second.get(shift + far)
                if other is None or (other != ours[output][shift]) != negative:
                    continue
                if a == b and (shift in taken or shift + far in taken):
                    continue
                taken |= {shift, shift + far}
                yield output, shift

    def _replace(
        self, pair: _Pair, found: Sequence[tuple[int, int]]
    ) -> list[tuple[int, int, _Pair, int, _Pair]]:
        """Puts a node in all places of a pair; returns the new pairs' entries of the queue."""
        a, b, far, negative = pair
        made, flipped = self._add(a, b, far, negative)
        for output, shift in found:
            sign = self._sums[output][a, shift]
            self._drop(output, (a, shift))
            self._drop(output, (b, shift + far))
            self._put(output, (made, shift + min(far, 0)), -sign if flipped else sign)
        counts: dict[_Pair, int] = {}
        for output in sorted({output for output, _ in found}):
            own = self._places[made][output].items()
            for (node, place), sign in self._sums[output].items():
                for shift, mine in own:
                    if node == made and place <= shift:
                        continue
                    # Older nodes come first.
                    new = (node, made, shift - place, sign != mine)
                    if node == made:
                        new = (made, made, place - shift, sign != mine)
                    counts[new] = counts.get(new, 0) + 1
        return [self._entry(new, count) for new, count in sorted(counts.items()) if count > 1]

    # ---- Nodes ----

    def _node(self, a: int, b: int, far: int, negative: bool) -> Node:
        """Returns the node of a +- 2^far b; the one that is shifted less comes first."""
        if far < 0:
            a, b, far = b, a, -far
        row = _row(self._rows[a], self._rows[b], far, negative)
        low, high = self._range(row)
        depth = 1 + max(self._depth(a), self._depth(b))
        cost = _adder_bits(self._range(self._rows[a]), far, negative, low, high)
        return Node(a, b, far, negative, low, high, depth, cost)

    def _add(self, a: int, b: int, far: int, negative: bool) -> tuple[int, bool]:
        """Returns the node of a +- 2^far b over 2^min(far, 0), and whether it has the other sign.

        Of the two numbers the one that is shifted less has the sign +.
        """
        node = self._node(a, b, far, negative)
        key = (node.a, node.b, node.shift, negative)
        if key not in self._known:
            self._known[key] = self._inputs + len(self._nodes)
            self._rows.append(_row(self._rows[node.a], self._rows[node.b], node.shift, negative))
            self._nodes.append(node)
            self._places.append({})
        return self._known[key], negative and far < 0

    def _range(self, row: Ints) -> tuple[int, int]:
        return _range(row, self._low, self._high)

    def _depth(self, node: int) -> int:
        return 0 if node < self._inputs else self._nodes[node - self._inputs].depth

    def _finish(self, terms: dict[_Term, int]) -> Sum:
        """Returns the sum of the terms that are left: the two least deep are joined first."""
        queue = [(self._depth(node), shift, node, sign) for (node, shift), sign in terms.items()]
        heapq.heapify(queue)
        while len(queue) > 1:
            _, shift, a, sign = heapq.heappop(queue)
            _, other, b, other_sign = heapq.heappop(queue)
            made, flipped = self._add(a, b, other - shift, sign != other_sign)
            joined = (self._depth(made), min(shift, other), made, -sign if flipped else sign)
            heapq.heappush(queue, joined)
        if not queue:
            return Sum(None, 0, False)
        _, shift, node, sign = queue[0]
        return Sum(node, shift, sign < 0)


def _row(a: Ints, b: Ints, shift: int, negative: bool) -> Ints:
    return a - (b << shift) if negative else a + (b << shift)


def _range(row: Ints, low: int, high: int) -> tuple[int, int]:
    """Returns what a sum of inputs, each in low..high, can reach."""
    up, down = int(np.maximum(row, 0).sum()), int(np.minimum(row, 0).sum())
    return up * low + down * high, up * high + down * low


def _adder_bits(first: tuple[int, int], shift: int, negative: bool, low: int, high: int) -> int:
    """Returns the bits in which two numbers meet: those below the shift are the first one's.

    None where the first ends below and is never negative: then one is put beside the other.
    """
    if not negative and first[0] >= 0 and first[1].bit_length() <= shift:
        return 0
    signed = low < 0
    return max((high if high > -low else -low - 1).bit_length() + signed - shift, 1)
