"""Adder graphs: what they compute, how far numbers reach, what is shared; numbers in digits."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chop.formats.rounding import Ints
from chop.ops.adder_graph import AdderGraph, signed_digits, solve
from chop.ops.adders import adders_of, digit_counts, is_solvable


@st.composite
def _matrices(draw: st.DrawFn) -> Ints:
    outputs, inputs, bits = (draw(st.integers(1, most)) for most in (5, 6, 9))
    seed = draw(st.integers(0, 1 << 30))
    values = np.random.default_rng(seed).integers(-(1 << bits), 1 << bits, (outputs, inputs))
    kept = np.random.default_rng(seed + 1).random(values.shape) < draw(st.sampled_from((0.3, 1.0)))
    found: Ints = np.where(kept, values, 0)
    return found


def _used(graph: AdderGraph) -> set[int]:
    operands = {node for n in graph.nodes for node in (n.a, n.b)}
    return operands | {s.node for s in graph.outputs if s.node is not None}


@settings(max_examples=80, deadline=None)
@given(_matrices(), st.sampled_from(((-8, 7), (0, 15), (-1, 1), (3, 9))))
def test_graph_is_the_matrix_and_reaches_what_it_says(
    matrix: Ints, limits: tuple[int, int]
) -> None:
    graph = solve(matrix, *limits)
    x = np.random.default_rng(0).integers(limits[0], limits[1] + 1, (64, matrix.shape[1]))
    assert np.array_equal(graph.evaluate(x), x @ matrix.T)
    for k, n in enumerate(graph.nodes, graph.inputs):
        # The ends of a node's range: every input at that end that its coefficient asks for.
        alone = AdderGraph(graph.inputs, *limits, graph.nodes[: k - graph.inputs + 1], ())
        row = _value(alone, k, np.eye(graph.inputs, dtype=np.int64))
        ends = (np.where(row > 0, high, low) for low, high in (limits, limits[::-1]))
        high, low = (int(end @ row) for end in ends)
        assert (n.low, n.high) == (low, high)
        assert n.depth == 1 + max(graph.depth_of(n.a), graph.depth_of(n.b))
        assert max(n.a, n.b) < k
    assert _used(graph) >= set(range(graph.inputs, graph.inputs + len(graph.nodes)))


def _value(graph: AdderGraph, node: int, x: Ints) -> Ints:
    values = [x[:, i] for i in range(graph.inputs)]
    for n in graph.nodes:
        values.append(values[n.a] + (values[n.b] << n.shift) * (-1 if n.negative else 1))
    return values[node]


def test_digits_are_canonical() -> None:
    values = np.arange(-300, 300)
    digits = signed_digits(values)
    assert np.array_equal(sum(d << k for k, d in enumerate(digits)), values)
    assert not (digits[1:] * digits[:-1]).any()


def test_what_occurs_twice_is_added_once() -> None:
    # 5 x0 + 10 x1 has the pair x0 + 2 x1 twice.
    graph = solve(np.array([[5, 10]]), 0, 15)
    assert len(graph.nodes) == 2
    rng = np.random.default_rng(3)
    matrix = rng.integers(-128, 128, (8, 16))
    plain = int(np.count_nonzero(signed_digits(matrix))) - len(matrix)
    assert len(solve(matrix, 0, 255).nodes) < 0.7 * plain


def test_zeros_and_powers_of_two_cost_nothing() -> None:
    graph = solve(np.array([[0, 0, 0], [0, 4, 0], [0, 0, -8]]), -8, 7)
    assert (graph.nodes, graph.depth, graph.cost) == ((), 0, 0)
    assert [s.node for s in graph.outputs] == [None, 1, 2]


def test_the_same_matrix_gives_the_same_graph() -> None:
    matrix = np.random.default_rng(1).integers(-32, 32, (6, 9))
    assert solve(matrix, 0, 255).nodes == solve(matrix.copy(), 0, 255).nodes


@pytest.mark.parametrize("digits", [1, 2, 4, 8])
@pytest.mark.parametrize("signed", [True, False])
def test_sums_of_digits_stay_in_their_widths(digits: int, signed: bool) -> None:
    """Every x of two inputs: digit by digit as chop_adder_shell does, in `sum_width` bits."""
    matrix, start = np.array([[93, -17], [-128, 127], [0, -5]]), np.array([-700, 31, 5])
    limits = (-128, 127) if signed else (0, 255)
    adders = adders_of(matrix, start, (8, signed), limits, digits, 18)
    graph, width = adders.graph, adders.digit_width
    ends = (limits[0], limits[0] + 1, -1 if signed else 1, 0, limits[1] - 1, limits[1])
    x = np.array(list(itertools.product(ends, repeat=2)))
    rest = x + (128 if signed and digits > 1 else 0)
    total = np.tile(np.array(adders.start), (len(x), 1))
    done = np.zeros_like(total)
    for digit in range(digits):
        now = rest if digits == 1 else rest >> (digit * width) & ((1 << width) - 1)
        total = (total >> width if digit else total) + graph.evaluate(now)
        half = 1 << (adders.sum_width - 1)
        assert total.min() >= -half
        assert total.max() < half
        done |= (total & ((1 << width) - 1)) << (digit * width)
    low_bits = (digits - 1) * width
    y = (total << low_bits) | (done & ((1 << low_bits) - 1))
    assert np.array_equal(y, x @ matrix.T + start)


@settings(max_examples=60, deadline=None)
@given(_matrices(), st.sampled_from((1, 2, 4)), st.booleans())
def test_every_bit_that_is_kept_is_read(matrix: Ints, digits: int, signed: bool) -> None:
    """Verilator says so of a signal that has more: of a register, too, when it is late."""
    limits = (-8, 7) if signed else (0, 15)
    start = np.zeros(len(matrix), np.int64)
    out_width = int(np.abs(matrix).sum(axis=1).max() * 16).bit_length() + 1
    adders = adders_of(matrix, start, (4, signed), limits, digits, out_width)
    given = adders.parameters()
    kept = {n["name"]: n["width"] for n in given["numbers"]}
    reads = [(t["name"], given["term_width"] - t["shift"]) for t in given["given"]]
    for stage in given["levels"]:
        for n in stage["nodes"]:
            reads += [(n["a"], n["width"]), (n["b"], n["width"] - n["shift"])]
        reads += [(r["source"].partition("[")[0], r["width"]) for r in stage["registers"]]
        kept |= {n["name"]: n["width"] for n in (*stage["nodes"], *stage["registers"])}
    for name, width in kept.items():
        assert 1 <= width <= max(1, *(bits for reader, bits in reads if reader == name))


def test_sums_that_are_always_zero_have_a_bit() -> None:
    matrix = np.array([[3, 5], [7, -5]])
    adders = adders_of(matrix, np.zeros(2, np.int64), (1, False), (0, 0), 1, 6)
    stages = adders.parameters()["levels"]
    assert {n["width"] for stage in stages for n in (*stage["nodes"], *stage["registers"])} == {1}


def test_numbers_are_cut_into_digits_of_equal_need() -> None:
    assert digit_counts(8) == (1, 2, 4, 8)
    assert digit_counts(6) == (1, 2)
    assert digit_counts(1) == (1,)


def test_large_matrices_are_left_to_multipliers() -> None:
    rng = np.random.default_rng(0)
    assert is_solvable(rng.integers(-128, 128, (64, 64)))
    assert not is_solvable(rng.integers(-128, 128, (120, 400)))
