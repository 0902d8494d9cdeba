"""Ranges found from data, and what fake quantisation makes of extreme ones."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chop.errors import FormatError
from chop.formats.base import Options
from chop.formats.binary import Binary
from chop.formats.binary_residual import BinaryResidual
from chop.formats.calibrate import choose_fixed, quantisation_error, sqnr_db
from chop.formats.divergence import divergences, thresholds
from chop.formats.fixed import Fixed
from chop.formats.mxint import MxInt
from chop.formats.rounding import Floats, Rounding
from chop.formats.scaled import Scaled
from chop.formats.ternary import Ternary

METHODS = ("max", "percentile", "mse", "kl")


def normal(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape)


def test_a_scale_of_255_over_200() -> None:
    for format in (
        Scaled(8, (200 / 255,), signed=False),
        Scaled.fit(np.array([15.0, 50, 200]), Options(width=8, signed=False, calibration="max")),
    ):
        for rounding in (Rounding.HALF_UP, Rounding.HALF_EVEN):
            integers = format.to_integers(np.array([15.0, 50.0, 200.0]), rounding)
            assert integers.tolist() == [19, 64, 255]


@pytest.mark.parametrize("signed", [True, False])
def test_max_saturates_nothing_and_wastes_nothing(signed: bool) -> None:
    values = np.abs(normal(100)) if not signed else normal(100)
    largest = np.abs(values).max()
    fixed = choose_fixed(values, 6, signed, calibration="max").format
    assert largest <= fixed.high * fixed.step < 2 * largest
    scaled = Scaled.fit(values, Options(width=6, signed=signed, calibration="max"))
    assert scaled.scales[0] == float(np.float32(largest / scaled.high))


def test_percentile_leaves_outliers_out() -> None:
    values = np.concatenate([np.linspace(-1, 1, 9999), [1000.0]])
    options = Options(width=8, calibration="percentile", percentile=99.9)
    assert Fixed.fit(values, options) == Fixed(8, 6)
    assert Scaled.fit(values, options).scales[0] == pytest.approx(1 / 127, rel=1e-2)
    assert Fixed.fit(values, Options(width=8, calibration="max")) == Fixed(8, -3)
    everything = Options(width=8, calibration="percentile", percentile=100.0)
    assert Fixed.fit(values, everything) == Fixed(8, -3)


def test_kl_leaves_outliers_out() -> None:
    values = np.concatenate([normal(20_000), [40.0, -40.0]])
    options = Options(width=8, calibration="kl")
    scaled, fixed = Scaled.fit(values, options), Fixed.fit(values, options)
    assert 2.5 < scaled.scales[0] * 127 < 10
    assert 2.5 < fixed.high * fixed.step < 10
    assert Scaled.fit(values, options) == scaled


def test_divergence_by_definition() -> None:
    """Four bins of 2048 hold values; clipping moves the last one's to the end of the range."""
    magnitudes = np.array([[0.3, 0.3, 0.6, 1.0]])
    # Nothing is clipped and every bin keeps its own level: nothing is lost.
    assert divergences(magnitudes, [1.0], [2048]).tolist() == [[0.0]]
    # Two levels of 1024 bins: the first has the two at 0.3, the second one each at 0.6 and 1.
    assert divergences(magnitudes, [1.0], [2])[0, 0] == pytest.approx(0.0)
    # One level: three full bins of 4/3 instead of 2, 1, 1.
    expected = sum(p * math.log(p / (1 / 3)) for p in (0.5, 0.25, 0.25))
    assert divergences(magnitudes, [1.0], [1])[0, 0] == pytest.approx(expected)
    assert thresholds(magnitudes, 5000).tolist() == [1.0]


