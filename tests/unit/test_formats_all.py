"""What every number format of the registry promises; a new one is tested by being registered."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chop.errors import ConfigError, FormatError
from chop.formats.base import Coding, Format, Integers, Options
from chop.formats.calibrate import sqnr_db
from chop.formats.registry import (
    FORMATS,
    format_class,
    formats,
    hardware_formats,
    preset_options,
    required_options,
)
from chop.formats.rounding import Floats, Ints, Rounding

NAMES = tuple(name for name in FORMATS if name != "NA")
_SHAPE = (3, 10)
# What is drawn for an option where the format needs it or has a use for it.
_DRAWN: dict[str, st.SearchStrategy[Any]] = {
    "width": st.integers(4, 8),
    "exponent_width": st.integers(2, 4),
    "block_size": st.sampled_from([1, 3, 4, 10, 16]),
    "per_channel": st.booleans(),
}
_PLAIN: dict[str, Any] = {"width": 6, "exponent_width": 3}
_TINY = 1e-290
_RARE = (0.0, -0.0, 0.5, -0.5, np.nextafter(0.5, 0), -1.5, 2.5, _TINY, -_TINY, 1e30, -1e30)


def plainly(name: str, values: Floats, **more: Any) -> Format:
    """Returns the format of that name with as few options as it takes."""
    needed = {o: _PLAIN[o] for o in required_options(name)}
    options = preset_options(name, Options(**{**needed, **more}))
    return format_class(name).fit(values, options)


@st.composite
def formats_named(draw: st.DrawFn, name: str) -> Format:
    understood = format_class(name).options
    preset = preset_options(name, Options())
    options = {}
    for option, strategy in _DRAWN.items():
        if option in understood and getattr(preset, option) in (None, False):
            options[option] = draw(strategy)
    if {"width", "exponent_width"} <= set(options):
        options["exponent_width"] = min(options["exponent_width"], options["width"] - 2)
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    fitted = rng.standard_normal(_SHAPE) * 2.0 ** draw(st.integers(-12, 12))
    return format_class(name).fit(fitted, preset_options(name, Options(**options)))


@st.composite
def arrays_for(draw: st.DrawFn, format: Format) -> Floats:
    """Reals of every size around the format's, rare ones, and levels themselves."""
    rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    array = rng.standard_normal(_SHAPE) * 2.0 ** draw(st.integers(-14, 14))
    coarse = 2.0 ** draw(st.integers(-4, 6))
    if draw(st.booleans()):
        array = np.round(array * coarse) / coarse
    for position, value in zip((3, 11, 17, 25), draw(st.permutations(_RARE)), strict=False):
        array.flat[position] = value
    if draw(st.booleans()):
        array[:, ::2] = fake(format, array, Rounding.HALF_UP)[:, ::2]
    return array


def fake(format: Format, values: Floats, rounding: Rounding) -> Floats:
    result: Floats = format.quantize(torch.from_numpy(values), rounding)[0].numpy()
    return result


def real(integers: Integers) -> Floats:
    """The definition: values * 2^-frac_width * scale, channels on axis 0."""
    values = np.ldexp(integers.values.astype(np.float64), -integers.carrier.frac_width)
    if integers.scale is None:
        return values
    factors = np.array([float(f) for f in integers.scale.factors])
    result: Floats = values * factors.reshape(-1, *([1] * (values.ndim - 1)))
    return result


