"""Blocks with a shared exponent, by definition in rational numbers; MXINT's integers and words."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chop.errors import FormatError
from chop.formats.base import Options
from chop.formats.block_fp import BlockFp
from chop.formats.block_log import BlockLog
from chop.formats.block_minifloat import BlockMinifloat
from chop.formats.fixed import Fixed
from chop.formats.mxint import MxInt
from chop.formats.rounding import Floats, Rounding

MODES = st.sampled_from(list(Rounding))


@st.composite
def mxints(draw: st.DrawFn) -> MxInt:
    return MxInt(
        draw(st.integers(2, 10)), draw(st.integers(1, 5)), draw(st.integers(-6, 12)),
        draw(st.integers(1, 9)),
    )  # fmt: skip


REALS = st.lists(
    st.floats(-1e3, 1e3) | st.integers(-64, 64).map(lambda k: k / 16), min_size=1, max_size=12
)


def floor_log2(value: Fraction) -> int:
    """The definition: the largest e with 2^e <= value."""
    e = math.floor(math.log2(value)) - 2
    while Fraction(2) ** (e + 1) <= value:
        e += 1
    return e


def rounded(value: Fraction, mode: Rounding) -> int:
    floor = math.floor(value)
    rest = value - floor
    if mode is Rounding.FLOOR or rest < Fraction(1, 2):
        return floor
    if rest > Fraction(1, 2) or mode is Rounding.HALF_UP:
        return floor + 1
    return floor + floor % 2


def defined(format: MxInt, values: list[float], mode: Rounding) -> list[Fraction]:
    """One row in MXINT, in rational numbers."""
    result = []
    top = (1 << (format.width - 1)) - 1
    for start in range(0, len(values), format.block_size):
        block = [Fraction(v) for v in values[start : start + format.block_size]]
        largest = max(abs(v) for v in block)
        exponent = floor_log2(largest) if largest else format.lowest
        exponent = min(max(exponent, format.lowest), format.highest)
        step = Fraction(2) ** (exponent - (format.width - 2))
        result += [min(max(rounded(v / step, mode), -top), top) * step for v in block]
    return result


def fake(format: MxInt | BlockFp, values: Floats, mode: Rounding) -> Floats:
    result: Floats = format.quantize(torch.from_numpy(values), mode)[0].numpy()
    return result


@given(mxints(), REALS, MODES)
def test_mxint_is_as_defined(format: MxInt, values: list[float], mode: Rounding) -> None:
    expected = [float(v) for v in defined(format, values, mode)]
    assert fake(format, np.array(values), mode).tolist() == expected
    if format.carrier is not None:
        integers = format.to_integers(np.array(values), mode)
        assert format.from_integers(integers).tolist() == expected


@given(mxints(), REALS, MODES)
def test_block_fp_is_mxint_with_another_window(
    format: MxInt, values: list[float], mode: Rounding
) -> None:
    size, bias = format.block_size, format.exponent_bias
    other = BlockFp(format.width, format.exponent_width, bias - 1, size)
    assert (
        fake(other, np.array(values), mode).tolist()
        == fake(format, np.array(values), mode).tolist()
    )


def test_ocp_mxint8() -> None:
    """Elements of MXINT8 are k / 64; the shared factor is a power of two."""
    format = MxInt.fit(np.zeros(1), Options(width=8))
    assert format == MxInt(8, 8, 127, 32)
    assert format.bits == 8.25
    block = np.zeros(32)
    block[:5] = [100.0, -1.0, 0.4, 127.9, -127.9]
    # floor(log2 127.9) = 6, so steps of 2^6 / 64 = 1; the ends saturate at 127.
    result = fake(format, block, Rounding.HALF_EVEN)
    assert result[:5].tolist() == [100.0, -1.0, 0.0, 127.0, -127.0]


@given(mxints(), st.data(), MODES)
def test_words_on_a_stream_are_the_integers(
    format: MxInt, data: st.DataObject, mode: Rounding
) -> None:
    if format.carrier is None:
        with pytest.raises(FormatError):
            _ = format.stream_width
        return
    rows = data.draw(st.lists(REALS.map(lambda r: (r * 12)[:12]), min_size=1, max_size=3))
    integers = format.to_integers(np.array(rows), mode)
    words = format.encode(integers)
    assert format.decode(words).tolist() == integers.tolist()
    assert format.stream_width == format.width + format.exponent_width
    assert words.min() >= 0
    assert words.max() < 1 << format.stream_width
    # The exponent is the block's: the same in all its words, and the one that the cast had.
    exponents = words >> format.width
    size = format.block_size
    for row, given_values in zip(exponents, rows, strict=True):
        for start in range(0, 12, size):
            assert len(set(row[start : start + size].tolist())) == 1
            largest = max(abs(Fraction(v)) for v in given_values[start : start + size])
            exponent = floor_log2(largest) if largest else format.lowest
            clipped = min(max(exponent, format.lowest), format.highest)
            assert row[start] == clipped - format.lowest


@settings(max_examples=200)
@given(mxints(), st.integers(1, 50), st.integers(-8, 40), MODES, st.data())
def test_the_integer_cast_is_the_cast_of_the_reals(
    format: MxInt, width: int, frac_width: int, mode: Rounding, data: st.DataObject
) -> None:
    if format.carrier is None:
        return
    source = Fixed(width, frac_width)
    levels = data.draw(
        st.lists(
            st.integers(source.low, source.high) | st.sampled_from([source.low, source.high, 0]),
            min_size=1,
            max_size=12,
        )
    )
    array = np.array([levels, levels[::-1]])
    expected = format.to_integers(source.from_integers(array), mode)
    assert format.requantise(array, source, mode).tolist() == expected.tolist()


def test_the_integer_cast_of_62_bits() -> None:
    format, source = MxInt(8, 4, 0, 2), Fixed(62, 60)
    # Beyond 53 bits: 2^60 - 1 is below one, so its exponent is that of 1/2, here the lowest's 0.
    levels = np.array([(1 << 60) - 1, 0, source.low, source.high])
    assert format.requantise(levels, source, Rounding.FLOOR).tolist() == [63, 0, -128, 126]
    format = MxInt(8, 4, 1, 1)
    assert format.requantise(levels, source, Rounding.FLOOR).tolist() == [127, 0, -256, 254]


@given(mxints(), REALS, MODES)
def test_constants_have_the_carrier_of_their_exponents(
    format: MxInt, values: list[float], mode: Rounding
) -> None:
    array = np.array(values)
    try:
        constants = format.integers(array, mode)
    except FormatError:
        magnitudes = np.abs(array[array != 0])
        assert format.width + math.log2(magnitudes.max() / magnitudes.min()) > 60
        return
    real = np.ldexp(constants.values.astype(np.float64), -constants.carrier.frac_width)
    assert real.tolist() == fake(format, array, mode).tolist()
    # What the ROM holds: mantissas in two's complement, exponents per block from the lowest.
    coding = format.coding(constants)
    exponents = format.exponents(constants.values)
    assert (coding.kind, coding.width) == ("mxint", format.width)
    assert exponents.shape == (-(-len(values) // format.block_size),)
    sign = coding.codes >> (format.width - 1)
    mantissas = coding.codes - (sign << format.width)
    assert (np.abs(mantissas) < 1 << (format.width - 1)).all()
    each = np.repeat(exponents, format.block_size)[: len(values)]
    assert (mantissas << each).tolist() == constants.values.tolist()
    # Not wider than needed.
    assert constants.carrier.width == format.width + int(exponents.max()) or not real.any()


def test_constants_too_far_apart_are_refused() -> None:
    format = MxInt(8, 8, 127, 1)
    with pytest.raises(FormatError) as caught:
        format.integers(np.array([2.0**-30, 2.0**30]))
    assert str(caught.value) == (
        "mxint8e8b127x1: blocks from 2^-30 to 2^30 need integers of 68 bits, of at most 62; "
        "use fewer bits of exponent"
    )


def test_a_narrow_window_ends_at_the_largest_magnitude() -> None:
    values = np.array([0.3, -6.0, 0.01])
    format = MxInt.fit(values, Options(width=6, exponent_width=3, block_size=1))
    assert (format.lowest, format.highest) == (-5, 2)
    assert fake(format, values, Rounding.HALF_UP)[1] == -6.0
    other = BlockFp.fit(values, Options(width=6, exponent_width=3, block_size=1))
    assert fake(other, values, Rounding.HALF_UP).tolist() == (
        fake(format, values, Rounding.HALF_UP).tolist()
    )


def test_ocp_mxfp4() -> None:
    format = BlockMinifloat(4, 2, 4)
    # floor(log2 40) = 5, less the 2 of an element's largest exponent: a factor of 8.
    x = torch.tensor([40.0, 47.9, -5.0, 3.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    result, inside = format.quantize(x, Rounding.HALF_EVEN)
    assert inside is None
    assert result.tolist() == [32.0, 48.0, -4.0, 4.0, 0.0, 0.0, 0.0, 0.0, 1.0]
    assert format.bits == 6


def test_block_log() -> None:
    format = BlockLog(3, 4)
    # Powers 2^E, 2^(E - 1), 2^(E - 2) and zero; 13 is nearest to 16.
    x = torch.tensor([13.0, 7.0, -3.0, 1.9, 11.9, -0.1, 5.9, 3.0])
    assert format.quantize(x, Rounding.HALF_UP)[0].tolist() == [16, 8, -4, 0, 8, 0, 4, 4]
    assert format.bits == 5
    # The shared power is the nearest to the largest: on from 12 that of 16, below it that of 8.
    x = torch.tensor([12.0, 1.9, 0.0, 0.0, 11.9, 1.9, 0.0, 0.0])
    assert format.quantize(x, Rounding.HALF_UP)[0].tolist() == [16, 0, 0, 0, 8, 2, 0, 0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MxInt(1, 4, 0, 8), "mxint: width must be in 2..24, got 1"),
        (lambda: MxInt(8, 9, 0, 8), "mxint: exponent_width must be in 1..8, got 9"),
        (lambda: MxInt(8, 4, 0, 0), "mxint: block_size must be at least 1, got 0"),
        (lambda: MxInt(8, 4, 600, 8), "mxint: exponent_bias must be in -512..512, got 600"),
        (lambda: BlockFp(25, 4, 0, 8), "block_fp: width must be in 2..24, got 25"),
        (lambda: BlockLog(10, 8), "block_log: width must be in 2..9, got 10"),
        (
            lambda: BlockMinifloat(8, 4, -1),
            "block_minifloat: block_size must be at least 1, got -1",
        ),
    ],
)
def test_refused(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(FormatError) as caught:
        make()
    assert str(caught.value) == message
