"""Integer programs: the same integers in numpy, in PyTorch and as source, inside their bounds."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st

from chop.errors import DataError, FormatError, VerifyError
from chop.formats.base import Format
from chop.formats.binary import Binary
from chop.formats.fixed import Fixed
from chop.formats.log import Log
from chop.formats.minifloat_ieee import MinifloatIeee
from chop.formats.mxint import MxInt
from chop.formats.requantise import Kind, Source, requantiser_of
from chop.formats.rounding import Ints, Rounding
from chop.formats.scale import Scale
from chop.formats.scaled import Scaled
from chop.formats.ternary import Ternary
from chop.integer.modules import Carrier, IntegerInput, IntegerNode
from chop.integer.program import WHITELIST, Program, Step
from chop.integer.record import Value, record
from chop.integer.requantise import requantised
from chop.integer.run import run
from chop.integer.source import HELPERS, source_of

SAMPLES = 7
Define = Callable[[Sequence[Value]], Value]


def run_source(program: Program, carrier: Carrier, inputs: Sequence[Ints]) -> Ints:
    """Runs the printed lines in a namespace that has torch and the helpers, and no chop."""
    stored: dict[str, torch.Tensor] = {}

    def store(role: str, values: Ints) -> str:
        name = f"{role}_{len(stored)}"
        stored[name] = torch.from_numpy(np.array(values))
        return f'stored["{name}"]'

    names = [f"x{i}" for i in range(len(inputs))]
    numbers = itertools.count()
    lines = source_of(program, carrier, names, "y", store, lambda name: f"{name}{next(numbers)}")
    space: dict[str, Any] = {"torch": torch, "Tensor": torch.Tensor, "stored": stored}
    exec("\n".join([*HELPERS.values()]), space)
    space |= {n: torch.from_numpy(np.array(x)) for n, x in zip(names, inputs, strict=True)}
    exec("\n".join(lines), space)
    assert space["y"].dtype == torch.int64
    result: Ints = space["y"].numpy()
    return result


def worlds(program: Program, inputs: Sequence[Ints]) -> dict[str, Ints]:
    """Returns the result in every world that can run the program."""
    found = {"numpy": run(program, inputs)}
    for carrier in Carrier:
        if carrier is Carrier.INT64 or not program.float64_obstacle():
            tensors = [torch.from_numpy(np.array(x)) for x in inputs]
            result = IntegerNode(program, carrier)(*tensors)
            assert result.dtype == torch.int64
            found[carrier] = result.numpy()
            found[f"{carrier} source"] = run_source(program, carrier, inputs)
    return found


def check(
    define: Define, shapes: Sequence[tuple[int, ...]], low: int, high: int, seed: int
) -> Ints:
    """Runs a program on random integers, ends included; returns numpy's result."""
    program = record(define, [(shape, low, high) for shape in shapes])
    rng = np.random.default_rng(seed)
    inputs = [rng.integers(low, high, (SAMPLES, *shape), np.int64, True) for shape in shapes]
    for x in inputs:
        x[0], x[-1] = low, high
    found = worlds(program, inputs)
    for world, result in found.items():
        assert np.array_equal(result, found["numpy"]), world
    assert found["numpy"].shape[0] == SAMPLES
    for index, step in enumerate(program.steps, start=len(inputs)):
        part = Program(program.inputs, program.steps[: index - len(inputs) + 1], index)
        values = run(part, inputs)
        assert not values.size or step.low <= values.min() <= values.max() <= step.high, step
        assert values.shape == (
            step.shape if values.shape == step.shape else (SAMPLES, *step.shape)
        )
    return found["numpy"]


@st.composite
def networks(draw: st.DrawFn) -> tuple[Define, tuple[int, ...], int, int, int]:
    """A random program of up to eight methods on a tensor of one to three axes."""
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
    bits = draw(st.integers(1, 24))
    low, high = draw(st.sampled_from([(-(1 << bits), (1 << bits) - 1), (0, 1 << bits), (-3, -1)]))
    moves = draw(st.lists(st.sampled_from(sorted(MOVES)), min_size=1, max_size=8))
    seed = draw(st.integers(0, 1 << 30))

    def define(inputs: Sequence[Value]) -> Value:
        rng, value = np.random.default_rng(seed), inputs[0]
        for move in moves:
            if value.magnitude.bit_length() < 36:
                value = MOVES[move](value, rng)
        return value

    return define, shape, low, high, seed