def decoded(coding: Coding, constants: Integers, format: Format) -> Ints:
    """What `chop_product.sv` takes a code for, element by element."""
    result = []
    for code, integer in zip(
        coding.codes.reshape(-1).tolist(), constants.values.reshape(-1).tolist(), strict=True
    ):
        # Plain integers are stored in two's complement by whoever writes the ROM.
        word = code if coding.kind == "integer" else code & ((1 << coding.width) - 1)
        assert coding.kind == "integer" or word == code
        exponent_width = coding.parameters.get("ExponentWidth", 0)
        mantissa_width = coding.parameters.get("MantissaWidth", 0)
        sign = word >> (coding.width - 1)
        if coding.kind == "integer":
            assert constants.carrier.low <= word <= constants.carrier.high
            value = word
        elif coding.kind == "binary":
            value = 1 if word else -1
        elif coding.kind == "ternary":
            value = word - (4 if word >= 2 else 0)
        elif coding.kind in ("log", "minifloat"):
            assert coding.width == 1 + exponent_width + mantissa_width
            exponent = (word >> mantissa_width) & ((1 << exponent_width) - 1)
            mantissa = word & ((1 << mantissa_width) - 1)
            leading = 1 << mantissa_width if exponent else 0
            value = (mantissa + leading) << max(exponent - 1, 0)
            value = -value if sign else value
        else:
            assert coding.kind == "mxint"
            value = word - (sign << coding.width)
            result.append(value)
            continue
        assert value == integer
        result.append(value)
    return np.array(result).reshape(coding.codes.shape)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_fake_quantised_is_what_the_integers_say(name: str, data: st.DataObject) -> None:
    format = data.draw(formats_named(name))
    array = data.draw(arrays_for(format))
    for mode in Rounding:
        before = array.copy()
        quantised = fake(format, array, mode)
        assert array.tolist() == before.tolist(), "it wrote to its argument"
        assert quantised.shape == array.shape
        # On a level it stays.
        assert fake(format, quantised, mode).tolist() == quantised.tolist()
        if format.carrier is None:
            continue
        integers = format.to_integers(array, mode)
        assert integers.dtype == np.int64
        assert format.from_integers(integers).tolist() == quantised.tolist()
        assert format.to_integers(quantised, mode).tolist() == integers.tolist()
        assert format.held().low <= format.low <= integers.min()
        assert integers.max() <= format.high <= format.held().high
        levels = format.levels()
        assert levels is None or np.isin(integers, levels).all()


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_constants_are_stored_exactly(name: str, data: st.DataObject) -> None:
    format = data.draw(formats_named(name))
    if not format.hardware:
        with pytest.raises(FormatError, match="has no integers"):
            format.to_integers(np.zeros(3))
        return
    array = data.draw(arrays_for(format))
    chosen = format.kind in ("log", "mxint")
    if chosen and format.carrier is None:
        # The carrier is that of the exponents that occur: these must not lie too far apart.
        array = np.where(np.abs(array) < 1e-3, 0.0, np.clip(array, -1e3, 1e3))
    for mode in Rounding:
        if format.carrier is None and not chosen:
            with pytest.raises(FormatError):
                format.integers(array, mode)
            continue
        constants = format.integers(array, mode)
        assert real(constants).tolist() == fake(format, array, mode).tolist()
        assert constants.carrier.low <= constants.values.min()
        assert constants.values.max() <= constants.carrier.high
        coding = format.coding(constants)
        assert coding.codes.shape == array.shape
        decoded(coding, constants, format)
        if coding.kind not in ("integer", "mxint"):
            assert coding.width == format.bits


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_quantising_is_monotone(name: str, data: st.DataObject) -> None:
    format = data.draw(formats_named(name))
    a, b = np.sort([data.draw(arrays_for(format)), data.draw(arrays_for(format))], axis=0)
    if "block_size" in format.options:
        # Within a block that keeps its exponent: all alike but one element below the largest.
        largest = 2.0 ** data.draw(st.integers(-6, 6)) * 1.25
        a, b = np.clip(a, -largest, largest), np.clip(b, -largest, largest)
        size = getattr(format, "block_size", 1)
        a[:, ::size] = b[:, ::size] = largest
    for mode in Rounding:
        assert (fake(format, a, mode) <= fake(format, b, mode)).all()


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_boundaries_are_where_the_rounding_changes(name: str, data: st.DataObject) -> None:
    format = data.draw(formats_named(name))
    if format.carrier is None or "block_size" in format.options:
        return
    levels = format.levels()
    if levels is None:
        if format.high - format.low > 600:
            return
        levels = np.arange(format.low, format.high + 1)
    if len(levels) > 600:
        # Those of fp16 are compared with torch's, and every middle between them.
        return
    scale = format.scale
    factors = scale.factors if scale is not None else (Fraction(1),)
    for mode in Rounding:
        boundaries = format.boundaries(mode)
        assert len(boundaries) == len(levels) - 1
        assert all(x.at < y.at for x, y in pairwise(boundaries))
        for index in range(len(boundaries)):
            step = Fraction(2) ** -format.held().frac_width
            exact = [boundaries[index].at * step * factor for factor in factors]
            at = np.array([float(e) for e in exact])
            assert [Fraction(v) for v in at.tolist()] == exact, "not a float: test another scale"
            for moved, reached in (
                (np.nextafter(at, -np.inf), False),
                (at, boundaries[index].inclusive),
                (np.nextafter(at, np.inf), True),
            ):
                # Smaller numbers still may be lost to a power of two.
                visible = np.where(
                    moved == 0, 0.0, np.copysign(np.maximum(abs(moved), _TINY), moved)
                )
                got = format.to_integers(visible[:, np.newaxis], mode)
                assert (got == levels[index + reached]).all(), (mode, index, moved)


