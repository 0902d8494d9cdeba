"""init, add_common, add_software and add_hardware: what they write on the nodes."""

from __future__ import annotations

import re

import pytest
import torch

from chop.errors import ConfigError, ShapeError, UnsupportedOpError
from chop.ir.graph import MaseGraph
from chop.ir.meta import Folding, NodeMeta, common_of, hardware_of, meta_of, software_of
from chop.passes.graph.analysis import (
    add_common_metadata_analysis_pass,
    add_hardware_metadata_analysis_pass,
    init_metadata_analysis_pass,
)
from tests.passes.networks import (
    Branches,
    Chain,
    batch,
    branches,
    chain,
    metadata,
    quantised,
    scheduled,
    seeded,
)


def test_init_gives_empty_metadata_and_keeps_what_there_is() -> None:
    graph = init_metadata_analysis_pass(MaseGraph(seeded(Chain)))
    assert set(metadata(graph).values()) == {NodeMeta()}
    full = chain()
    before = metadata(full)
    init_metadata_analysis_pass(full)
    assert all(meta is before[name] for name, meta in metadata(full).items())


def test_common_metadata_has_operators_and_types_of_one_sample() -> None:
    graph = branches()
    found = {n.name: common_of(n) for n in graph.fx_graph.nodes}
    assert {name: (c.operator, str(c.output)) for name, c in found.items() if c.carries_data} == {
        "x": ("input", "4x4 float"),
        "z": ("input", "2x3 float"),
        "reshape": ("reshape", "16 float"),
        "a": ("linear", "8 float"),
        "relu": ("relu", "8 float"),
        "b": ("linear", "8 float"),
        "relu_1": ("relu", "8 float"),
        "b_1": ("linear", "8 float"),
        "linear": ("linear", "4 float"),
        "flatten": ("reshape", "6 float"),
        "c": ("linear", "8 float"),
        "mul_1": ("mul", "8 float"),
    }
    assert [name for name, c in found.items() if not c.carries_data] == ["w", "mul", "output"]
    assert [str(t) for t in found["output"].inputs] == ["4 float", "8 float", "8 float"]


def test_quantised_types_carry_formats_bounds_and_integer_constants() -> None:
    graph = quantised(chain())
    nodes = {n.name: common_of(n) for n in graph.fx_graph.nodes}
    fc1 = nodes["fc1"]
    assert {k: str(p.format) for k, p in fc1.parameters.items()} == {
        "weight": "s8.6",
        "bias": "s8.4",
    }
    weight = torch.floor(seeded(Chain).get_parameter("fc1.weight") * 64 + 0.5)
    assert fc1.parameters["weight"].values.tolist() == weight.int().tolist()
    # By hand: the accumulator's bounds follow from the weights and s8.4 inputs.
    w, b = fc1.parameters["weight"].values, fc1.parameters["bias"].values << 6
    up, down = w.clip(min=0).sum(axis=1), w.clip(max=0).sum(axis=1)
    assert (fc1.output.low, fc1.output.high) == (
        int((up * -128 + down * 127 + b).min()),
        int((up * 127 + down * -128 + b).max()),
    )
    assert fc1.output.fixed.frac_width == 10
    assert nodes["act"].output.low == 0
    assert not nodes["act"].output.fixed.signed


def test_software_metadata_counts_by_hand() -> None:
    graph = branches()
    found = {
        n.name: (s.parameters, s.macs, s.bit_operations)
        for n in graph.fx_graph.nodes
        if (s := software_of(n)).parameters or s.macs
    }
    bits = 32 * 32
    assert found == {
        "a": (136, 128, 128 * bits),
        "b": (72, 64, 64 * bits),
        "b_1": (72, 64, 64 * bits),
        # The parameter that a function is given, behind the product that makes it.
        "linear": (32, 32, 32 * bits),
        "c": (56, 48, 48 * bits),
        "mul_1": (0, 8, 8 * bits),
    }


def test_bit_operations_follow_the_formats() -> None:
    graph = quantised(chain())
    nodes = {n.name: software_of(n) for n in graph.fx_graph.nodes}
    assert (nodes["fc1"].macs, nodes["fc1"].bit_operations) == (24, 24 * 8 * 8)
    assert (nodes["fc2"].macs, nodes["fc2"].bit_operations) == (12, 12 * 8 * 8)