def _matmul(x: Value, rng: np.random.Generator) -> Value:
    return x.matmul(rng.integers(-9, 10, (int(rng.integers(1, 6)), x.shape[-1])))


def _constant(x: Value, rng: np.random.Generator) -> Ints:
    kept = rng.integers(0, len(x.shape) + 1)
    return rng.integers(-50, 50, x.shape[int(kept) :])


def _table(x: Value, rng: np.random.Generator) -> Value:
    narrow = x.clip(-20, 30)
    return narrow.lookup(rng.integers(-99, 99, narrow.high - narrow.low + 1), narrow.low)


def _count(x: Value, rng: np.random.Generator) -> Value:
    trailing = int(rng.integers(0, len(x.shape)))
    channels = x.shape[len(x.shape) - 1 - trailing]
    count = int(rng.integers(1, 9))
    shape = (channels, count) if rng.random() < 0.6 else (count,)
    thresholds = np.sort(rng.integers(x.low - 3, x.high + 3, shape), axis=-1)
    return x.count_reached(thresholds, trailing)


def _take(x: Value, rng: np.random.Generator) -> Value:
    axis = int(rng.integers(0, len(x.shape)))
    index = rng.integers(-1, x.shape[axis], int(rng.integers(1, 8)))
    return x.take(axis, tuple(index.tolist()), int(rng.integers(-2000, 2000)))


def _mode(rng: np.random.Generator) -> Rounding:
    return list(Rounding)[rng.integers(3)]


def _microscale(x: Value, rng: np.random.Generator) -> Value:
    """Blocks that share an exponent: shifts that depend on the data."""
    exponent = (x.absolute().block_maximum(int(rng.integers(1, 4))).bit_length() - 4).maximum(0)
    rounding = _mode(rng)
    return x.shift_right(exponent, rounding).clip(-7, 7).shift_left(exponent)


MOVES: dict[str, Callable[[Value, np.random.Generator], Value]] = {
    "matmul": _matmul,
    "add": lambda x, rng: x + _constant(x, rng),
    "subtract": lambda x, rng: x - _constant(x, rng),
    "multiply": lambda x, rng: x * _constant(x, rng),
    "twice": lambda x, rng: x.maximum(0) - x,
    "negative": lambda x, rng: -x,
    "clip": lambda x, rng: x.clip(-int(rng.integers(1, 99)), _constant(x, rng)),
    "floors": lambda x, rng: x.maximum(_constant(x, rng)),
    "absolute": lambda x, rng: x.absolute(),
    "left": lambda x, rng: x.shift_left(int(rng.integers(0, 9))),
    "left_each": lambda x, rng: x.shift_left(np.abs(_constant(x, rng)) % 9),
    "right": lambda x, rng: x.shift_right(int(rng.integers(0, 70)), _mode(rng)),
    "right_few": lambda x, rng: x.shift_right(int(rng.integers(0, 6)), _mode(rng)),
    "right_each": lambda x, rng: x.shift_right(
        np.abs(_constant(x, rng)) % 12, _mode(rng)
    ),
    "leaky": lambda x, rng: (x - 3).where_nonnegative(x * 4, x),
    "saturate": lambda x, rng: (x - 5).where_nonnegative(7, x),
    "flatten": lambda x, rng: x.reshape((math.prod(x.shape),)),
    "permute": lambda x, rng: x.permute(tuple(rng.permutation(len(x.shape)).tolist())),
    "take": _take,
    "slice": lambda x, rng: x.take(0, tuple(range(0, x.shape[0], 2))),
    "join": lambda x, rng: x.concatenate([x * 2, x], int(rng.integers(0, len(x.shape)))),
    "table": _table,
    "count": _count,
    "microscale": _microscale,
}  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(networks())
def test_a_program_is_the_same_in_every_world(
    network: tuple[Define, tuple[int, ...], int, int, int],
) -> None:
    define, shape, low, high, seed = network
    check(define, [shape], low, high, seed)


