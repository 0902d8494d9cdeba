"""Requantisers: equal to the boundaries of the format, for every integer that can occur."""

from __future__ import annotations

import math
import random
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chop.errors import FormatError
from chop.formats.base import Format
from chop.formats.binary import Binary
from chop.formats.fixed import Fixed
from chop.formats.floors import Line, floor_sum, largest_weighted_floor, same_floors
from chop.formats.log import Log
from chop.formats.minifloat_denorm import MinifloatDenorm
from chop.formats.minifloat_ieee import MinifloatIeee
from chop.formats.multiplier import Span, affine_for, is_exact
from chop.formats.mxint import MxInt
from chop.formats.requantise import Kind, Source, apply, requantiser_of
from chop.formats.requantisers import Multiply, Requantiser, Shift, Thresholds
from chop.formats.rounding import Ints, Rounding
from chop.formats.scale import Scale
from chop.formats.scaled import Scaled
from chop.formats.ternary import Ternary
from chop.formats.ties import nearest_line

_SEED = 2026
_KINDS: tuple[Kind | None, ...] = (None, "shift", "multiply", "thresholds", "table")


def _float32(value: float) -> float:
    return float(np.float32(value))


def _definition(source: Source, format: Format, rounding: Rounding) -> Ints:
    """Returns the level of every A [A, channels]: boundaries counted, in fractions."""
    listed = format.levels()
    levels = range(format.low, format.high + 1) if listed is None else listed.tolist()
    boundaries = format.boundaries(rounding)
    factors = source.scale.factors if source.scale else (Fraction(1),)
    offsets = source.offsets or (Fraction(0),)
    own = format.scale.factors[0] if format.scale else Fraction(1)
    step = Fraction(2) ** (format.held().frac_width - source.carrier.frac_width) / own

    def level(a: int, channel: int) -> int:
        x = factors[channel % len(factors)] * step * a + offsets[channel % len(offsets)]
        return levels[sum(x >= b.at if b.inclusive else x > b.at for b in boundaries)]

    channels = range(max(len(factors), len(offsets)))
    rows = [[level(a, c) for c in channels] for a in range(source.low, source.high + 1)]
    return np.array(rows, np.int64)


def _random_format(rng: random.Random) -> Format:
    scale = rng.choice((0.5, 1.0, 0.75, 1.5, _float32(2 ** rng.uniform(-3, 3))))
    return rng.choice(
        (
            Fixed(rng.randint(1, 5), rng.randint(-2, 3), rng.random() < 0.5),
            Scaled(rng.randint(2, 5), (scale,), rng.random() < 0.7),
            Scaled(4, (scale,), symmetric=True),
            Binary((scale,)),
            Ternary((scale,)),
            Log(rng.randint(2, 4), rng.randint(-2, 3)),
            MinifloatDenorm(4, 2, 1),
            MinifloatIeee(4, 2, 1, "none"),
            MinifloatIeee(6, 2, 1, "none"),
        )
    )


def _random_source(rng: random.Random) -> Source:
    carrier = Fixed(rng.randint(3, 6), rng.randint(-3, 4), rng.random() < 0.7)
    low = rng.randint(carrier.low, carrier.high)
    channels = rng.choice((1, 1, 3))
    factors = tuple(
        rng.choice(
            (
                Fraction(_float32(2 ** rng.uniform(-3, 2))),
                # Ties, many of them.
                Fraction(rng.randint(1, 6), rng.choice((1, 2, 3, 4, 8))),
            )
        )
        for _ in range(channels)
    )
    shared = rng.random() < 0.3
    scale = None if shared else Scale(factors)
    count = 1 if shared else channels
    offsets = tuple(Fraction(rng.randint(-20, 20), rng.randint(1, 4)) for _ in range(count))
    used = offsets if rng.random() < 0.4 else ()
    return Source(low, rng.randint(low, carrier.high), carrier, scale, used)


def _made(
    source: Source, format: Format, rounding: Rounding, kind: Kind | None
) -> Requantiser | None:
    try:
        return requantiser_of(source, format, rounding, kind)
    except FormatError:
        return None


def test_every_kind_is_the_definition() -> None:
    rng = random.Random(_SEED)
    made: Counter[str] = Counter()
    for number in range(150):
        source, format = _random_source(rng), _random_format(rng)
        rounding = rng.choice(list(Rounding))
        expected = _definition(source, format, rounding)
        integers = np.arange(source.low, source.high + 1)[:, np.newaxis]
        values = np.broadcast_to(integers, expected.shape)
        for kind in _KINDS:
            found = _made(source, format, rounding, kind)
            assert found is not None or kind is not None, (_SEED, number)
            if found is None:
                continue
            made[found.kind] += 1
            assert np.array_equal(apply(values, found), expected), (_SEED, number, found)
    assert min(made[kind] for kind in ("shift", "multiply", "thresholds", "table")) >= 10, made


