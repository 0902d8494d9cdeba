"""Minifloats against torch's own types, the tables of their standards, and by definition."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chop.errors import FormatError
from chop.formats.base import Options
from chop.formats.log import Log
from chop.formats.minifloat_denorm import MinifloatDenorm
from chop.formats.minifloat_ieee import MinifloatIeee
from chop.formats.registry import format_class, preset_options
from chop.formats.rounding import Floats, Rounding

_TORCH = {
    "fp8_e4m3": (torch.float8_e4m3fn, torch.uint8),
    "fp8_e5m2": (torch.float8_e5m2, torch.uint8),
    "fp16": (torch.half, torch.int16),
    "bf16": (torch.bfloat16, torch.int16),
}


def preset(name: str) -> MinifloatIeee:
    format = format_class(name).fit(np.zeros(1), preset_options(name, Options()))
    assert isinstance(format, MinifloatIeee)
    return format


def every_value(name: str) -> Floats:
    """Returns the finite values of every code, ascending, without the second zero."""
    dtype, integer = _TORCH[name]
    codes = torch.arange(1 << 8 if integer is torch.uint8 else 1 << 16).to(integer)
    values = codes.view(dtype).double().numpy()
    return np.unique(values[np.isfinite(values)])


@pytest.mark.parametrize("name", _TORCH)
def test_every_code_of_torch_is_a_level(name: str) -> None:
    format, values = preset(name), every_value(name)
    x = torch.from_numpy(values)
    for mode in Rounding:
        assert torch.equal(format.quantize(x, mode)[0], x)
    assert format.grid.largest == values.max()
    if name != "bf16":
        levels = format.levels()
        assert levels is not None
        assert format.from_integers(levels).tolist() == values.tolist()
    # Nothing lies between: the middles go to their neighbours in every mode.
    below, above = x[:-1], x[1:]
    middle = (below + above) / 2
    assert torch.equal(format.quantize(middle, Rounding.FLOOR)[0], below)
    assert torch.equal(format.quantize(middle, Rounding.HALF_UP)[0], above)


@pytest.mark.parametrize("name", _TORCH)
def test_rounding_is_torch_s(name: str) -> None:
    format, values = preset(name), every_value(name)
    rng = np.random.default_rng(len(name))
    exponents = rng.integers(-30, 20, 50_000)
    random = rng.standard_normal(50_000) * np.exp2(exponents)
    middles = (values[:-1] + values[1:]) / 2
    near = [np.nextafter(middles.astype(np.float32), np.float32(s)) for s in (-np.inf, np.inf)]
    every = np.concatenate([random, middles, *near])
    x = torch.from_numpy(every.astype(np.float32))
    x = x[x.abs() <= format.grid.largest]
    expected = x.to(_TORCH[name][0]).float()
    assert torch.equal(format.quantize(x, Rounding.HALF_EVEN)[0], expected)
    if format.carrier is not None:
        integers = format.to_integers(x.double().numpy(), Rounding.HALF_EVEN)
        assert format.from_integers(integers).tolist() == expected.double().tolist()


def test_beyond_the_largest_value_it_saturates_where_torch_overflows() -> None:
    x = torch.tensor([65519.0, 65520.0, -1e30])
    assert preset("fp16").quantize(x, Rounding.HALF_EVEN)[0].tolist() == [65504, 65504, -65504]
    assert x.half().tolist() == [65504, np.inf, -np.inf]


def test_fp32_is_float32() -> None:
    x = torch.from_numpy(np.random.default_rng(1).standard_normal(10_000))
    x = torch.cat([x, x * 1e-42, x * 1e37, torch.tensor([2.0**-150, 3 * 2.0**-150])])
    assert torch.equal(preset("fp32").quantize(x, Rounding.HALF_EVEN)[0], x.float().double())


# OCP 8-bit Floating Point 1.0 table 2; OCP Microscaling 1.0 tables 1 and 2; IEEE 754 table 3.5.
@pytest.mark.parametrize(
    ("name", "largest", "smallest_normal", "smallest"),
    [
        ("fp8_e4m3", 448.0, 2.0**-6, 2.0**-9),
        ("fp8_e5m2", 57344.0, 2.0**-14, 2.0**-16),
        ("fp6_e3m2", 28.0, 0.25, 0.0625),
        ("fp6_e2m3", 7.5, 1.0, 0.125),
        ("fp4_e2m1", 6.0, 1.0, 0.5),
        ("fp16", 65504.0, 2.0**-14, 2.0**-24),
        ("bf16", 3.3895313892515355e38, 2.0**-126, 2.0**-133),
        ("fp32", 3.4028234663852886e38, 2.0**-126, 2.0**-149),
    ],
)
def test_ranges(name: str, largest: float, smallest_normal: float, smallest: float) -> None:
    format = preset(name)
    assert format.grid.largest == largest
    for sign in (1.0, -1.0):
        x = torch.tensor([np.inf, 0.51 * smallest, 0.49 * smallest, smallest_normal]).double()
        result = format.quantize(sign * x, Rounding.HALF_EVEN)[0] * sign
        assert result.tolist() == [largest, smallest, 0.0, smallest_normal]
    # Below the smallest normal number the steps no longer shrink.
    below = smallest_normal - smallest
    x = torch.tensor([below, below - 0.6 * smallest]).double()
    result = format.quantize(x, Rounding.HALF_EVEN)[0]
    assert result.tolist() == [below, max(below - smallest, 0.0)]


def test_fp4_levels() -> None:
    format = preset("fp4_e2m1")
    levels = format.levels()
    assert levels is not None
    positive = [0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
    expected = [-v for v in reversed(positive)] + [0.0, *positive]
    assert format.from_integers(levels).tolist() == expected
    assert str(format.held()) == "s5.1"


def _denormal(format: MinifloatDenorm) -> set[Fraction]:
    m, e = format.mantissa_width, format.exponent_width
    return {
        sign * k * Fraction(2) ** (field - format.exponent_bias - m)
        for sign in (1, -1)
        for k in range(1 << m)
        for field in range(1 << e)
    }


@given(st.integers(3, 8), st.integers(1, 4), st.integers(-3, 9))
def test_denormal_levels_are_as_defined(width: int, exponent_width: int, bias: int) -> None:
    format = MinifloatDenorm(width, min(exponent_width, width - 2), bias)
    levels = format.levels()
    assert levels is not None
    assert {Fraction(v) for v in format.from_integers(levels).tolist()} == _denormal(format)
    coding = format.coding(format.integers(format.from_integers(levels)))
    assert coding.width == width
    assert coding.codes.max() < 1 << width


@given(st.integers(2, 6), st.integers(-3, 9))
def test_powers_of_two_are_as_defined(width: int, bias: int) -> None:
    format = Log(width, bias)
    levels = format.levels()
    assert levels is not None
    powers = [Fraction(2) ** (e - bias) for e in range(1, 1 << (width - 1))]
    expected = sorted([*powers, Fraction(0), *(-p for p in powers)])
    assert [Fraction(v) for v in format.from_integers(levels).tolist()] == expected
    # The nearest in value: 1.45 is nearer to 1, though its logarithm is nearer to that of 2.
    top = float(powers[-1])
    x = torch.tensor([1.45 * top / 2, 1.55 * top / 2], dtype=torch.float64)
    assert format.quantize(x, Rounding.HALF_UP)[0].tolist()[1] == top
    if width > 2:
        assert format.quantize(x, Rounding.HALF_UP)[0].tolist()[0] == top / 2


def test_wide_exponents_of_constants_share_a_carrier_where_they_can() -> None:
    format = Log(8, 63)
    assert format.carrier is None
    constants = format.integers(np.array([0.0, 0.25, -4.0, 64.1]))
    assert constants.values.tolist() == [0, 1, -16, 256]
    assert str(constants.carrier) == "s10.2"
    assert format.coding(constants).codes.tolist() == [0, 1, 128 + 5, 9]
    with pytest.raises(FormatError) as caught:
        format.integers(np.array([2.0**-40, 2.0**40]))
    assert str(caught.value) == (
        "log8b63: constants from 2^-40 to 2^40 need integers of 82 bits, of at most 62; "
        "use fewer bits"
    )


def test_the_bias_is_calibrated_where_it_is_not_given() -> None:
    values = np.random.default_rng(2).standard_normal(4000) * 0.02
    format = MinifloatIeee.fit(values, Options(width=4, exponent_width=2, reserved="none"))
    error = [
        float(((f.from_integers(f.to_integers(values)) - values) ** 2).mean())
        for f in (MinifloatIeee(4, 2, bias, "none") for bias in range(-8, 16))
    ]
    assert format.exponent_bias == int(np.argmin(error)) - 8
    assert MinifloatIeee.fit(values, Options(width=4, exponent_width=2, exponent_bias=1)) == (
        MinifloatIeee(4, 2, 1)
    )


@pytest.mark.parametrize(
    ("width", "exponent_width", "bias", "reserved", "message"),
    [
        (8, 9, 3, "none", "minifloat_ieee: exponent_width must be in 1..8, got 9"),
        (
            5, 4, 3, "none",
            "minifloat_ieee: width must be in 6..32 (a sign, 4 bits of exponent, at least one of "
            "mantissa), got 5",
        ),
        (
            8, 4, 3, "nan",
            "minifloat_ieee: nothing is reserved by 'nan'; use code, exponent, none",
        ),
        (
            8, 1, 3, "exponent",
            "minifloat_ieee: one bit of exponent leaves no numbers beside the reserved; "
            "set exponent_width to at least 2",
        ),
        (
            8, 4, 3000, "none",
            "floating point: levels from 2^-3002 to 2^-2984 with 3 bits of mantissa leave float64; "
            "use an exponent_bias nearer to zero",
        ),
    ],
)  # fmt: skip
def test_refused(width: int, exponent_width: int, bias: int, reserved: str, message: str) -> None:
    with pytest.raises(FormatError) as caught:
        MinifloatIeee(width, exponent_width, bias, reserved)
    assert str(caught.value) == message