@pytest.mark.parametrize("move", sorted(MOVES))
def test_every_method_by_itself(move: str) -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        check(lambda inputs, rng=rng: MOVES[move](inputs[0], rng), [(3, 4)], -900, 1000, seed)  # type: ignore[misc]


def test_the_methods_write_every_instruction() -> None:
    rng = np.random.default_rng(0)
    written = {
        type(step.instruction)
        for move in MOVES.values()
        for step in record(lambda v, m=move: m(v[0], rng), [((2, 3), -99, 99)]).steps  # type: ignore[misc]
    }
    assert written == set(WHITELIST)


def test_two_inputs() -> None:
    result = check(lambda v: (v[0] + v[1].shift_left(2)) * v[0], [(5,), (5,)], -30, 31, 1)
    assert result[-1].tolist() == [(31 + 124) * 31] * 5


@settings(max_examples=200, deadline=None)
@given(
    st.integers(-(1 << 61), 1 << 61),
    st.integers(0, 80),
    st.sampled_from(list(Rounding)),
)
def test_a_shift_rounds_as_it_says(value: int, amount: int, rounding: Rounding) -> None:
    exact = Fraction(value, 1 << amount)
    expected = {
        Rounding.FLOOR: math.floor(exact),
        Rounding.HALF_UP: math.floor(exact + Fraction(1, 2)),
        Rounding.HALF_EVEN: round(exact),
    }[rounding]
    ends = (min(value, 0), max(value, 0))
    for bounds in (ends, (-(1 << 61), 1 << 61)):
        program = record(lambda v: v[0].shift_right(amount, rounding), [((1,), *bounds)])
        for world, result in worlds(program, [np.array([[value]])]).items():
            assert result.item() == expected, world


KINDS: tuple[Kind, ...] = ("shift", "multiply", "thresholds", "table")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_requantiser_as_a_program_equals_its_own_definition(data: st.DataObject) -> None:
    """`requantisers` computes on arrays, for the choice among them; the program is what runs."""
    carrier = data.draw(st.builds(Fixed, st.integers(1, 40), st.integers(-30, 30), st.booleans()))
    rounding = data.draw(st.sampled_from(list(Rounding)))
    factors = st.floats(2.0**-10, 2.0**10, width=32)
    target: Format = data.draw(
        st.one_of(
            st.builds(Fixed, st.integers(1, 40), st.integers(-30, 30), st.booleans()),
            st.builds(lambda w, s: Scaled(w, (s,)), st.integers(1, 12), factors),
            st.sampled_from(
                (Binary((0.75,)), Ternary((0.3,)), Log(4, 3), MinifloatIeee(6, 3, 3, "none"))
            ),
            st.builds(MxInt, st.integers(2, 9), st.integers(1, 3), st.just(3), st.integers(1, 4)),
        )
    )
    channels = data.draw(st.sampled_from((1, 1, 3)))
    gains = data.draw(st.lists(factors, min_size=channels, max_size=channels))
    scale = Scale.of(np.array(gains)) if data.draw(st.booleans()) else None
    ends = data.draw(st.lists(st.integers(carrier.low, carrier.high), min_size=2, max_size=6))
    source = Source(min(ends), max(ends), carrier, scale)
    prefer = data.draw(st.sampled_from((None, *KINDS)))
    try:
        requantiser = requantiser_of(source, target, rounding, prefer)
    except FormatError:
        # None of that kind; what there is is tested by the formats' own tests.
        return
    # [N, 5, 3]: channels on the last axis.
    x = np.resize(np.array(ends, np.int64), (len(ends), 5, 3))
    program = record(lambda v: requantised(v[0], requantiser), [((5, 3), source.low, source.high)])
    expected = requantiser.apply(x)
    event(requantiser.kind)
    low, high = program.bounds
    assert low <= expected.min() <= expected.max() <= high
    for world, result in worlds(program, [x]).items():
        assert np.array_equal(result, expected), world