@pytest.mark.parametrize("name", NAMES)
def test_channels_are_fitted_one_by_one(name: str) -> None:
    rng = np.random.default_rng(3)
    values = rng.standard_normal((4, 3, 5)) * np.array([1.0, 30.0, 0.01, 7.0])[:, None, None]
    if "per_channel" not in format_class(name).options:
        with pytest.raises(FormatError, match="has no option 'per_channel'"):
            plainly(name, values, per_channel=True)
        return
    together = plainly(name, values, per_channel=True)
    for rounding in Rounding:
        alone = [fake(plainly(name, row), row, rounding) for row in values]
        assert fake(together, values, rounding).tolist() == np.stack(alone).tolist()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_number(name: str) -> None:
    rng = np.random.default_rng(4)
    format = plainly(name, rng.standard_normal((4, 32)))
    values = np.zeros((4, 32))
    values[1, 3], values[2, 5] = np.inf, -np.inf
    for mode in Rounding:
        finite = fake(format, values, mode)
        assert np.isfinite(finite).all()
        assert finite[1, 3] > 0 > finite[2, 5]
        values[0, 0] = np.nan
        assert np.isnan(fake(format, values, mode)[0, 0])
        values[0, 0] = 0.0
    with pytest.raises(FormatError, match="calibration values must be finite"):
        plainly(name, values)
    if format.carrier is not None:
        values[0, 0] = np.nan
        with pytest.raises(FormatError, match="cannot quantise NaN"):
            format.to_integers(values)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_float32_layouts_and_the_gradient(name: str, data: st.DataObject) -> None:
    format = data.draw(formats_named(name))
    array = data.draw(arrays_for(format)).astype(np.float32)
    x = torch.from_numpy(array)
    for mode in Rounding:
        result, inside = format.quantize(x, mode)
        assert result.dtype == torch.float32
        turned = torch.from_numpy(np.asfortranarray(array))
        assert format.quantize(turned, mode)[0].tolist() == result.tolist()
        if not {"scale", "per_channel"} & format.options:
            # Levels that are powers of two apart are as exact in float32.
            double = format.quantize(x.double(), mode)[0].float()
            assert double.tolist() == result.tolist()
        if inside is not None:
            assert (inside.shape, inside.dtype) == (x.shape, x.dtype)
            assert set(inside.reshape(-1).tolist()) <= {0.0, 1.0}
            assert inside.min() == 0
            # Where no gradient passes, values are at an end: further out nothing changes.
            outward = torch.where(inside == 0, x * 1.5, x)
            if "block_size" not in format.options:
                assert format.quantize(outward, mode)[0].tolist() == result.tolist()


