"""Sums of two scales: every pair against the exact fractions, by both ways to the multipliers."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import numpy as np
import pytest

from chop.errors import FormatError
from chop.formats import sums
from chop.formats.base import Format
from chop.formats.binary import Binary
from chop.formats.fixed import Fixed
from chop.formats.requantise import Source
from chop.formats.rounding import Rounding
from chop.formats.scale import Scale
from chop.formats.scaled import Scaled
from chop.formats.sums import FusedSum, fused_sum


def _scale(rng: random.Random) -> float:
    return float(np.float32(rng.uniform(0.01, 2.0)))


def _source(rng: random.Random, width: int) -> Source:
    carrier = Fixed(width, rng.randint(-2, 4), rng.random() < 0.7)
    scale = Scale.of(_scale(rng)) if rng.random() < 0.7 else None
    return Source(carrier.low, carrier.high, carrier, scale)


def _real(source: Source, integer: int) -> Fraction:
    factor = source.scale.factors[0] if source.scale else Fraction(1)
    return integer * factor * Fraction(2) ** -source.carrier.frac_width


def _expected(value: Fraction, format: Format, rounding: Rounding) -> int:
    step = Fraction(2) ** -format.held().frac_width
    step *= format.scale.factors[0] if format.scale else 1
    steps = value / step
    level = {
        Rounding.FLOOR: math.floor(steps),
        Rounding.HALF_UP: math.floor(steps + Fraction(1, 2)),
        Rounding.HALF_EVEN: round(steps),
    }[rounding]
    return min(max(level, format.low), format.high)


def _computed(found: FusedSum, x1: int, x2: int) -> int:
    total = x1 * found.multipliers[0] + x2 * found.multipliers[1] + found.offset
    rounded = _expected(Fraction(total, 1 << found.shift), Fixed(62, 0), found.rounding)
    return min(max(rounded, found.low), found.high)


def _check(
    rng: random.Random, a: Source, b: Source, format: Format, rounding: Rounding, count: int
) -> FusedSum:
    subtract = rng.random() < 0.5
    found = fused_sum(a, b, subtract, format, rounding)
    for _ in range(count):
        x1, x2 = rng.randint(a.low, a.high), rng.randint(b.low, b.high)
        real = _real(a, x1) + (-1 if subtract else 1) * _real(b, x2)
        assert _computed(found, x1, x2) == _expected(real, format, rounding), (a, b, format, x1, x2)
    return found


def _format(rng: random.Random, width: int) -> Format:
    if rng.random() < 0.6:
        return Scaled(width, (_scale(rng),), rng.random() < 0.7)
    return Fixed(width, rng.randint(0, 3), rng.random() < 0.7)


@pytest.mark.parametrize("tried", [True, False])
def test_every_pair_is_rounded_exactly(tried: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not tried:
        monkeypatch.setattr(sums, "_MOST_PAIRS", 0)
    rng = random.Random(f"sums {tried}")
    shifts = []
    for _ in range(60):
        a, b = _source(rng, rng.randint(2, 5)), _source(rng, rng.randint(2, 5))
        format = _format(rng, rng.randint(2, 6))
        rounding = rng.choice((Rounding.HALF_UP, Rounding.FLOOR))
        found = fused_sum(a, b, False, format, rounding)
        for x1 in range(a.low, a.high + 1):
            for x2 in range(b.low, b.high + 1):
                real = _real(a, x1) + _real(b, x2)
                expected = _expected(real, format, rounding)
                assert _computed(found, x1, x2) == expected, (a, b, format, x1, x2)
        shifts.append(found.shift)
    # The bound alone takes shifts for the least distance that there can be.
    average = sum(shifts) / len(shifts)
    assert average < 15 if tried else average > 25, average


@pytest.mark.parametrize("rounding", [Rounding.HALF_UP, Rounding.FLOOR])
def test_sums_on_a_boundary_are_not_below_it(
    rounding: Rounding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thirds of a step have no multiplier: every third sum would be one too small."""
    monkeypatch.setattr(sums, "_MOST_PAIRS", 0)
    rng = random.Random("boundary")
    a, b = Source(-64, 63, Fixed(7, 0)), Source(-8, 7, Fixed(4, 1), Scale.of(1.25))
    for step in (3.0, 0.75, 1.5, 7.0):
        _check(rng, a, b, Scaled(6, (step,)), rounding, 1000)


def test_wide_integers_are_rounded_exactly() -> None:
    rng = random.Random("wide sums")
    made = 0
    for _ in range(60):
        a, b = _source(rng, rng.randint(8, 12)), _source(rng, rng.randint(9, 14))
        try:
            _check(rng, a, b, _format(rng, 8), Rounding.HALF_UP, 300)
        except FormatError as error:
            assert "more than 62 bits" in str(error)  # noqa: PT017
            continue
        made += 1
    assert made > 30


@pytest.mark.parametrize("rounding", list(Rounding))
def test_powers_of_two_are_added_exactly_then_rounded(rounding: Rounding) -> None:
    a = Source(-8, 7, Fixed(4, 3), Scale.of(0.5))
    b = Source(-16, 15, Fixed(5, 1))
    found = _check(random.Random(1), a, b, Scaled(4, (0.25,)), rounding, 500)
    assert (found.multipliers, found.shift, found.offset) == ((1, 8), 2, 0) or found.shift <= 3


def test_ties_to_even_are_refused_where_there_are_any() -> None:
    large, small = float(np.float32(0.3)), float(np.float32(0.1))
    a, b = (Source(-8, 7, Fixed(4, 0), Scale.of(s)) for s in (large, small))
    with pytest.raises(FormatError, match="can lie midway between levels"):
        fused_sum(a, b, False, Scaled(4, (2 * large,)), Rounding.HALF_EVEN)
    # Halves of one scale and nothing else: a shift, which rounds as it is told.
    assert fused_sum(a, a, False, Scaled(4, (2 * large,)), Rounding.HALF_EVEN).shift == 1


def test_what_has_no_form_is_refused() -> None:
    a = Source(-8, 7, Fixed(4, 0), Scale((Fraction(1, 3), Fraction(1, 5))))
    b = Source(-8, 7, Fixed(4, 0))
    with pytest.raises(FormatError, match="takes one scale for all channels"):
        fused_sum(a, b, False, Fixed(4, 0), Rounding.HALF_UP)
    with pytest.raises(FormatError, match="needs evenly spaced levels"):
        fused_sum(b, b, False, Binary((1.0,)), Rounding.HALF_UP)
