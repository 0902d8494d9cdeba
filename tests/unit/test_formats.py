"""Fixed point: levels, rounding, saturation; one meaning in integers, NumPy floats and torch."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chop.errors import FormatError
from chop.formats.calibrate import choose_fixed, quantisation_error
from chop.formats.fixed import Fixed, covering
from chop.formats.requantise import Source, requantiser_of
from chop.formats.rounding import MAX_BITS, Rounding, exact_matmul, round_half, shift_right
from chop.nn.fake_quantize import fake_quantize

MODES = st.sampled_from(list(Rounding))
FORMATS = st.builds(Fixed, st.integers(1, 24), st.integers(-8, 30), st.booleans())
WIDE_FORMATS = st.builds(Fixed, st.integers(1, MAX_BITS), st.integers(-40, 80), st.booleans())
REALS = st.floats(-1e9, 1e9, allow_subnormal=False)


def exactly_rounded(value: Fraction, mode: Rounding) -> int:
    """The definition, in rational numbers."""
    floor = math.floor(value)
    rest = value - floor
    if mode is Rounding.FLOOR or rest < Fraction(1, 2):
        return floor
    if rest > Fraction(1, 2) or mode is Rounding.HALF_UP:
        return floor + 1
    return floor + floor % 2


@given(st.integers(-(2**50), 2**50), st.integers(-8, 60), MODES)
def test_shift_right_rounds_as_defined(value: int, shift: int, mode: Rounding) -> None:
    expected = exactly_rounded(Fraction(value) / Fraction(2) ** shift, mode)
    assert shift_right(np.array([value]), shift, mode).tolist() == [expected]


@given(REALS, MODES)
def test_round_half_rounds_as_defined(value: float, mode: Rounding) -> None:
    assert round_half(np.array([value]), mode).tolist() == [exactly_rounded(Fraction(value), mode)]


@given(st.integers(-(2**20), 2**20), MODES)
def test_ties_round_as_defined(halves: int, mode: Rounding) -> None:
    expected = exactly_rounded(Fraction(halves, 2), mode)
    assert round_half(np.array([halves / 2]), mode).tolist() == [expected]
    assert shift_right(np.array([halves]), 1, mode).tolist() == [expected]


def test_the_float_below_one_half_rounds_down() -> None:
    below = np.nextafter(0.5, 0)
    assert round_half(np.array([below]), Rounding.HALF_UP).tolist() == [0.0]
    assert Fixed(8, 0).to_integers(np.array([below])).tolist() == [0]
    assert fake_quantize(torch.tensor([below], dtype=torch.float64), Fixed(8, 0)).tolist() == [0.0]


@given(WIDE_FORMATS, REALS, MODES)
def test_to_integers_rounds_then_saturates(format: Fixed, value: float, mode: Rounding) -> None:
    scaled = Fraction(value) * Fraction(2) ** format.frac_width
    expected = min(max(exactly_rounded(scaled, mode), format.low), format.high)
    assert format.to_integers(np.array([value]), mode).tolist() == [expected]


@given(FORMATS, st.lists(REALS, min_size=1, max_size=8), MODES)
def test_fake_quantize_agrees_with_the_integers(
    format: Fixed, values: list[float], mode: Rounding
) -> None:
    array = np.array(values)
    exact = format.from_integers(format.to_integers(array, mode))
    assert fake_quantize(torch.from_numpy(array), format, mode).tolist() == exact.tolist()


@given(WIDE_FORMATS, st.data())
def test_levels_round_trip(format: Fixed, data: st.DataObject) -> None:
    exact = 1 << 53
    low, high = max(format.low, -exact), min(format.high, exact)
    level = data.draw(st.integers(low, high))
    values = format.from_integers(np.array([level]))
    assert Fraction(values[0]) == Fraction(level) / Fraction(2) ** format.frac_width
    for mode in Rounding:
        # A level is its own rounding in every mode: quantising twice changes nothing.
        assert format.to_integers(values, mode).tolist() == [level]


@given(FORMATS, REALS, REALS, MODES)
def test_quantising_is_monotone(format: Fixed, a: float, b: float, mode: Rounding) -> None:
    low, high = format.to_integers(np.array([min(a, b), max(a, b)]), mode).tolist()
    assert format.low <= low <= high <= format.high


@given(FORMATS, FORMATS, MODES, st.data())
def test_requantise_equals_quantising_the_value(
    source: Fixed, target: Fixed, mode: Rounding, data: st.DataObject
) -> None:
    level = np.array([data.draw(st.integers(source.low, source.high))])
    expected = target.to_integers(source.from_integers(level), mode)
    found = requantiser_of(Source(source.low, source.high, source), target, mode)
    assert found.apply(level).tolist() == expected.tolist()


def test_requantise_saturates_far_outside() -> None:
    source, target = Fixed(20, 0), Fixed(4, 60)
    levels = np.array([1 << 18, -(1 << 18), 0])
    found = requantiser_of(Source(source.low, source.high, source), target, Rounding.HALF_UP)
    assert found.apply(levels).tolist() == [7, -8, 0]


def test_infinities_saturate_and_nan_is_refused() -> None:
    assert Fixed(4, 1).to_integers(np.array([math.inf, -math.inf])).tolist() == [7, -8]
    with pytest.raises(FormatError) as caught:
        Fixed(4, 1).to_integers(np.array([0.0, math.nan]))
    assert str(caught.value) == "s4.1: cannot quantise NaN; mend the model or its input"


@pytest.mark.parametrize("width", [0, -3, MAX_BITS + 1])
def test_a_width_out_of_range_is_refused(width: int) -> None:
    with pytest.raises(FormatError) as caught:
        Fixed(width, 0)
    assert str(caught.value) == (
        f"fixed point: width must be in 1..{MAX_BITS}, got {width}; "
        "use a narrower format or set data_out_width on the layer before"
    )


@given(st.integers(-(2**60), 2**60), st.integers(-(2**60), 2**60))
def test_covering_is_the_narrowest(a: int, b: int) -> None:
    low, high = min(a, b), max(a, b)
    format = covering(low, high, 3)
    assert format.low <= low <= high <= format.high
    assert format.frac_width == 3
    assert format.signed == (low < 0)
    if format.width > 1:
        narrower = Fixed(format.width - 1, 3, format.signed)
        assert low < narrower.low or high > narrower.high


def test_gradient_is_straight_through_inside_the_range_only() -> None:
    x = torch.tensor([-3.0, -2.0, 0.3, 1.75, 1.8, 5.0], requires_grad=True)
    total = (fake_quantize(x, Fixed(4, 2)) * torch.arange(6)).sum()
    (gradient,) = torch.autograd.grad(total, x)
    assert gradient.tolist() == [0.0, 1.0, 2.0, 3.0, 0.0, 0.0]


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=20), st.integers(2, 12), st.booleans())
def test_no_other_fraction_beats_the_chosen_one(
    values: list[float], width: int, signed: bool
) -> None:
    array = np.array(values)
    chosen = choose_fixed(array, width, signed).format
    assert (chosen.width, chosen.signed) == (width, signed)
    error = quantisation_error(array, chosen)
    near = range(chosen.frac_width - 1, chosen.frac_width + 2)
    assert error <= min(quantisation_error(array, Fixed(width, f, signed)) for f in near)


@pytest.mark.parametrize("bits", [3, 20, 26, 30])
def test_exact_matmul_equals_python_integers(bits: int) -> None:
    rng = np.random.default_rng(bits)
    x = rng.integers(-(1 << bits), 1 << bits, (5, 7))
    weight = rng.integers(-(1 << bits), 1 << bits, (3, 7))
    # Odd numbers: a product in float64 would drop the last bit.
    x, weight = x | 1, weight | 1
    bound = int((np.abs(weight).sum(axis=1) * (1 << bits)).max())
    expected = [
        [sum(int(a) * int(b) for a, b in zip(row, column, strict=True)) for column in weight]
        for row in x
    ]
    assert bits < 26 or bound > 1 << 53
    assert exact_matmul(x, weight, bound).tolist() == expected