@pytest.mark.parametrize("name", NAMES)
def test_options_are_checked(name: str) -> None:
    values = np.linspace(-1, 1, 12).reshape(3, 4)
    unknown = {
        "frac_width": 2,
        "exponent_width": 3,
        "exponent_bias": 3,
        "block_size": 4,
        "scale": 0.5,
    }
    for option, value in unknown.items():
        if option in format_class(name).options:
            continue
        with pytest.raises(FormatError) as caught:
            plainly(name, values, **{option: value})
        kind = format_class(name).kind
        assert str(caught.value).startswith(f"{kind}: has no option '{option}'; it takes ")
    for option in sorted(required_options(name)):
        with pytest.raises(FormatError) as caught:
            plainly(name, values, **{option: None})
        assert str(caught.value) == f"{format_class(name).kind}: needs the option '{option}'"
    with pytest.raises(FormatError) as caught:
        plainly(name, values, calibration="mean")
    kind = format_class(name).kind
    assert str(caught.value) == f"{kind}: no calibration 'mean'; use kl, max, mse, percentile"


@pytest.mark.parametrize("name", NAMES)
def test_every_calibration_gives_a_signal(name: str) -> None:
    values = np.random.default_rng(5).standard_normal((8, 40)) * 0.7
    for calibration in ("max", "percentile", "mse", "kl"):
        format = plainly(name, values, calibration=calibration)
        # A sign alone is worth 4.4 dB on a normal distribution.
        assert sqnr_db(values, format) > 4
        assert plainly(name, values, calibration=calibration) == format


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 0), (2, 3, 4, 5)])
def test_shapes(name: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(6)
    values = np.asarray(rng.standard_normal(shape))
    per_channel = "per_channel" in format_class(name).options and len(shape) > 1
    format = plainly(name, values, **({"per_channel": True} if per_channel else {}))
    for mode in Rounding:
        assert fake(format, values, mode).shape == shape
        if format.carrier is not None:
            assert format.to_integers(values, mode).shape == shape


@pytest.mark.parametrize("name", NAMES)
def test_all_zero_values(name: str) -> None:
    values = np.zeros((3, 4))
    format = plainly(name, values)
    if name not in ("binary", "binary_residual"):
        assert fake(format, values, Rounding.HALF_UP).tolist() == values.tolist()


def test_names() -> None:
    assert set(NAMES) >= {
        "integer", "fixed", "binary", "ternary", "log", "minifloat_denorm", "minifloat_ieee",
        "block_fp", "block_minifloat", "block_log", "mxint", "scaled_integer", "binary_residual",
    }  # fmt: skip
    assert formats() == tuple(FORMATS)
    assert format_class("integer") is format_class("fixed")
    assert format_class("power_of_two") is format_class("log")
    for name in NAMES:
        kind = format_class(name).kind
        assert format_class(kind) is format_class(name)
        assert name in (kind, "integer", "power_of_two") or not required_options(name)
    for role in ("weight", "bias", "data"):
        listed = hardware_formats(role)
        assert all(role in format_class(name).hardware for name in listed)
        assert {format_class(name) for name in listed} == {
            format_class(name) for name in NAMES if role in format_class(name).hardware
        }
    assert hardware_formats("bias") == ("fixed", "scaled_integer")
    with pytest.raises(ConfigError) as caught:
        format_class("minifloat_iee")
    assert str(caught.value) == "no format 'minifloat_iee'; did you mean 'minifloat_ieee'?"
    with pytest.raises(ConfigError) as caught:
        format_class("NA")
    assert str(caught.value) == "format 'NA' leaves a layer in floating point: it has no levels"


def test_a_preset_says_what_it_stands_for() -> None:
    filled = preset_options("fp8_e4m3", Options(calibration="max", exponent_width=4))
    assert filled == Options(
        width=8, exponent_width=4, exponent_bias=7, reserved="code", calibration="max"
    )
    with pytest.raises(FormatError) as caught:
        preset_options("fp8_e4m3", Options(width=6))
    assert str(caught.value) == (
        "fp8_e4m3: width is 8, got 6; leave it out, or name the format minifloat_ieee"
    )
    assert preset_options("mxint", Options(width=5)) == Options(width=5)
