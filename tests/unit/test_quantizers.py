"""Training algorithms: gradients against closed forms, and evaluation equal to the format."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from chop.errors import ConfigError
from chop.formats.base import Format
from chop.formats.binary import Binary
from chop.formats.fixed import Fixed
from chop.formats.log import Log
from chop.formats.rounding import Rounding
from chop.formats.scaled import Scaled
from chop.formats.ternary import Ternary
from chop.nn.layers import QuantizedLayer
from chop.nn.quantizer import Moment, Quantizer, Role
from chop.nn.quantizers.ana import Ana
from chop.nn.quantizers.lsq import Lsq
from chop.nn.quantizers.pact import Pact
from chop.nn.quantizers.registry import ALGORITHMS, create_quantizer
from chop.nn.quantizers.sawb import COEFFICIENTS, sawb_clip
from chop.nn.quantizers.tqt import Tqt
from chop.nn.straight_through import straight_through

Result = tuple[torch.Tensor, torch.Tensor, torch.Tensor]

scales = st.floats(2.0**-8, 4.0, width=32)
roundings = st.sampled_from(list(Rounding))
seeds = st.integers(0, 1 << 30)


def _draw(seed: int, shape: tuple[int, ...], spread: float) -> torch.Tensor:
    """Returns float64 values, some of them far out."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    return x * spread * torch.exp(torch.randn(shape, generator=generator, dtype=torch.float64))


def _run(quantizer: Quantizer, x: torch.Tensor, own: torch.nn.Parameter | None) -> Result:
    """Returns a random upstream gradient, the gradient of x and that of the own parameter."""
    x = x.clone().requires_grad_()
    y = quantizer.double().train()(x)
    grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y.backward(grad)
    assert x.grad is not None
    return grad, x.grad, x.grad if own is None or own.grad is None else own.grad


def _round(x: torch.Tensor, rounding: Rounding) -> torch.Tensor:
    if rounding is Rounding.HALF_EVEN:
        return x.round()
    floor = x.floor()
    return floor if rounding is Rounding.FLOOR else floor + ((x - floor) >= 0.5).double()


def _create(
    name: str, format: Format, role: Role = "weight", rounding: Rounding = Rounding.HALF_UP,
    values: torch.Tensor | None = None, **options: Any,
) -> Quantizer:  # fmt: skip
    values = _draw(0, (4, 6), 1.0) if values is None else values
    return create_quantizer(name, values.numpy(), format, role, options, rounding)