def test_channels_lie_where_the_scale_says() -> None:
    scale = Scale((Fraction(1), Fraction(1, 3), Fraction(2, 7)), trailing=1)
    source = Source(-100, 100, Fixed(8, 0), scale)
    values = np.arange(-100, 101).reshape(-1, 1, 1) * np.ones((1, 3, 2), np.int64)
    for format in (Scaled(8, (0.5,)), Log(3, 0)):
        expected = _definition(source, format, Rounding.HALF_UP)
        found = requantiser_of(source, format, Rounding.HALF_UP).apply(values)
        assert np.array_equal(found, np.repeat(expected[:, :, np.newaxis], 2, axis=2))


@given(
    st.fractions(min_value=Fraction(1, 500), max_value=Fraction(3), max_denominator=500),
    st.fractions(min_value=-20, max_value=20, max_denominator=50),
    st.integers(-200, 0),
    st.integers(0, 200),
    st.sampled_from(list(Rounding)),
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_multiplier_is_exact_and_its_shift_the_smallest(
    gain: Fraction, offset: Fraction, low: int, high: int, rounding: Rounding
) -> None:
    span = Span(low, high, -8, 7)
    line = nearest_line(gain, offset, rounding, span)
    if line is None:
        assert rounding is Rounding.HALF_EVEN
        return
    expected = [
        min(max(_rounded(gain * a + offset, rounding), -8), 7) for a in range(low, high + 1)
    ]
    found = affine_for([line], span)
    assert found is not None
    (m,), (b,), s = found.multipliers, found.offsets, found.shift
    assert [min(max((a * m + b) >> s, -8), 7) for a in range(low, high + 1)] == expected
    assert is_exact(line, span, m, b, s)
    if 0 < s < 8:
        # No pair at all one shift below: every multiplier, and its whole range of offsets.
        step = 1 << (s - 1)
        integers, levels = np.arange(low, high + 1), np.array(expected)
        above, below = levels > -8, levels < 7
        products = np.arange(16 * step + 1)[:, np.newaxis] * integers
        least = (levels * step - products)[:, above].max(axis=1)
        most = ((levels + 1) * step - 1 - products)[:, below].min(axis=1)
        assert (least > most).all()


def _rounded(x: Fraction, rounding: Rounding) -> int:
    if rounding is Rounding.HALF_EVEN:
        return round(x)
    return math.floor(x if rounding is Rounding.FLOOR else x + Fraction(1, 2))


def test_the_shift_that_random_channels_need() -> None:
    """|A| <= 30000 to 8 bits: a fixed shift of 24 is not exact, the smallest are about it."""
    rng = random.Random(_SEED)
    span = Span(-30000, 30000, -128, 127)
    shifts, wrong = [], 0
    for _ in range(300):
        gain, offset = Fraction(2 ** rng.uniform(-7, -3)), Fraction(rng.gauss(0, 30))
        line = nearest_line(gain, offset, Rounding.HALF_UP, span)
        assert line is not None
        found = affine_for([line], span)
        assert found is not None
        shifts.append(found.shift)
        rounded = round(gain * 2**24), round((offset + Fraction(1, 2)) * 2**24)
        wrong += not is_exact(line, span, *rounded, 24)
    shifts.sort()
    assert shifts[15] >= 14
    assert 20 <= shifts[150] <= 24
    assert 26 <= shifts[-1] <= 31
    assert wrong > 10


def test_one_bit_of_offset_too_many_is_not_exact() -> None:
    span = Span(-3000, 3000, -128, 127)
    line = nearest_line(Fraction(_float32(0.0371)), Fraction(0), Rounding.HALF_UP, span)
    assert line is not None
    found = affine_for([line], span)
    assert found is not None
    (m,), s = found.multipliers, found.shift
    (least,) = found.offsets
    (most,) = found.offsets
    while is_exact(line, span, m, least - 1, s) and most - least < 1 << s:
        least -= 1
    while is_exact(line, span, m, most + 1, s) and most - least < 1 << s:
        most += 1
    assert most - least < 1 << s
    for offset, right in ((least - 1, False), (least, True), (most, True), (most + 1, False)):
        values = [min(max((a * m + offset) >> s, -128), 127) for a in range(-3000, 3001)]
        assert right == (values == [min(max(line.at(a), -128), 127) for a in range(-3000, 3001)])


_LINES = st.builds(Line, st.integers(0, 40), st.integers(-60, 60), st.integers(1, 30))


@given(_LINES, _LINES, st.integers(-20, 20), st.integers(0, 25), *[st.integers(-30, 30)] * 2)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_floors(line: Line, other: Line, first: int, more: int, x: int, floor: int) -> None:
    last = first + more
    inside = range(first, last + 1)
    expected = max(x * a + floor * line.at(a) for a in inside)
    assert largest_weighted_floor(line, first, last, x, floor) == expected
    assert floor_sum(line, first, last) == sum(map(line.at, inside))
    near = Line(2 * line.slope, 2 * line.offset + 1, 2 * line.divisor)
    for b in (other, near):
        same = all(line.at(a) == b.at(a) for a in inside)
        assert same_floors(line, b, first, last) == same
    if line.slope:
        assert line.at(line.reaches(floor) - 1) < floor <= line.at(line.reaches(floor))


def test_the_cheapest_kind_is_chosen() -> None:
    accumulator = Fixed(20, 0)
    wide = Source(-400000, 400000, accumulator, Scale((Fraction(_float32(0.001)),)))
    assert isinstance(requantiser_of(wide, Scaled(8, (0.05,)), Rounding.HALF_UP), Multiply)
    assert isinstance(requantiser_of(wide, Ternary((50.0,)), Rounding.HALF_UP), Thresholds)
    plain = Source(-400000, 400000, accumulator)
    assert isinstance(requantiser_of(plain, Fixed(8, -12), Rounding.HALF_EVEN), Shift)
    narrow = Source(-16, 15, Fixed(5, 0), Scale((Fraction(_float32(0.3)),)))
    assert requantiser_of(narrow, Scaled(8, (0.05,)), Rounding.HALF_UP).kind == "table"


def test_wide_targets_need_no_list_of_levels() -> None:
    scale = Scale(tuple(Fraction(_float32(0.001 + k / 1000)) for k in range(64)), trailing=0)
    source = Source(-(1 << 20), (1 << 20) - 1, Fixed(21, 0), scale)
    found = requantiser_of(source, Scaled(16, (_float32(50.0),)), Rounding.HALF_UP)
    assert isinstance(found, Multiply)
    values = np.random.default_rng(_SEED).integers(-(1 << 20), 1 << 20, (50, 64))
    for a, y, factor in zip(values[0].tolist(), found.apply(values)[0], scale.factors, strict=True):
        exact = (factor / 50 * a + Fraction(1, 2)).__floor__()
        assert y == min(max(exact, -(1 << 15)), (1 << 15) - 1)


def test_ties_to_even() -> None:
    # 3/4 has ties on both sides, but a power of two below: the product is exact.
    source = Source(-100, 100, Fixed(8, 0), Scale((Fraction(3, 4),)))
    found = requantiser_of(source, Fixed(9, 0), Rounding.HALF_EVEN, "multiply")
    expected = [round(Fraction(3, 4) * a) for a in range(-100, 101)]
    assert found.apply(np.arange(-100, 101)).tolist() == expected
    # A sixth has not: three ties cannot be on one line.
    source = Source(-60000, 60000, Fixed(17, 0), Scale((Fraction(1, 6),)))
    with pytest.raises(FormatError) as error:
        requantiser_of(source, Fixed(15, 0), Rounding.HALF_EVEN)
    assert str(error.value) == (
        "s15.0: no exact requantiser for integers -60000..60000 with half_even: products must fit "
        "62 bits, and ties to even on both sides cannot be multiplied; round half_up, or use a "
        "narrower format before (data_in of the nodes that give these integers)"
    )


def test_a_scale_per_channel_is_no_stream() -> None:
    source = Source(-8, 7, Fixed(4, 0))
    with pytest.raises(FormatError, match="a tensor between layers has one scale"):
        requantiser_of(source, Scaled(4, (0.5, 0.25)), Rounding.HALF_UP)


def test_blocks_take_a_power_of_two() -> None:
    format = MxInt(4, 2, 1, 4)
    values = np.random.default_rng(_SEED).integers(-128, 128, (20, 8))
    source = Source(-128, 127, Fixed(8, 5), Scale((Fraction(1, 4),)))
    found = requantiser_of(source, format, Rounding.HALF_UP)
    assert np.array_equal(
        found.apply(values), format.requantise(values, Fixed(8, 7), Rounding.HALF_UP)
    )
    third = Source(-128, 127, Fixed(8, 5), Scale((Fraction(1, 3),)))
    with pytest.raises(FormatError, match="only a scale of one power of two"):
        requantiser_of(third, format, Rounding.HALF_UP)
