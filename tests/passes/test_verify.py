"""verify_metadata: passes on what the passes wrote, and finds every kind of wrong entry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import fx

from chop.errors import VerifyError
from chop.formats.base import Integers
from chop.formats.fixed import Fixed
from chop.ir.graph import MaseGraph
from chop.ir.meta import KEY, Cost, common_of, hardware_of, meta_of, software_of, update
from chop.ir.tensor_type import Parameter
from chop.ops.linear import Linear
from chop.passes.graph.analysis import (
    add_common_metadata_analysis_pass,
    profile_statistics_analysis_pass,
    verify_metadata_analysis_pass,
)
from chop.passes.graph.transforms import quantize_transform_pass
from tests.passes.networks import EIGHT_BITS, batch, branches, chain, metadata, quantised, scheduled

COMMON = "; run add_common_metadata_analysis_pass again"
SOFTWARE = "; run add_software_metadata_analysis_pass again"
HARDWARE = "; run add_hardware_metadata_analysis_pass again"


def node_of(graph: MaseGraph, name: str) -> fx.Node:
    (found,) = (node for node in graph.fx_graph.nodes if node.name == name)
    assert isinstance(found, fx.Node)
    return found


def failure(graph: MaseGraph) -> str:
    with pytest.raises(VerifyError) as caught:
        verify_metadata_analysis_pass(graph)
    assert "verify_metadata" not in graph.info
    return str(caught.value)


def test_a_scheduled_graph_is_checked_in_full() -> None:
    graph = profile_statistics_analysis_pass(scheduled(chain()))
    before = metadata(graph)
    verify_metadata_analysis_pass(graph)
    assert graph.info["verify_metadata"] == {
        "checked": {
            "nodes": 7,
            "types": 7,
            "formats": 5,
            # 6-4 and 4-3 with biases.
            "constants": 28 + 15,
            "software": 7,
            "hardware": 3,
            # Five samples of x_cast, fc1, act, fc2_data_in and fc2.
            "integers": 5 * (6 + 4 + 4 + 4 + 3),
        },
        "not_checked": {},
    }
    assert all(meta is before[name] for name, meta in metadata(graph).items())


def test_what_does_not_apply_is_said() -> None:
    graph = verify_metadata_analysis_pass(chain())
    assert graph.info["verify_metadata"] == {
        "checked": {"nodes": 5, "types": 5, "formats": 0, "constants": 0, "software": 5},
        "not_checked": {
            "hardware": "no hardware metadata; run add_hardware_metadata_analysis_pass for it",
            "integers": "node 'fc1' is in floating point; quantise it for this",
        },
    }
    half = {"by": "name", "fc1": {"config": EIGHT_BITS}, "default": {"config": {"name": "NA"}}}
    graph = verify_metadata_analysis_pass(quantize_transform_pass(chain(), half))
    assert (
        graph.info["verify_metadata"]["not_checked"]["integers"]
        == "node 'fc2' is in floating point; quantise it for this"
    )


def test_several_inputs_and_shared_layers_hold() -> None:
    graph = verify_metadata_analysis_pass(scheduled(branches()))
    assert graph.info["verify_metadata"]["not_checked"] == {}
    assert graph.info["verify_metadata"]["checked"]["hardware"] == 9


def test_a_node_without_common_metadata() -> None:
    graph = chain()
    node = node_of(graph, "act")
    node.meta[KEY] = replace(meta_of(node), common=None)
    assert failure(graph) == "node 'act': every node must have common metadata, got none" + COMMON


def wrong_output(graph: MaseGraph) -> None:
    node = node_of(graph, "act")
    common = common_of(node)
    update(node, common=replace(common, output=replace(common.output, high=77)))


def wrong_shape(graph: MaseGraph) -> None:
    node = node_of(graph, "x")
    common = common_of(node)
    update(node, common=replace(common, output=replace(common.output, shape=(3, 2))))


def wrong_operator(graph: MaseGraph) -> None:
    node = node_of(graph, "act")
    update(node, common=replace(common_of(node), operator="clamp"))


def wrong_attributes(graph: MaseGraph) -> None:
    node = node_of(graph, "fc2")
    attributes: Any = common_of(node).attributes
    update(node, common=replace(common_of(node), attributes=replace(attributes, vectors=2)))


def wrong_constant(graph: MaseGraph) -> None:
    node = node_of(graph, "fc1")
    weight = common_of(node).parameters["weight"]
    values = weight.values.copy()
    values[2, 5] += 1
    parameters = {
        **common_of(node).parameters,
        "weight": Parameter(Integers(values, weight.fixed), weight.format),
    }
    update(node, common=replace(common_of(node), parameters=parameters))


def wrong_constant_format(graph: MaseGraph) -> None:
    node = node_of(graph, "fc1")
    bias = common_of(node).parameters["bias"]
    parameters = {
        **common_of(node).parameters,
        "bias": Parameter(Integers(bias.values, Fixed(9, 4)), Fixed(9, 4)),
    }
    update(node, common=replace(common_of(node), parameters=parameters))


def missing_constant(graph: MaseGraph) -> None:
    node = node_of(graph, "fc1")
    parameters = {"weight": common_of(node).parameters["weight"]}
    update(node, common=replace(common_of(node), parameters=parameters))


def changed_weights(graph: MaseGraph) -> None:
    """The layer changes after the metadata were taken."""
    with torch.no_grad():
        graph.model.get_parameter("fc2.layer.weight")[1, 1] = 1.0


def other_parameters(graph: MaseGraph) -> None:
    node = node_of(graph, "fc1")
    update(node, software=replace(software_of(node), parameters=29))


def other_macs(graph: MaseGraph) -> None:
    node = node_of(graph, "fc2")
    update(node, software=replace(software_of(node), macs=13))


def other_bit_operations(graph: MaseGraph) -> None:
    node = node_of(graph, "fc2")
    update(node, software=replace(software_of(node), bit_operations=0))


def software_on_some(graph: MaseGraph) -> None:
    node = node_of(graph, "fc2")
    node.meta[KEY] = replace(meta_of(node), software=None)


def hardware_on_some(graph: MaseGraph) -> None:
    node = node_of(graph, "fc1")
    node.meta[KEY] = replace(meta_of(node), hardware=None)


def fold(name: str, **changes: Any) -> Callable[[MaseGraph], None]:
    def change(graph: MaseGraph) -> None:
        node = node_of(graph, name)
        hardware = hardware_of(node)
        update(node, hardware=replace(hardware, folding=replace(hardware.folding, **changes)))

    return change


def other_hardware(name: str, **changes: Any) -> Callable[[MaseGraph], None]:
    def change(graph: MaseGraph) -> None:
        node = node_of(graph, name)
        update(node, hardware=replace(hardware_of(node), **changes))

    return change


def other_latency(graph: MaseGraph) -> None:
    report = graph.info["add_hardware_metadata"]
    graph.info["add_hardware_metadata"] = {**report, "latency_cycles": 1000}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            wrong_output,
            "node 'act': output must be 4 u14.10 in [0, {act_high}] as inferred, "
            "got 4 u14.10 in [0, 77]" + COMMON,
        ),
        (wrong_shape, "node 'x': output must be 6 float as inferred, got 3x2 float" + COMMON),
        (wrong_operator, "node 'act': operator must be relu as inferred, got clamp" + COMMON),
        (
            wrong_attributes,
            "node 'fc2': attributes must be LinearAttributes(in_features=4, out_features=3, "
            "vectors=1, has_bias=True, sets=1, set_vectors=1) as inferred, got LinearAttributes("
            "in_features=4, out_features=3, vectors=2, has_bias=True, sets=1, set_vectors=1)"
            + COMMON,
        ),
        (
            wrong_constant,
            "node 'fc1': weight[2, 5] must be {weight}, the layer's value in s8.6, "
            "got {wrong_weight}" + COMMON,
        ),
        (
            wrong_constant_format,
            "node 'fc1': bias must be in s8.4 as inferred, got s9.4" + COMMON,
        ),
        (
            missing_constant,
            "node 'fc1': parameters must be ['bias', 'weight'] as inferred, got ['weight']"
            + COMMON,
        ),
        (other_parameters, "node 'fc1': parameters must be 28 as counted, got 29" + SOFTWARE),
        (other_macs, "node 'fc2': macs must be 12 as counted, got 13" + SOFTWARE),
        (
            other_bit_operations,
            "node 'fc2': bit_operations must be 768 as counted, got 0" + SOFTWARE,
        ),
        (
            software_on_some,
            "node 'fc2': software metadata must be on every node or on none, got none" + SOFTWARE,
        ),
        (
            hardware_on_some,
            "node 'fc1': hardware metadata must be on every node or on none, got none" + HARDWARE,
        ),
        (
            fold("fc1", in_lanes=5),
            "node 'fc1': in_lanes must be one of 1, 2, 3, 6, got 5" + HARDWARE,
        ),
        (fold("fc2", out_lanes=2), "node 'fc2': out_lanes must be one of 1, 3, got 2" + HARDWARE),
        (
            fold("act", cycles=3),
            "node 'act': folding must be Folding(in_lanes=4, out_lanes=4, cycles=1, "
            "multipliers=0, input_stationary=False, digits=0, worth=0), got Folding(in_lanes=4, "
            "out_lanes=4, cycles=3, multipliers=0, input_stationary=False, digits=0, worth=0)"
            + HARDWARE,
        ),
        (
            other_hardware("act", host="fc1"),
            "node 'act': host must be act as scheduled, got fc1" + HARDWARE,
        ),
        (
            other_hardware("fc2", in_depth=99),
            "node 'fc2': in_depth must be {in_depth} as scheduled, got 99" + HARDWARE,
        ),
        (
            other_hardware("fc1", out_depth=99),
            "node 'fc1': out_depth must be {out_depth} as scheduled, got 99" + HARDWARE,
        ),
        (
            other_hardware("fc1", fifo_depth=99),
            "node 'fc1': fifo_depth must be 0 as scheduled, got 99" + HARDWARE,
        ),
        (
            other_hardware("fc1", first_output_cycle=0),
            "node 'fc1': first_output_cycle must be {first} as scheduled, got 0" + HARDWARE,
        ),
        (
            other_hardware("x", cost=Cost(luts=1)),
            "node 'x': cost must be Cost(luts=0, ffs=0, dsps=0, brams=0) as scheduled, "
            "got Cost(luts=1, ffs=0, dsps=0, brams=0)" + HARDWARE,
        ),
        (
            other_latency,
            "design: latency_cycles must be {latency} as scheduled, got 1000" + HARDWARE,
        ),
    ],
)
def test_a_wrong_entry_is_found(spoil: Callable[[MaseGraph], None], message: str) -> None:
    graph = scheduled(chain())
    weight = int(common_of(node_of(graph, "fc1")).parameters["weight"].values[2, 5])
    wanted = message.format(
        act_high=common_of(node_of(graph, "act")).output.high,
        weight=weight,
        wrong_weight=weight + 1,
        first=hardware_of(node_of(graph, "fc1")).first_output_cycle,
        out_depth=hardware_of(node_of(graph, "fc1")).out_depth,
        in_depth=hardware_of(node_of(graph, "fc2")).in_depth,
        latency=graph.info["add_hardware_metadata"]["latency_cycles"],
    )
    spoil(graph)
    assert failure(graph) == wanted


def test_weights_that_changed_since_are_found() -> None:
    graph = quantised(chain())
    changed_weights(graph)
    assert (
        failure(graph) == "node 'fc2': output must be 3 s15.10 in [-6987, 14603] as inferred, "
        "got 3 s14.10 in [-6987, 6983]" + COMMON
    )
    add_common_metadata_analysis_pass(graph, {"dummy_in": graph.example_inputs})
    verify_metadata_analysis_pass(graph)


def test_statistics_out_of_order_are_found() -> None:
    graph = profile_statistics_analysis_pass(chain())
    node = node_of(graph, "act")
    seen = software_of(node).statistics["output"]
    wrong = {"output": replace(seen, minimum=seen.maximum + 1)}
    update(node, software=replace(software_of(node), statistics=wrong))
    assert failure(graph).startswith(
        "node 'act': quantiles of its output must rise from minimum to maximum, got ["
    )


def test_an_evaluation_that_leaves_its_bounds_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = scheduled(chain())
    high = common_of(node_of(graph, "fc1")).output.high
    low = common_of(node_of(graph, "fc1")).output.low

    def too_large(self: Linear, site: Any, inputs: Any) -> Any:
        return np.full((len(inputs[0]), *site.exact.shape), high + 1, np.int64)

    monkeypatch.setattr(Linear, "evaluate", too_large)
    assert (
        failure(graph)
        == f"node 'fc1': the reference must stay in [{low}, {high}], got {high + 1}" + COMMON
    )


def test_bounds_outside_the_format_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator whose inference is wrong passes the comparison with itself, and fails here."""
    real = Linear.infer

    def too_narrow(self: Linear, site: Any) -> Any:
        type = real(self, site)
        return replace(type, format=Fixed(4, type.fixed.frac_width))

    monkeypatch.setattr(Linear, "infer", too_narrow)
    graph = quantised(chain())
    type = common_of(node_of(graph, "fc1")).output
    assert (
        failure(graph) == "node 'fc1': bounds must lie in [-8, 7] of s4.10, "
        f"got [{type.low}, {type.high}]" + COMMON
    )


def test_a_batch_of_one_is_enough() -> None:
    graph = chain()
    add_common_metadata_analysis_pass(graph, {"dummy_in": {"x": batch(1, 6)}})
    verify_metadata_analysis_pass(graph)
    verify_metadata_analysis_pass(graph)
    assert graph.info["verify_metadata"]["checked"]["types"] == 5