@given(st.integers(0, 1000), st.integers(2, 8), st.booleans())
def test_no_near_scale_beats_the_chosen_one(seed: int, width: int, signed: bool) -> None:
    values = normal(300, seed=seed) * 0.37
    chosen = Scaled.fit(values, Options(width=width, signed=signed))
    error = quantisation_error(values, chosen)
    largest = np.abs(values).max() if signed else values.max()
    # On the coarse grid that is searched first, and at the largest value.
    for share in (1.0, 0.8, 0.6, 0.4, 0.2):
        other = Scaled(width, (float(share * largest / max(chosen.high, 1)),), signed)
        assert error <= quantisation_error(values, other) * (1 + 1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_channels_get_scales_of_their_own(method: str) -> None:
    values = normal(4, 500) * np.array([[1.0], [10.0], [0.01], [3.0]])
    format = Scaled.fit(values, Options(width=6, per_channel=True, calibration=method))
    # Both search the same shares of the largest value ("kl" tries fewer of them per channel).
    alone = [Scaled.fit(row, Options(width=6, calibration=method)).scales[0] for row in values]
    assert format.scales == pytest.approx(alone, rel=0.5 if method == "kl" else 0)
    together = Scaled.fit(values, Options(width=6, calibration=method))
    # The channel of the largest values alone sets the one scale, so the gain is elsewhere.
    small = values[2:3]
    assert sqnr_db(small, Scaled(6, format.scales[2:3])) > sqnr_db(small, together) + 10
    assert all(scale == float(np.float32(scale)) for scale in format.scales)


def test_a_channel_of_zeros_has_a_scale() -> None:
    values = np.array([[0.0, 0.0], [1.0, -2.0], [0.5, 0.1]])
    for method in METHODS:
        format = Scaled.fit(values, Options(width=8, per_channel=True, calibration=method))
        assert len(format.scales) == 3
        assert format.scales[0] == max(format.scales[1:])
    assert Scaled.fit(np.zeros(3), Options(width=8)).scales == (1.0,)


def test_scales_as_given() -> None:
    values = normal(2, 3)
    assert Scaled.fit(values, Options(width=8, scale=0.3)).scales == (float(np.float32(0.3)),)
    assert Binary.fit(values, Options(scale=(0.25, 2.0))).scales == (0.25, 2.0)
    with pytest.raises(FormatError) as caught:
        Ternary.fit(values, Options(scale=(1.0, 2.0, 3.0)))
    assert str(caught.value) == (
        "ternary: scale must be one number or one for each of the 2 channels, got 3"
    )


@given(st.integers(0, 1000), st.integers(1, 30))
def test_binary_and_ternary_scales_are_the_best(seed: int, count: int) -> None:
    values = normal(count, seed=seed) ** 3
    binary, ternary = Binary.fit(values, Options()), Ternary.fit(values, Options())
    assert binary.scales[0] == float(np.float32(np.abs(values).mean()))
    # Every set of the largest magnitudes at its mean, in turn.
    magnitudes = np.sort(np.abs(values))[::-1]
    errors = [
        ((magnitudes[:k] - magnitudes[:k].mean()) ** 2).sum() + (magnitudes[k:] ** 2).sum()
        for k in range(1, count + 1)
    ]
    assert quantisation_error(values, ternary) * count <= min(errors) * (1 + 1e-6) + 1e-12
    residual = BinaryResidual.fit(values, Options(width=1))
    assert quantisation_error(values, residual) == quantisation_error(values, binary)


def test_binary_residual_adds_terms() -> None:
    values = normal(1000)
    fits = [BinaryResidual.fit(values, Options(width=k)) for k in range(1, 6)]
    errors = [quantisation_error(values, format) for format in fits]
    # A term more takes at least a quarter off, here and on any normal distribution.
    assert all(b < 0.75 * a for a, b in pairwise(errors))
    format = BinaryResidual(((1.0, 0.25),))
    assert format.real_levels().tolist() == [[-1.25, -0.75, 0.75, 1.25]]
    x = torch.tensor([0.0, -1.0, 1.0, 9.0, 0.7])
    assert format.quantize(x, Rounding.HALF_UP)[0].tolist() == [0.75, -0.75, 1.25, 1.25, 0.75]
    # Ties to the even of the levels 0, 1, 2, 3; floor to the one below.
    assert format.quantize(x, Rounding.HALF_EVEN)[0].tolist() == [0.75, -1.25, 0.75, 1.25, 0.75]
    assert format.quantize(x, Rounding.FLOOR)[0].tolist() == [-0.75, -1.25, 0.75, 1.25, -0.75]


def test_the_sign_is_that_of_zero_in_every_mode() -> None:
    x = torch.tensor([0.0, -0.0, 1e-30, -1e-30, 5.0])
    for mode in Rounding:
        assert Binary((0.5,)).quantize(x, mode)[0].tolist() == [0.5, 0.5, 0.5, -0.5, 0.5]


def test_signal_to_noise_of_blocks_keeps_their_shape() -> None:
    values = normal(4, 8) * np.array([1.0, 100.0] * 4)
    by_rows = sqnr_db(values, MxInt(6, 8, 127, 1))
    assert by_rows > sqnr_db(values, MxInt(6, 8, 127, 2)) > 20
    assert sqnr_db(np.array([1.0, -0.5]), MxInt(6, 8, 127, 2)) == math.inf


@pytest.mark.parametrize("frac_width", [-140, -127, 126, 127, 140, 1030])
@pytest.mark.parametrize("rounding", list(Rounding))
def test_fractions_beyond_the_exponents_of_float32(frac_width: int, rounding: Rounding) -> None:
    format = Fixed(8, frac_width)
    x = torch.tensor([0.0, 1.0, -1.0, 2.0**-126, 2.0**120, np.inf, -np.inf])
    result, inside = format.quantize(x, rounding)
    exact = format.from_integers(format.to_integers(x.double().numpy(), rounding))
    assert result.tolist() == torch.from_numpy(exact).float().tolist()
    with np.errstate(over="ignore"):
        reals = np.ldexp(x.double().numpy(), frac_width)
    expected = (reals >= format.low) & (reals <= format.high)
    assert inside is not None
    assert inside.bool().tolist() == expected.tolist()


def test_where_nothing_is_clipped_there_is_no_mask() -> None:
    x = torch.tensor([-2.0, 0.3, 1.75])
    for format in (Fixed(4, 2), Scaled(4, (0.25,)), Scaled(4, (0.25, 0.5, 0.25))):
        assert format.quantize(x, Rounding.HALF_UP)[1] is None
        result, inside = format.quantize(x * 3, Rounding.HALF_UP)
        assert inside is not None
        assert inside[1] == 1
        assert inside[0] == 0
        assert result[0] < 0
    empty, inside = Fixed(4, 2).quantize(torch.empty(0), Rounding.HALF_UP)
    assert (empty.numel(), inside) == (0, None)


@given(st.lists(st.integers(-(1 << 22), 1 << 22), min_size=1, max_size=8), st.integers(-3, 3))
def test_float32_rounds_exactly(halves: list[int], ulps: int) -> None:
    """Values at, and a few floats beside, every half: where floor(x + 0.5) would go wrong."""
    x = np.array(halves, np.float32) / 2
    for _ in range(abs(ulps)):
        x = np.nextafter(x, np.float32(math.copysign(math.inf, ulps)))
    format = Fixed(24, 0)
    for mode in Rounding:
        expected = format.from_integers(format.to_integers(x.astype(np.float64), mode))
        assert format.quantize(torch.from_numpy(x), mode)[0].tolist() == expected.tolist()
