"""Clamps rounded once: against the definition in fractions; casts by powers of two in RTL."""

from __future__ import annotations

import random
from fractions import Fraction
from math import floor
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from chop.formats.base import Format
from chop.formats.fixed import Fixed
from chop.formats.rounding import Rounding
from chop.formats.scale import Scale
from chop.formats.scaled import Scaled
from chop.ir.tensor_type import TensorType
from chop.nn.fake_quantize import Cast
from chop.nn.result import Clamped, QuantizedResult
from chop.ops.base import Site
from chop.ops.scaled_clamp import ScaledClamp, ScaledClampAttributes
from chop.passes.graph.transforms.emitted import design_of
from tests.ops.designs import (
    Design,
    annotated,
    emitted,
    example_batch,
    fake_outputs,
    reference_outputs,
    scheduled,
)
from tests.ops.rtl_checks import simulation_faults

_MODES = st.sampled_from(list(Rounding))


def float32(value: float) -> float:
    return float(np.float32(value))


def rounded(value: Fraction, mode: Rounding) -> int:
    """The definition of the three modes."""
    if mode is Rounding.FLOOR:
        return floor(value)
    up = floor(value + Fraction(1, 2))
    tie = value + Fraction(1, 2) == up
    return up - 1 if mode is Rounding.HALF_EVEN and tie and up % 2 else up


@st.composite
def sites(draw: st.DrawFn) -> Site[ScaledClampAttributes]:
    # Coarse numbers, so that bounds and levels meet and ties occur.
    steps = st.one_of(
        st.sampled_from((0.25, 0.5, 1.0, 1.5, 3.0)), st.floats(0.05, 3.0).map(float32)
    )
    bounds = st.one_of(st.none(), st.sampled_from((-1.5, 0.0, 0.75, 6.0)), st.floats(-4.0, 8.0))
    signed = draw(st.booleans())
    format: Format = Scaled(draw(st.integers(2, 6)), (draw(steps),), signed)
    if draw(st.booleans()):
        format = Fixed(draw(st.integers(2, 8)), draw(st.integers(-1, 5)), signed)
    width, frac_width, count = draw(st.integers(2, 7)), draw(st.integers(0, 4)), 1
    if draw(st.booleans()):
        count = 3
    scale = Scale.of(np.array([draw(steps) for _ in range(count)]))
    low, high = draw(bounds), draw(bounds)
    attributes = ScaledClampAttributes(low, high, format, draw(_MODES))
    carrier = Fixed(width, frac_width)
    x = TensorType((3, 1 << width), carrier, carrier.low, carrier.high, scale=scale)
    if scale is not None:
        x = TensorType(x.shape, carrier, x.low, x.high, scale=scale.behind(1))
    return Site("clamp", attributes, (x,), {}, attributes.rounding, x, x)


@given(sites())
@settings(max_examples=150, deadline=None)
def test_it_is_the_definition_in_fractions(site: Site[ScaledClampAttributes]) -> None:
    (x,), a = site.inputs, site.attributes
    format = a.format
    assert format is not None
    # torch's order, for bounds that cross: the upper one holds.
    integers = np.tile(np.arange(x.low, x.high + 1), (3, 1))
    step = Fraction(1, 2) ** format.held().frac_width
    step *= 1 if format.scale is None else format.scale.factors[0]
    factors = (Fraction(1),) if x.scale is None else x.scale.factors
    wanted = []
    for row, factor in zip(integers, factors * (3 // len(factors)), strict=True):
        for integer in row.tolist():
            value = integer * factor / Fraction(2) ** x.fixed.frac_width
            value = value if a.low is None else max(value, Fraction(a.low))
            value = value if a.high is None else min(value, Fraction(a.high))
            level = rounded(value / step, a.rounding)
            wanted.append(min(max(level, format.low), format.high))
    op = ScaledClamp()
    found = op.evaluate(site, [integers[np.newaxis]])
    assert found.reshape(-1).tolist() == wanted
    type = op.infer(site)
    assert type.low <= min(wanted)
    assert max(wanted) <= type.high


def design(label: str, model: nn.Module, folder: Path) -> Design:
    rng, shape = random.Random(label), ((4,),)
    graph = scheduled(rng, annotated(model.eval(), example_batch(rng, shape, 32)))
    top = f"top_{label}"
    return emitted(label, graph, folder / top, top, rng, shape)


def modules(made: Design) -> list[str]:
    m = made.manifest
    netlist = design_of(made.graph, m.name, m.top, m.config_hash).netlist
    kinds = [instance.module for instance in netlist.instances]
    return [kind for kind in kinds if kind not in ("chop_fifo", "chop_width_converter")]


def test_rtl_where_scales_are_powers_of_two_and_where_a_format_clamps_alone(
    tmp_path: Path,
) -> None:
    """A cast that divides scales by a power of two shifts, but not by the fractions' difference."""
    half, third = Cast(Scaled(6, (0.5,))), Cast(Scaled(6, (float32(0.3),)))
    within = QuantizedResult(Clamped(-1.3, 2.6), Scaled(6, (0.25,)))
    saturating = QuantizedResult(Clamped(0.0, 6.0), Scaled(5, (6 / 32,), signed=False))
    networks = {
        "relu": (nn.Sequential(half, nn.ReLU(), Cast(Fixed(5, 2))), 2),
        "levels": (nn.Sequential(half, nn.Hardtanh(-1.0, 2.5), Cast(Fixed(6, 2))), 2),
        "doubled": (nn.Sequential(third, nn.ReLU(), Cast(Scaled(4, (2 * float32(0.3),)))), 2),
        "within": (nn.Sequential(third, within, Cast(Fixed(4, 1))), 3),
        "same": (nn.Sequential(third, nn.ReLU(), Cast(Scaled(4, (float32(0.3),)))), 1),
        "saturating": (nn.Sequential(third, saturating), 1),
    }
    designs = [design(label, model, tmp_path) for label, (model, _) in networks.items()]
    for made in designs:
        for fake, exact in zip(fake_outputs(made), reference_outputs(made), strict=True):
            assert np.array_equal(fake, exact), made.label
    assert simulation_faults(designs, 0) == []
    assert [len(modules(made)) for made in designs] == [count for _, count in networks.values()]
