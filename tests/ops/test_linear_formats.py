"""The linear operator in every format that it has hardware for, of weights and of data."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from chop.errors import UnsupportedOpError
from chop.formats.base import Format
from chop.formats.binary import Binary
from chop.formats.fixed import Fixed
from chop.formats.log import Log
from chop.formats.minifloat_denorm import MinifloatDenorm
from chop.formats.minifloat_ieee import MinifloatIeee
from chop.formats.mxint import MxInt
from chop.formats.rounding import Rounding
from chop.formats.ternary import Ternary
from chop.nn.fake_quantize import Cast
from chop.nn.layers import QuantizedLayer
from chop.ops.registry import operator
from chop.schedule.units import dataflow_of
from tests.ops.designs import (
    Design,
    annotated,
    emitted,
    example_batch,
    fake_outputs,
    out_of_range,
    reference_outputs,
    scheduled,
)
from tests.ops.rtl_checks import lint, simulation_faults, yosys_log

_KINDS = ("binary", "ternary", "log", "minifloat_denorm", "minifloat_ieee", "mxint", "fixed")
_DATA = ("binary", "ternary", "mxint", "fixed", "unsigned")


def _format(rng: random.Random, kind: str, constants: bool, scale: tuple[float]) -> Format:
    if kind == "binary":
        return Binary(scale)
    if kind == "ternary":
        return Ternary(scale)
    if kind == "log":
        return Log(rng.randint(2, 4), rng.randint(0, 6))
    if kind == "minifloat_denorm":
        return MinifloatDenorm(rng.randint(4, 6), 2, rng.randint(0, 3))
    if kind == "minifloat_ieee":
        return _ieee(rng)
    if kind == "mxint":
        # Exponents of constants may lie in a window that data have no integers for.
        exponents = rng.choice((3, 8)) if constants else rng.randint(1, 3)
        bias = 127 if exponents == 8 else (1 << exponents) - rng.randint(1, 3)
        return MxInt(rng.randint(2, 6), exponents, bias, rng.choice((2, 4, 6)))
    width = rng.randint(2, 8)
    return Fixed(width, width - rng.randint(0, 3), kind == "fixed")


def _ieee(rng: random.Random) -> Format:
    width, exponent_width = rng.choice(((8, 4), (6, 3), (6, 2), (4, 2)))
    return MinifloatIeee(width, exponent_width, (1 << (exponent_width - 1)) - 1)


def _layer(
    rng: random.Random, kind: str, ins: int, outs: int, scale: tuple[float]
) -> QuantizedLayer:
    bias = rng.random() < 0.7
    formats = {"weight": _format(rng, kind, True, scale)}
    if bias:
        formats["bias"] = Fixed(rng.randint(3, 10), rng.randint(0, 8))
    layer = nn.Linear(ins, outs, bias)
    # Magnitudes so far apart that blocks differ in their exponents.
    spread = [[2.0 ** rng.randint(-3, 1) for _ in range(ins)] for _ in range(outs)]
    layer.weight = nn.Parameter(layer.weight.detach() * torch.tensor(spread))
    return QuantizedLayer("linear", layer, formats)


def _network(rng: random.Random, data: str, kind: str, ins: int) -> nn.Module:
    """A layer on a port; often one of the same kind on its result, in another format of data."""
    outs = rng.choice((3, 4, 6, 8))
    mode = rng.choice(tuple(Rounding))
    scale = (2.0 ** rng.randint(-2, 1),)
    layers = [Cast(_format(rng, data, False, scale), mode), _layer(rng, kind, ins, outs, scale)]
    if rng.random() < 0.6:
        middle = _format(rng, rng.choice(("binary", "ternary", "fixed", "unsigned")), False, scale)
        layers += [Cast(middle, mode), _layer(rng, kind, outs, rng.choice((1, 5, 6)), scale)]
    return nn.Sequential(*layers)


@pytest.fixture(scope="module")
def designs(tmp_path_factory: pytest.TempPathFactory, seed: int) -> list[Design]:
    folder = tmp_path_factory.mktemp("formats")
    found: list[Design] = []
    for data in _DATA:
        for kind in _KINDS:
            for variant in range(2):
                label = f"seed {seed} {data} x {kind} {variant}"
                rng = random.Random(label)
                torch.manual_seed(rng.randrange(1 << 31))
                features = rng.choice((4, 6, 8, 12))
                network = _network(rng, data, kind, features).eval()
                shape = (features,) if rng.random() < 0.7 else (3, features)
                graph = annotated(network, example_batch(rng, [shape], 4))
                top = f"f{len(found)}"
                graph = scheduled(rng, graph, adder_graphs=0)
                found.append(emitted(label, graph, folder / top, top, rng, [shape]))
    return found


def test_every_kind_of_product_is_built(designs: list[Design]) -> None:
    kinds, shifted = set(), set()
    for design in designs:
        for unit in dataflow_of(design.graph).units:
            if unit.op.name == "linear":
                build_kinds = _bound(design, unit.node)
                kinds.add(build_kinds[0])
                shifted.add(build_kinds[1:])
    assert kinds == {"integer", "binary", "ternary", "log", "minifloat", "xnor"}
    assert shifted == {(a, b) for a in (False, True) for b in (False, True)}


def _bound(design: Design, node: str) -> tuple[str, bool, bool]:
    text = (design.directory / f"rtl/{design.manifest.top}.sv").read_text(encoding="utf-8")
    instance = text[: text.index(f") u_{node} (")].rpartition("chop_linear #(")[2]
    named = dict(line.strip(" ,).").split("(", 1) for line in instance.splitlines() if "(" in line)
    return (
        named["WeightKind"].strip('"'),
        named["InExponentWidth"] != "0",
        named["WeightExponentWidth"] != "0",
    )


def test_integer_reference_equals_the_fake_quantised_network(designs: list[Design]) -> None:
    wrong = [design.label for design in designs if out_of_range(design)]
    for design in designs:
        for fake, exact in zip(fake_outputs(design), reference_outputs(design), strict=True):
            if not np.array_equal(fake, exact):
                wrong.append(design.label)
    assert wrong == []


def test_emitted_verilog_is_clean(designs: list[Design], tmp_path: Path) -> None:
    assert lint(designs, tmp_path) == ""
    log = yosys_log(designs, tmp_path).splitlines()
    meant = "[-Wshift-count-overflow]"
    assert [line for line in log if "Warning:" in line and meant not in line] == []


def test_rtl_equals_the_reference_in_values_and_cycles(designs: list[Design], seed: int) -> None:
    assert simulation_faults(designs, seed) == []


@pytest.mark.parametrize("size", [2, 3, 4, 5, 8])
def test_lanes_of_a_beat_lie_in_one_block(size: int) -> None:
    network = nn.Sequential(
        Cast(MxInt(4, 2, 2, size)),
        QuantizedLayer("linear", nn.Linear(8, 2, False), {"weight": Fixed(4, 3)}),
    )
    graph = annotated(network.eval(), [torch.randn(2, 8)])
    (unit,) = dataflow_of(graph).units
    lanes = {folding.in_lanes for folding in unit.op.foldings(unit.site)}
    assert lanes == {p for p in (1, 2, 4, 8) if size % p == 0 or size >= 8}


@pytest.mark.parametrize(
    ("after", "message"),
    [
        (nn.ReLU(), "operator 'relu' has no hardware for data in mxint4e2b2x4; give it"),
        (nn.Unflatten(1, (2, 4)), "operator 'reshape' changes the last axis of a tensor in mxint4"),
        (nn.Identity(), "is in mxint4e2b2x4, whose elements share exponents; cast it to fixed"),
    ],
)
def test_coded_data_are_refused_where_they_have_no_hardware(after: nn.Module, message: str) -> None:
    network = nn.Sequential(Cast(MxInt(4, 2, 2, 4)), after)
    graph = annotated(network.eval(), [torch.randn(2, 8)])
    with pytest.raises(UnsupportedOpError) as error:
        dataflow_of(graph)
    assert message in str(error.value)


def test_only_linear_reads_codes() -> None:
    assert operator("linear").reads_coded
