"""The scheduler: lanes for a target, exact predictions, and what it refuses."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
import torch
from torch import nn

from chop.errors import ConfigError
from chop.ir.graph import MaseGraph
from chop.ir.manifest import Manifest
from chop.ir.meta import hardware_of
from chop.passes.graph.analysis.add_hardware import add_hardware_metadata_analysis_pass
from chop.passes.graph.transforms import quantize_transform_pass
from chop.passes.graph.transforms.emitted import design_of
from chop.schedule.units import dataflow_of
from tests.ops.designs import annotated

_CONFIG = {
    "name": "integer",
    "data_in_width": 8,
    "data_in_frac_width": 4,
    "weight_width": 8,
    "weight_frac_width": 6,
    "bias_width": 8,
    "bias_frac_width": 6,
}
SMALL, DIGITS, MNIST = (16, 32, 16, 8), (64, 32, 32, 10), (784, 256, 256, 10)


def _mlp(sizes: tuple[int, ...]) -> MaseGraph:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for width, out in itertools.pairwise(sizes):
        layers += [nn.Linear(width, out), nn.ReLU()]
    graph = annotated(nn.Sequential(*layers[:-1]), [torch.randn(4, sizes[0])])
    return quantize_transform_pass(graph, {"default": {"config": _CONFIG}})


@pytest.fixture(scope="module")
def graphs() -> dict[tuple[int, ...], MaseGraph]:
    return {sizes: _mlp(sizes) for sizes in (SMALL, DIGITS, MNIST, (13, 7, 5, 1))}


def _manifest(graph: MaseGraph, options: dict[str, Any]) -> Manifest:
    return design_of(add_hardware_metadata_analysis_pass(graph, options), "d", "top", "0").manifest


@pytest.mark.parametrize(
    ("sizes", "budget", "interval", "latency"),
    [(SMALL, 48, 32, 60), (SMALL, 192, 8, 30), (MNIST, 132, 2048, 3000)],
)
def test_the_intervals_and_latencies_asked_for_are_met(
    graphs: dict[tuple[int, ...], MaseGraph],
    sizes: tuple[int, ...],
    budget: int,
    interval: int,
    latency: int,
) -> None:
    manifest = _manifest(graphs[sizes], {"max_multipliers": budget})
    assert manifest.multipliers <= budget
    assert manifest.predicted_initiation_interval == interval
    assert manifest.predicted_latency_cycles <= latency


@pytest.mark.parametrize("sizes", [SMALL, DIGITS, MNIST, (13, 7, 5, 1)], ids=str)
def test_every_target_is_kept_with_the_fewest_multipliers(
    graphs: dict[tuple[int, ...], MaseGraph], sizes: tuple[int, ...]
) -> None:
    for target in (1, 2, 7, 8, 35, 64, 2048):
        manifest = _manifest(graphs[sizes], {"target_initiation_interval": target})
        assert manifest.predicted_initiation_interval == manifest.ideal_initiation_interval
        assert manifest.predicted_initiation_interval <= target
        fewest = [
            min(
                p * q
                for p in range(1, width + 1)
                for q in range(1, out + 1)
                if width % p == 0 and out % q == 0 and width * out // (p * q) <= target
            )
            for width, out in itertools.pairwise(sizes)
        ]
        found = [layer.multipliers for layer in manifest.layers if layer.operator == "linear"]
        assert found == fewest


@pytest.mark.parametrize("sizes", [SMALL, DIGITS, (13, 7, 5, 1)], ids=str)
def test_a_larger_budget_is_never_slower(
    graphs: dict[tuple[int, ...], MaseGraph], sizes: tuple[int, ...]
) -> None:
    intervals = []
    for budget in (3, 5, 11, 40, 130, 500, 10_000):
        manifest = _manifest(graphs[sizes], {"max_multipliers": budget})
        assert manifest.multipliers <= budget
        intervals.append(manifest.predicted_initiation_interval)
    assert intervals == sorted(intervals, reverse=True)
    assert intervals[-1] == 1


def test_lanes_given_are_the_lanes_built(graphs: dict[tuple[int, ...], MaseGraph]) -> None:
    rng = random.Random(0)
    for _ in range(10):
        lanes = {
            "linear_0": (rng.choice((1, 2, 8, 64)), rng.choice((1, 4, 32))),
            "linear_4": (rng.choice((1, 4, 16)), rng.choice((1, 2, 5, 10))),
        }
        manifest = _manifest(graphs[DIGITS], {"lanes": lanes})
        built = {layer.node: (layer.in_lanes, layer.out_lanes) for layer in manifest.layers}
        assert {name: built[name] for name in lanes} == lanes


@pytest.mark.parametrize(
    ("lanes", "built"),
    [
        ({"linear_4": {"in_lanes": 8, "out_lanes": 5}}, (8, 5)),
        ({"linear_4": {"in_lanes": 16}}, (16, None)),
        ({"linear_4": {"out_lanes": 5}}, (None, 5)),
        ({"linear_4": 2}, (2, 2)),
        # The path of the module.
        ({"4": [4, 10]}, (4, 10)),
    ],
)
def test_lanes_may_be_given_in_several_ways(
    graphs: dict[tuple[int, ...], MaseGraph],
    lanes: dict[str, Any],
    built: tuple[int | None, int | None],
) -> None:
    layer = _manifest(graphs[DIGITS], {"lanes": lanes}).layers[-1]
    for wanted, found in zip(built, (layer.in_lanes, layer.out_lanes), strict=True):
        assert wanted in (None, found)


def test_scheduling_twice_changes_nothing(graphs: dict[tuple[int, ...], MaseGraph]) -> None:
    graph = graphs[DIGITS].copy()
    options = {"target_initiation_interval": 32}
    first = add_hardware_metadata_analysis_pass(graph, options)
    metas = [hardware_of(node) for node in first.fx_graph.nodes]
    again = add_hardware_metadata_analysis_pass(graph, options)
    assert [hardware_of(node) for node in again.fx_graph.nodes] == metas


def test_a_reshape_and_a_cast_in_a_layer_have_no_hardware_of_their_own() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.ReLU(), nn.Identity())
    config = {**_CONFIG, "data_out_width": 6, "data_out_frac_width": 3}
    graph = annotated(model, [torch.randn(4, 2, 3)])
    graph = quantize_transform_pass(graph, {"default": {"config": config}})
    dataflow = dataflow_of(graph)
    assert [unit.node for unit in dataflow.units] == ["linear_1", "linear_1_data_out", "relu_2"]
    hosts = dict(dataflow.hosts)
    assert hosts["flatten_0"] == "input_1"
    assert hosts["relu_2_data_out"] == "relu_2"
    assert hosts["identity_3"] == "relu_2"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"lanes": {"linear_0": (3, 1)}},
            "node 'linear_0': in_lanes must divide 64, got 3; use 1, 2, 4, 8, 16, 32 or 64",
        ),
        (
            {"lanes": {"linear_4": (8, 3)}},
            "node 'linear_4': out_lanes must divide 10, got 3; use 1, 2, 5 or 10",
        ),
        (
            {"lanes": {"relu_1": (1, 2)}},
            "node 'relu_1': in_lanes and out_lanes must be equal for 'relu', got 1 and 2; "
            "use one number for both",
        ),
        (
            {"lanes": {"linear_4": {"lanes": 2}}},
            "pass 'add_hardware_metadata': 'lanes.linear_4' takes in_lanes and out_lanes, "
            "got {'lanes': 2}",
        ),
        (
            {"lanes": {"linear_9": (1, 1)}},
            "hardware.lanes: no node 'linear_9' with hardware of its own; "
            "use one of linear_0, relu_1, linear_2, relu_3, linear_4",
        ),
        (
            {"max_multipliers": 2},
            "hardware: max_multipliers = 2 is too few; every layer takes at least one, 3 in all",
        ),
        (
            {"max_multipliers": 5, "target_initiation_interval": 16},
            "hardware: target_initiation_interval = 16 takes 212 multipliers, more than "
            "max_multipliers = 5; raise one of the two",
        ),
        (
            {"target_initiation_interval": 0},
            "pass 'add_hardware_metadata': 'target_initiation_interval' must be greater than or "
            "equal to 1, got 0",
        ),
        (
            {"target_intiation_interval": 8},
            "pass 'add_hardware_metadata': unknown key 'target_intiation_interval'; "
            "did you mean 'target_initiation_interval'?",
        ),
    ],
)
def test_options_that_cannot_be_met_are_one_line(
    graphs: dict[tuple[int, ...], MaseGraph], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        add_hardware_metadata_analysis_pass(graphs[DIGITS].copy(), options)
    assert str(caught.value) == message


def test_several_vectors_a_sample_take_their_time() -> None:
    """A linear layer on [5, 6] computes five vectors: the least interval is five."""
    graph = annotated(nn.Linear(6, 4), [torch.randn(3, 5, 6)])
    graph = quantize_transform_pass(graph, {"default": {"config": _CONFIG}})
    with pytest.raises(ConfigError) as caught:
        add_hardware_metadata_analysis_pass(graph, {"target_initiation_interval": 4})
    assert str(caught.value) == (
        "hardware: node 'linear' takes at least 5 cycles, more than "
        "target_initiation_interval = 4; use 5 or more"
    )
    assert _manifest(graph, {"target_initiation_interval": 5}).predicted_initiation_interval == 5


def test_the_shortest_interval_within_a_budget_of_luts(
    graphs: dict[tuple[int, ...], MaseGraph],
) -> None:
    intervals = []
    for luts in (3000, 5000, 20_000, 200_000):
        graph = add_hardware_metadata_analysis_pass(graphs[SMALL], {"max_luts": luts})
        report = graph.info["add_hardware_metadata"]
        assert report["cost"]["luts"] <= luts
        assert report["budget"] == {"luts": luts}
        intervals.append(report["initiation_interval"])
    assert intervals == sorted(intervals, reverse=True)
    assert intervals[0] > intervals[-1] == 1


def test_a_device_is_a_budget_of_everything_it_has(
    graphs: dict[tuple[int, ...], MaseGraph],
) -> None:
    graph = add_hardware_metadata_analysis_pass(
        graphs[DIGITS], {"device": "ecp5-25k", "max_luts": 20_000}
    )
    report = graph.info["add_hardware_metadata"]
    assert report["budget"] == {"luts": 20_000, "ffs": 24288, "dsps": 28, "brams": 56}
    assert all(report["cost"][name] <= most for name, most in report["budget"].items())
    assert report["multipliers"] <= 28


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "ecp5-25"}, "unknown target 'ecp5-25'; did you mean 'ecp5-25k'?"),
        (
            {"device": "ice40-up5k", "target_initiation_interval": 64},
            "hardware: target_initiation_interval = 64 takes 53 DSPs, more than the 8 of device "
            "'ice40-up5k' (largest: linear_0 32, linear_2 16, linear_4 5); use an interval of 512 "
            "or more",
        ),
        (
            {"max_luts": 100},
            "hardware: the smallest design found, a sample every 2048 cycles, takes 929 LUTs, more "
            "than the 100 of max_luts (largest: linear_4 440, linear_2 229, linear_0 212); use "
            "fewer bits, a smaller network or a larger budget",
        ),
    ],
)
def test_a_design_that_does_not_fit_is_refused(
    graphs: dict[tuple[int, ...], MaseGraph], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        add_hardware_metadata_analysis_pass(graphs[DIGITS].copy(), options)
    assert str(caught.value) == message


def test_an_input_that_is_an_output_needs_no_hardware() -> None:
    graph = annotated(nn.Identity(), [torch.randn(4, 6)])
    graph = quantize_transform_pass(graph, {"default": {"config": _CONFIG}})
    manifest = _manifest(graph, {})
    assert (manifest.layers, manifest.predicted_latency_cycles) == ((), 0)