def test_float64_is_refused_where_it_is_not_proven() -> None:
    weight = np.full((1, 8), 1 << 50, np.int64)
    wide = record(lambda v: v[0].matmul(weight), [((8,), -1, 1)])
    assert wide.peak == 1 << 53
    with pytest.raises(VerifyError) as caught:
        IntegerNode(wide, Carrier.FLOAT64)
    assert str(caught.value) == (
        "float64 does not carry the node exactly: a number of up to 54 bits does not fit 53; "
        "use int64"
    )


def test_the_largest_numbers_that_float64_is_proven_for() -> None:
    """2^53 - 1 passes, in the order of summation that loses most; one more is refused."""
    row = np.array([[(1 << 52) - 1, -((1 << 52) - 1), 1]], np.int64)
    program = record(lambda v: v[0].matmul(row), [((3,), -1, 1)])
    assert program.peak == (1 << 53) - 1
    assert program.float64_obstacle() == ""
    x = np.array([[1, 1, 1], [-1, 1, -1], [1, -1, 1]], np.int64)
    for result in worlds(program, [x]).values():
        assert result.reshape(-1).tolist() == [1, 1 - (1 << 53), (1 << 53) - 1]
    assert record(
        lambda v: v[0].matmul(row + np.eye(3, dtype=np.int64)[2:]), [((3,), -1, 1)]
    ).float64_obstacle()


def test_a_number_beyond_int64_is_refused_when_it_is_written() -> None:
    with pytest.raises(FormatError) as caught:
        record(lambda v: v[0] * v[0], [((1,), 0, 1 << 32)])
    assert str(caught.value) == (
        "a number of up to 65 bits does not fit int64; use narrower formats, or fractions that lie "
        "closer together"
    )
    with pytest.raises(FormatError, match="moved left by 60 does not fit 62 bits"):
        record(lambda v: v[0].shift_left(60), [((1,), 0, 9)])


def test_what_changes_nothing_writes_nothing() -> None:
    def define(inputs: Sequence[Value]) -> Value:
        x = inputs[0] + 0 - np.zeros(3, np.int64)
        x = (x * 1).shift_left(0).shift_right(0, Rounding.FLOOR).clip(-5, 9)
        return x.reshape((3,)).permute((0,)).where_nonnegative(x, x)

    program = record(define, [((3,), -5, 9)])
    assert [s for s in program.steps if s.shape == (3,)] == []
    assert program.result == 0


def test_shapes_that_do_not_fit_are_our_bug() -> None:
    for wrong in (
        lambda v: v[0].matmul(np.ones((2, 4), np.int64)),
        lambda v: v[0] + np.arange(12).reshape(4, 3),
        lambda v: v[0].reshape((4,)),
        lambda v: v[0].permute((1,)),
        lambda v: v[0].lookup(np.arange(3), 0),
        lambda v: v[0].count_reached(np.array([3, 1])),
        lambda v: v[0].bit_length(),
    ):
        with pytest.raises(ValueError):  # noqa: PT011
            record(wrong, [((3,), -5, 9)])


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.tensor([0.5, 1.0]), "must hold whole numbers, got 0.5"),
        (torch.tensor([[3, 9]]), "must hold integers in [-8, 7] of s4.1, got 9"),
        (torch.tensor([float("nan")]), "must hold whole numbers, got nan"),
        (torch.tensor([True]), "must hold integers of s4.1, got torch.bool"),
    ],
)
def test_an_input_must_hold_integers_of_its_format(x: torch.Tensor, message: str) -> None:
    with pytest.raises(DataError) as caught:
        IntegerInput("x", Fixed(4, 1))(x)
    assert str(caught.value) == (
        f"input 'x': {message}; use to_integers to make them from real values"
    )


def test_whole_numbers_of_any_type_are_taken() -> None:
    for dtype in (torch.int8, torch.int64, torch.float32, torch.float64):
        y = IntegerInput("x", Fixed(4, 1))(torch.tensor([-8, 7], dtype=dtype))
        assert y.dtype == torch.int64
        assert y.tolist() == [-8, 7]


def test_a_copy_shares_the_program() -> None:
    node = IntegerNode(record(lambda v: v[0].matmul(np.ones((2, 3), int)), [((3,), 0, 9)]))
    assert copy.deepcopy(node).program is node.program
    assert isinstance(node.program.steps[0], Step)
    assert [b.dtype for b in node.buffers()] == [torch.int64]