def test_hardware_metadata_says_who_does_the_work() -> None:
    graph = quantised(chain())
    add_hardware_metadata_analysis_pass(graph, {"lanes": {"fc1": [2, 4], "fc2": [1, 3]}})
    nodes = {n.name: hardware_of(n) for n in graph.fx_graph.nodes}
    assert {name: meta.host for name, meta in nodes.items() if meta.host != name} == {
        "x_cast": "x",
        "fc2_data_in": "act",
    }
    folding = nodes["fc1"].folding
    assert (folding.in_lanes, folding.out_lanes, folding.cycles, folding.multipliers) == (
        2,
        4,
        3,
        8,
    )
    assert nodes["x_cast"].folding == nodes["output"].folding == Folding(0, 0, 0, 0)
    report = graph.info["add_hardware_metadata"]
    assert (report["initiation_interval"], report["multipliers"]) == (4, 11)
    # Another request replaces the first.
    add_hardware_metadata_analysis_pass(graph, {"lanes": {"fc1": [6, 4], "fc2": [4, 3]}})
    assert graph.info["add_hardware_metadata"]["initiation_interval"] == 1
    fc1 = next(n for n in graph.fx_graph.nodes if n.name == "fc1")
    assert hardware_of(fc1).folding.multipliers == 24


def test_a_transform_drops_what_only_its_own_pass_knows() -> None:
    graph = scheduled(chain())
    assert all(meta.hardware is not None for meta in metadata(graph).values())
    again = quantised(graph, {"name": "integer", "data_in_width": 4, "weight_width": 4})
    for node in again.fx_graph.nodes:
        assert meta_of(node).common is not None
        assert meta_of(node).software is not None
        assert meta_of(node).hardware is None


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "input 'x' is missing; give one batch for each of: x, z"),
        ({"x": batch(5, 4, 4)}, "input 'z' is missing; give one batch for each of: x, z"),
        (
            {"x": batch(5, 4, 4), "z": batch(5, 2, 3), "y": batch(5, 1)},
            "there is no input 'y'; the inputs are: x, z",
        ),
        (
            {"x": batch(5, 4, 4), "z": batch(4, 2, 3)},
            "the inputs have different batch sizes [4, 5]; make them equal",
        ),
        (
            {"x": torch.tensor(1.0), "z": batch(5, 2, 3)},
            "input 'x' must have a batch dimension first, got shape ()",
        ),
    ],
)
def test_wrong_example_inputs_are_one_line(inputs: dict[str, torch.Tensor], message: str) -> None:
    graph = init_metadata_analysis_pass(MaseGraph(seeded(Branches)))
    with pytest.raises(ShapeError) as caught:
        add_common_metadata_analysis_pass(graph, {"dummy_in": inputs})
    assert str(caught.value) == message


def test_an_example_input_must_be_a_tensor() -> None:
    graph = init_metadata_analysis_pass(MaseGraph(seeded(Chain)))
    with pytest.raises(ConfigError) as caught:
        add_common_metadata_analysis_pass(graph, {"dummy_in": {"x": [[1.0] * 6]}})
    assert str(caught.value) == "dummy_in: input 'x' must be a torch.Tensor, got list"


def test_a_wrong_shape_names_the_node_that_cannot_take_it() -> None:
    graph = init_metadata_analysis_pass(MaseGraph(seeded(Chain)))
    with pytest.raises(ShapeError) as caught:
        add_common_metadata_analysis_pass(graph, {"dummy_in": {"x": batch(5, 7)}})
    message = str(caught.value)
    assert message.startswith("node 'fc1' (networks.py:")
    assert message.endswith("; give inputs of the shape that the model expects")
    assert "5x7 and 6x4" in message


def test_hardware_of_a_float_graph_is_refused() -> None:
    with pytest.raises(UnsupportedOpError) as caught:
        add_hardware_metadata_analysis_pass(chain())
    assert re.fullmatch(
        r"node 'fc1' \(networks\.py:\d+\): operator 'linear' is in floating point; give it, and "
        r'every tensor that it reads, a number format in quantize \(name = "integer"\)',
        str(caught.value),
    )