def _bracket(
    r: torch.Tensor, low: int, high: int, rounding: Rounding
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns dy/ds of y = s clip(round(x / s)), and where r = x / s is inside."""
    inside = (r >= low) & (r <= high)
    outside = torch.where(r < low, float(low), float(high))
    return torch.where(inside, _round(r, rounding) - r, outside), inside


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(2, 8), scales, st.booleans(), st.booleans(), roundings)
def test_ste(
    seed: int, width: int, scale: float, signed: bool, fixed: bool, rounding: Rounding
) -> None:
    format = Fixed(width, 3, signed) if fixed else Scaled(width, (scale,), signed)
    step = 0.125 if fixed else scale
    x = _draw(seed, (5, 7), step * 2**width / 4)
    # The ends are inside.
    x[0, 0], x[0, 1] = format.low * step, format.high * step
    grad, to_x, _ = _run(_create("ste", format, rounding=rounding), x, None)
    inside = (x / step >= format.low) & (x / step <= format.high)
    assert torch.equal(to_x, grad * inside)


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(2, 8), scales, st.booleans(), st.booleans(), roundings)
def test_lsq(
    seed: int, width: int, scale: float, signed: bool, data: bool, rounding: Rounding
) -> None:
    x = _draw(seed, (5, 7), scale * 2**width / 4)
    quantizer = _create(
        "lsq", Scaled(width, (scale,), signed), "data" if data else "weight", rounding
    )
    assert isinstance(quantizer, Lsq)
    grad, to_x, to_step = _run(quantizer, x, quantizer.step)
    low, high = quantizer.format.low, quantizer.format.high
    bracket, inside = _bracket(x / scale, low, high, rounding)
    count = 7 if data else 35
    assert torch.equal(to_x, grad * inside)
    torch.testing.assert_close(to_step, (grad * bracket).sum() / math.sqrt(count * high))


@settings(max_examples=20, deadline=None)
@given(seeds, st.integers(2, 8), st.lists(scales, min_size=4, max_size=4, unique=True), roundings)
def test_lsq_per_channel(seed: int, width: int, steps: list[float], rounding: Rounding) -> None:
    x = _draw(seed, (4, 3, 2), 2.0)
    quantizer = _create("lsq", Scaled(width, tuple(steps), symmetric=True), rounding=rounding)
    assert isinstance(quantizer, Lsq)
    grad, to_x, to_step = _run(quantizer, x, quantizer.step)
    high = 2 ** (width - 1) - 1
    r = x / torch.tensor(steps, dtype=torch.float64).reshape(4, 1, 1)
    bracket, inside = _bracket(r, -high, high, rounding)
    assert torch.equal(to_x, grad * inside)
    expected = (grad * bracket).sum((1, 2)) / math.sqrt(6 * high)
    torch.testing.assert_close(to_step, expected)


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(2, 8), st.integers(-4, 6), st.booleans(), st.booleans(), roundings)
def test_tqt(
    seed: int, width: int, frac: int, signed: bool, symmetric: bool, rounding: Rounding
) -> None:
    step = 2.0**-frac
    start: Format = Fixed(width, frac, signed)
    if symmetric:
        start = Scaled(width, (step, step / 4, step), symmetric=True)
    x = _draw(seed, (3, 7), step * 2**width / 4)
    quantizer = _create("tqt", start, rounding=rounding)
    assert isinstance(quantizer, Tqt)
    assert quantizer.format == start
    grad, to_x, to_log = _run(quantizer, x, quantizer.log2_t)
    steps = torch.tensor(start.scales if isinstance(start, Scaled) else (step,)).double()
    bracket, inside = _bracket(x / steps[:, None], start.low, start.high, rounding)
    assert torch.equal(to_x, grad * inside)
    expected = (grad * bracket * steps[:, None] * math.log(2)).sum(1)
    torch.testing.assert_close(to_log, expected if symmetric else expected.sum())


def test_tqt_doubles_where_the_threshold_passes_a_power_of_two() -> None:
    quantizer = _create("tqt", Fixed(8, 5))
    assert isinstance(quantizer, Tqt)
    found = []
    with torch.no_grad():
        for log2_t in (1.0, 1.01, 2.0, 2.01):
            quantizer.log2_t.fill_(log2_t)
            found.append(quantizer.format)
    assert found == [Fixed(8, 6), Fixed(8, 5), Fixed(8, 5), Fixed(8, 4)]


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(2, 8), st.floats(0.25, 8.0, width=32), st.booleans())
def test_pact(seed: int, width: int, alpha: float, signed: bool) -> None:
    x = _draw(seed, (5, 7), alpha)
    x[0, 0], x[0, 1], x[0, 2] = alpha, -alpha, 0.0
    quantizer = _create("pact", Scaled(width, (1.0,), signed), "data", alpha=alpha)
    assert isinstance(quantizer, Pact)
    grad, to_x, to_alpha = _run(quantizer, x, quantizer.alpha)
    above, below = x >= alpha, x <= -alpha
    inside = ~above & (~below if signed else x >= 0)
    assert torch.equal(to_x, grad * inside)
    ends = above.double() - (below.double() if signed else 0.0)
    torch.testing.assert_close(to_alpha, (grad * ends).sum())
    assert quantizer.format.high * quantizer.format.scales[0] == pytest.approx(alpha, rel=1e-6)
    assert quantizer.tuning.weight_decay == 1e-4


@settings(max_examples=20, deadline=None)
@given(seeds, st.sampled_from([2, 3, 4]), st.booleans())
def test_sawb(seed: int, width: int, per_channel: bool) -> None:
    weight = _draw(seed, (4, 30), 0.3)
    start = (0.1,) * 3 + (0.2,) if per_channel else (0.1,)
    quantizer = _create("sawb", Scaled(width, start), values=weight)
    high = 2 ** (width - 1) - 1
    first, second = COEFFICIENTS[high]
    rows = weight.numpy() if per_channel else weight.numpy().reshape(1, -1)
    clips = first * np.sqrt((rows**2).mean(1)) - second * np.abs(rows).mean(1)
    clips = np.where(clips > 0, clips, np.abs(rows).max(1))
    format = quantizer.format
    assert isinstance(format, Scaled)
    assert (format.low, format.high) == (-high, high)
    np.testing.assert_allclose(np.array(format.scales) * high, clips, rtol=1e-6)
    grad, to_x, _ = _run(quantizer, weight, None)
    r = weight / torch.tensor(format.scales).double()[:, None]
    assert torch.equal(to_x, grad * ((r >= -high) & (r <= high)))


def test_sawb_falls_back_to_the_maximum() -> None:
    # One size only: c1 sqrt(E w^2) - c2 E|w| = (11.9 - 11.9) |w| is not positive.
    assert float(sawb_clip(torch.full((3, 3), -0.75), 7, per_channel=False)) == 0.75
    assert float(sawb_clip(torch.zeros(3, 3), 7, per_channel=False)) == 1.0


def _closed_forms() -> dict[str, Callable[[float], float]]:
    """Distribution functions written down once more, in plain Python."""
    return {
        "uniform": lambda u: min(max((u + 1) / 2, 0.0), 1.0),
        "triangular": lambda u: (
            0.0
            if u <= -1
            else (1 + u) ** 2 / 2
            if u <= 0
            else 1 - (1 - u) ** 2 / 2
            if u < 1
            else 1.0
        ),
        "normal": lambda u: (1 + math.erf(u / math.sqrt(2))) / 2,
        "logistic": lambda u: 1 / (1 + math.exp(-u)) if u > -700 else 0.0,
    }


@settings(max_examples=40, deadline=None)
@given(
    seeds, st.sampled_from(sorted(_closed_forms())), st.integers(1, 3), st.floats(0.1, 2.0),
    st.floats(0.125, 2.0, width=32),
)  # fmt: skip
def test_ana(seed: int, noise: str, high: int, spread: float, step: float) -> None:
    width = {1: 2, 2: 3, 3: 3}[high]
    format = Scaled(width, (step,), symmetric=True)
    high = format.high
    quantizer = _create("ana", format, noise=noise, spread=spread)
    x = _draw(seed, (3, 5), step * high)

    def expectation(value: float) -> float:
        cdf = _closed_forms()[noise]
        terms = [
            cdf((value - (k - 0.5) * step) / (spread * step)) for k in range(1 - high, high + 1)
        ]
        return step * (-high + sum(terms))

    values = quantizer.double().train()(x)
    expected = x.clone().apply_(expectation)
    torch.testing.assert_close(values, expected, rtol=1e-9, atol=1e-9)
    grad, to_x, _ = _run(quantizer, x, None)
    delta = 1e-6 * step
    for i, v in enumerate(x.flatten().tolist()):
        slope = (expectation(v + delta) - expectation(v - delta)) / (2 * delta)
        kinks = [abs(abs(v / step - (k - 0.5)) - spread) for k in range(1 - high, high + 1)]
        if noise == "uniform" and min(kinks) < 1e-5:
            continue  # No derivative there.
        assert float(to_x.flatten()[i] / grad.flatten()[i]) == pytest.approx(slope, abs=1e-4)


@settings(max_examples=20, deadline=None)
@given(seeds, st.sampled_from(["uniform", "triangular", "normal", "logistic"]), roundings)
def test_ana_without_noise_is_the_format(seed: int, noise: str, rounding: Rounding) -> None:
    quantizer = _create("ana", Scaled(3, (0.25,)), rounding=rounding, noise=noise).train()
    assert isinstance(quantizer, Ana)
    # Away from the thresholds, where any noise shows.
    x = ((_draw(seed, (3, 5), 0.5) * 32).floor() + 0.5) / 32
    quantizer.spread.zero_()
    leaf = x.clone().requires_grad_()
    y = quantizer(leaf)
    assert torch.equal(y, quantizer.format.quantize(x, rounding)[0])
    y.sum().backward()
    assert leaf.grad is None
    # And it is the limit of little noise.
    quantizer.spread.fill_(1e-7)
    assert torch.allclose(quantizer(x), y)


@settings(max_examples=20, deadline=None)
@given(seeds)
@pytest.mark.parametrize("name", ["inq", "rpr"])
def test_what_is_on_the_levels_has_no_gradient(name: str, seed: int) -> None:
    weight = _draw(seed, (4, 6), 0.5)
    stages = {"fractions": [0.5, 1.0]}
    quantizer = _create(name, Fixed(4, 2), values=weight, stages=stages).double()
    with torch.no_grad():
        quantizer.on_step(Moment(0, 1, 0, 10, seed), weight)
    where = quantizer.get_buffer("frozen" if name == "inq" else "fixed")
    grad, to_x, _ = _run(quantizer, weight, None)
    assert 0 < int(where.sum()) < weight.numel()
    assert torch.equal(to_x, grad * ~where)


EVALUATED: list[tuple[str, Format, Role]] = [
    ("ste", Fixed(8, 5), "weight"),
    ("ste", Scaled(4, (0.1, 0.2, 0.3, 0.4)), "weight"),
    ("lsq", Scaled(4, (0.3,), signed=False), "data"),
    ("lsq", Scaled(4, (0.1, 0.2, 0.3, 0.4)), "weight"),
    ("tqt", Fixed(4, 2), "data"),
    ("tqt", Scaled(4, (0.1, 0.2, 0.3, 0.4)), "weight"),
    ("pact", Scaled(4, (0.3,)), "data"),
    ("pact", Fixed(4, 2, signed=False), "data"),
    ("lsq", Ternary((0.25,)), "data"),
    ("tqt", Ternary((0.5, 0.25, 0.25, 1.0)), "weight"),
    ("pact", Ternary((0.3,)), "data"),
    ("sawb", Ternary((0.3,)), "weight"),
    ("inq", Ternary((0.3,)), "weight"),
    ("rpr", Binary((0.3,)), "weight"),
    ("inq", Log(4, 3), "weight"),
    ("rpr", Log(4, 3), "weight"),
    ("ana", Log(3, 3), "weight"),
    ("ana", Ternary((0.3,)), "weight"),
    ("ana", Binary((0.3,)), "data"),
    ("ste", Binary((0.3,)), "data"),
    ("sawb", Scaled(2, (0.3,)), "weight"),
    ("sawb", Scaled(4, (0.1, 0.2, 0.3, 0.4)), "weight"),
    ("inq", Fixed(4, 2), "weight"),
    ("rpr", Scaled(2, (0.5,), symmetric=True), "weight"),
    ("ana", Scaled(2, (0.5,), symmetric=True), "weight"),
]


@settings(max_examples=20, deadline=None)
@given(seeds, roundings, st.sampled_from([torch.float32, torch.float64]))
@pytest.mark.parametrize(("name", "format", "role"), EVALUATED)
def test_evaluation_is_exactly_the_format(
    name: str, format: Format, role: Role, seed: int, rounding: Rounding, dtype: torch.dtype
) -> None:
    quantizer = _create(name, format, role, rounding).to(dtype).eval()
    x = _draw(seed, (4, 6), 1.0).to(dtype)
    assert torch.equal(quantizer(x), quantizer.format.quantize(x, rounding)[0])
    if isinstance(format, Ternary | Binary):
        assert type(quantizer.format) is type(format)
    # What has no relaxation of its own trains on the very same levels.
    if name in ("ste", "lsq", "tqt", "pact", "sawb"):
        assert torch.equal(quantizer.train()(x), quantizer.eval()(x))


@pytest.mark.parametrize(("name", "format", "role"), EVALUATED)
def test_copies_and_saved_ones_are_the_same(name: str, format: Format, role: Role) -> None:
    quantizer = _create(name, format, role, Rounding.FLOOR)
    with torch.no_grad():
        for parameter in quantizer.parameters():
            parameter.mul_(1.25)
    x = _draw(3, (4, 6), 1.0).float()
    loaded = pickle.loads(pickle.dumps(quantizer))
    fresh = _create(name, format, role, Rounding.FLOOR)
    fresh.load_state_dict(quantizer.state_dict())
    for other in (copy.deepcopy(quantizer), loaded, fresh):
        assert other.format == quantizer.format
        assert torch.equal(other.eval()(x), quantizer.eval()(x))


def test_a_layer_that_raises_keeps_its_parameters() -> None:
    layer = QuantizedLayer("linear", nn.Linear(3, 2), {"weight": Fixed(4, 2), "bias": Fixed(8, 4)})
    weight, bias = layer.layer.weight, layer.layer.bias
    assert isinstance(weight, nn.Parameter)
    assert isinstance(bias, nn.Parameter)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        layer(torch.zeros(2, 5))
    assert layer.layer.weight is weight
    assert layer.layer.bias is bias
    assert [name for name, _ in layer.named_parameters()] == ["layer.weight", "layer.bias"]
    x = torch.randn(2, 3)
    layer(x).sum().backward()
    assert weight.grad is not None
    expected = nn.functional.linear(
        x, Fixed(4, 2).quantize(weight.detach(), Rounding.HALF_UP)[0],
        Fixed(8, 4).quantize(bias.detach(), Rounding.HALF_UP)[0],
    )  # fmt: skip
    assert torch.equal(layer(x), expected)


@pytest.mark.parametrize("rounding", list(Rounding))
def test_the_grid_rounds_as_the_formats_do(rounding: Rounding) -> None:
    below_half = float(np.nextafter(np.float32(0.5), np.float32(0)))
    x = torch.tensor([below_half, -below_half, 0.5, -0.5, 1.5, 2.5, -1.5, 127.5, 1e30, -1e30])
    for format in (Fixed(8, 0), Scaled(8, (1.0,), symmetric=True), Scaled(8, (0.25,))):
        expected = format.from_integers(format.to_integers(x.double().numpy(), rounding))
        got = straight_through(x, format, rounding)
        assert torch.equal(got, torch.from_numpy(expected).float())


@pytest.mark.parametrize(
    "format",
    [Fixed(8, frac) for frac in (-140, -130, -126, -124, 120, 124, 125, 126, 127, 130, 140)]
    + [Scaled(8, (scale,)) for scale in (2.0**-149, 2.0**-130, 1.5 * 2.0**-126, 2.0**120)],
    ids=str,
)
def test_extreme_steps_are_rounded_as_the_format_does(format: Fixed | Scaled) -> None:
    step = float(format.from_integers(np.array([1]))[0])
    x = (torch.linspace(-150, 150, 61, dtype=torch.float64) * step).float()
    assert torch.equal(
        straight_through(x, format, Rounding.HALF_UP), format.quantize(x, Rounding.HALF_UP)[0]
    )


@settings(max_examples=30, deadline=None)
@given(seeds, st.integers(3, 6), scales)
def test_inq_takes_the_papers_powers_of_two(seed: int, width: int, spread: float) -> None:
    weight = _draw(seed, (4, 6), spread)
    quantizer = _create("inq", Log(width, 0), values=weight)
    top = math.floor(math.log2(4 * float(weight.abs().max()) / 3))
    bottom = top + 1 - 2 ** (width - 2)
    paper = {0.0} | {sign * 2.0**k for sign in (1, -1) for k in range(bottom, top + 1)}
    levels = quantizer.format.levels()
    assert levels is not None
    reals = set(quantizer.format.from_integers(levels).tolist())
    assert paper <= reals
    assert max(reals) == 2.0**top
    rounded = quantizer.eval()(weight)
    assert float(rounded.abs().max()) == 2.0**top


@pytest.mark.parametrize(
    ("name", "format", "role", "options", "message"),
    [
        (
            "pact", Scaled(4, (0.5,)), "weight", {},
            "training algorithm 'pact': quantises data, not weight; "
            "use ana, inq, lsq, rpr, sawb, ste, tqt",
        ),
        (
            "inq", Scaled(4, (0.5,)), "data", {},
            "training algorithm 'inq': quantises weight, not data; use ana, lsq, pact, ste, tqt",
        ),
        ("lqs", Fixed(4, 2), "data", {}, "no training algorithm 'lqs'; did you mean 'lsq'?"),
        (
            "lsq", Fixed(4, 2), "data", {"inital": "mean"},
            "training algorithm 'lsq': unknown key 'inital'; did you mean 'initial'?",
        ),
        (
            "ste", Fixed(4, 2), "data", {"rate": 1.0},
            "training algorithm 'ste': unknown key 'rate'",
        ),
        (
            "inq", Fixed(4, 2), "weight", {"stages": {"fractions": [0.5, 0.25]}},
            "training algorithm 'inq': 'stages' must have fractions rising in (0, 1] up to 1, "
            "got [0.5, 0.25]",
        ),
        (
            "rpr", Fixed(4, 2), "weight", {"stages": {"fractions": [0.5, 1.0], "at": [3]}},
            "training algorithm 'rpr': 'stages' must have 2 rising numbers in at, one per "
            "fraction, got [3.0]",
        ),
        (
            "sawb", Fixed(8, 5), "weight", {},
            "training algorithm 'sawb': needs signed weights of 2 to 4 bits, got s8.5; use lsq",
        ),
        (
            "ana", Fixed(9, 5), "weight", {},
            "training algorithm 'ana': needs 2 to 256 levels, got 512 of s9.5; use lsq or ste",
        ),
        (
            "lsq", Fixed(1, 0), "weight", {},
            "training algorithm 'lsq': needs a positive level, got s1.0; use a larger width",
        ),
    ],
)  # fmt: skip
def test_wrong_use_is_one_line(
    name: str, format: Format, role: Role, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        create_quantizer(name, np.ones((2, 2)), format, role, options)
    assert str(caught.value) == message


def test_every_algorithm_is_known_by_its_own_name() -> None:
    for name, algorithm in ALGORITHMS.items():
        role: Role = "data" if algorithm.roles == {"data"} else "weight"
        assert _create(name, Scaled(2, (0.5,)), role).algorithm == name
