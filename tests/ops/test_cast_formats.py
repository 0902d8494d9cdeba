"""Casts to every format that streams can have, from the scaled results of linear layers."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from chop.formats.base import Format
from chop.formats.binary import Binary
from chop.formats.fixed import Fixed
from chop.formats.log import Log
from chop.formats.minifloat_denorm import MinifloatDenorm
from chop.formats.minifloat_ieee import MinifloatIeee
from chop.formats.mxint import MxInt
from chop.formats.rounding import Rounding
from chop.formats.scaled import Scaled
from chop.formats.ternary import Ternary
from chop.ir.meta import common_of
from chop.nn.fake_quantize import Cast
from chop.nn.layers import AccumulatorBias, QuantizedLayer
from chop.nn.quantizer import Static
from chop.passes.graph.transforms.emitted import design_of
from chop.schedule.netlist import Netlist
from chop.schedule.units import dataflow_of
from tests.ops.designs import (
    Design,
    annotated,
    emitted,
    example_batch,
    out_of_range,
    scheduled,
)
from tests.ops.rtl_checks import header_of, lint, simulation_faults, yosys_log

_VARIANTS = 3
_KINDS = ("fixed", "scaled", "unsigned", "symmetric", "binary", "ternary", "log", "denorm", "ieee")


def _float32(value: float) -> float:
    return float(np.float32(value))


def _format(rng: random.Random, kind: str) -> Format:
    width, scale = rng.randint(2, 8), _float32(2.0 ** rng.uniform(-3, 0))
    return {
        "fixed": Fixed(width, rng.randint(-1, 4)),
        "scaled": Scaled(width, (scale / 8,)),
        "unsigned": Scaled(width, (scale / 8,), signed=False),
        "symmetric": Scaled(width, (scale / 8,), symmetric=True),
        "binary": Binary((scale,)),
        "ternary": Ternary((scale,)),
        "log": Log(rng.randint(2, 4), rng.randint(0, 4)),
        "denorm": MinifloatDenorm(rng.randint(4, 6), 2, rng.randint(0, 3)),
        "ieee": MinifloatIeee(*rng.choice(((4, 2, 1, "none"), (6, 2, 1, "none"), (6, 3, 3)))),
    }[kind]


def _layer(rng: random.Random, source: Cast, ins: int, outs: int) -> QuantizedLayer:
    """A linear layer with a scale per output channel, or one for all."""
    count = rng.choice((1, outs))
    scales = tuple(_float32(2.0 ** rng.uniform(-6, -4)) for _ in range(count))
    weight = Static(Scaled(rng.randint(3, 7), scales))
    bias = AccumulatorBias(24, (source.quantizer, weight))
    return QuantizedLayer("linear", nn.Linear(ins, outs), {"weight": weight, "bias": bias})


def _network(rng: random.Random, kind: str, ins: int) -> nn.Module:
    outs, mode = rng.choice((3, 4, 6)), rng.choice(tuple(Rounding))
    entry = Cast(Scaled(rng.randint(3, 6), (_float32(rng.uniform(0.1, 0.5)),)), mode)
    layers: list[nn.Module] = [entry, _layer(rng, entry, ins, outs)]
    if kind == "unsigned" or rng.random() < 0.3:
        layers.append(nn.ReLU())
    return nn.Sequential(*layers, Cast(_format(rng, kind), mode))


def _blocks(rng: random.Random, ins: int) -> nn.Module:
    """Two layers with blocks between them, of whole beats or not."""
    outs, mode = rng.choice((4, 5, 6)), rng.choice(tuple(Rounding))
    weight = Fixed(rng.randint(3, 6), 4)
    size = rng.choice((2, 3, 4, 8))
    format = MxInt(rng.randint(3, 6), 2, rng.randint(0, 5), size)
    return nn.Sequential(
        Cast(Fixed(rng.randint(4, 8), rng.randint(0, 4))),
        QuantizedLayer("linear", nn.Linear(ins, outs, False), {"weight": weight}),
        Cast(format, mode),
        QuantizedLayer("linear", nn.Linear(outs, 3, False), {"weight": weight}),
    )


@pytest.fixture(scope="module")
def designs(tmp_path_factory: pytest.TempPathFactory, seed: int) -> list[Design]:
    folder = tmp_path_factory.mktemp("casts")
    found: list[Design] = []
    for kind in (*_KINDS, "mxint"):
        for variant in range(_VARIANTS):
            label = f"seed {seed} cast to {kind} {variant}"
            rng = random.Random(label)
            torch.manual_seed(rng.randrange(1 << 31))
            features = rng.choice((4, 6))
            shape = (features,) if rng.random() < 0.5 else (2, features)
            network = _blocks(rng, features) if kind == "mxint" else _network(rng, kind, features)
            graph = annotated(network.eval(), example_batch(rng, [shape], 4))
            top = f"k{len(found)}"
            found.append(emitted(label, scheduled(rng, graph), folder / top, top, rng, [shape]))
    return found


def _netlist(design: Design) -> Netlist:
    m = design.manifest
    return design_of(design.graph, m.name, m.top, m.config_hash).netlist


def test_every_kind_of_requantiser_is_built(designs: list[Design]) -> None:
    kinds: Counter[str] = Counter()
    for design in designs:
        for unit in dataflow_of(design.graph).units:
            kinds[unit.op.requantiser(unit.site)[0]] += 1
    assert kinds["mxint"] == _VARIANTS
    assert kinds["multiply"] >= 5
    assert kinds["thresholds"] >= 8


def test_integers_stay_in_range_and_reach_several_levels(designs: list[Design]) -> None:
    assert [(d.label, faults) for d in designs if (faults := out_of_range(d))] == []
    last = [list(d.integers.values())[-1] for d in designs]
    assert sum(len(np.unique(values)) > 1 for values in last) > len(last) * 0.8


def test_a_relu_before_an_unsigned_cast_is_no_hardware(designs: list[Design]) -> None:
    merged = 0
    for design in designs:
        flow = dataflow_of(design.graph)
        relus = [n.name for n in design.graph.fx_graph.nodes if common_of(n).operator == "relu"]
        casts = [u.node for u in flow.units if u.op.name == "cast"]
        for relu in relus:
            host = flow.hosts[relu]
            low = flow.unit(host).site.output.format
            assert low is not None
            if host in casts:
                assert low.low == 0
                merged += 1
                # The hardware's input is the layer's result, below zero too.
                assert flow.unit(host).site.inputs[0].low < 0
    assert merged >= 2


def test_bound_parameters_and_ports_exist_in_the_module(designs: list[Design]) -> None:
    for design in designs:
        for instance in _netlist(design).instances:
            parameters, ports = header_of(instance.module, design.directory)
            assert set(instance.parameters) <= parameters, design.label
            assert {port for port, _ in instance.connections} == ports, design.label


def test_emitted_verilog_is_clean(designs: list[Design], tmp_path: Path) -> None:
    assert lint(designs, tmp_path) == ""
    log = yosys_log(designs, tmp_path).splitlines()
    meant = "[-Wshift-count-overflow]"
    assert [line for line in log if "Warning:" in line and meant not in line] == []


def test_rtl_equals_the_reference_in_values_and_cycles(designs: list[Design], seed: int) -> None:
    assert simulation_faults(designs, seed) == []
