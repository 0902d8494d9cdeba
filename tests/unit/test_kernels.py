"""Which layers become adder graphs: what is asked for, what is cheaper, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from chop.errors import ConfigError
from chop.ir.graph import MaseGraph
from chop.ir.meta import Folding, hardware_of
from chop.ops.accumulate import block_rams, rom_luts
from chop.passes.graph.analysis.add_hardware import add_hardware_metadata_analysis_pass
from chop.passes.graph.transforms import quantize_transform_pass
from tests.ops.designs import annotated

_EIGHT = {"name": "integer", "data_in_width": 8, "weight_width": 8}


def _foldings(
    model: nn.Module, shape: tuple[int, ...], hardware: dict[str, Any], **quantize: Any
) -> dict[str, Folding]:
    torch.manual_seed(0)
    x = torch.rand(8, *shape)
    graph: MaseGraph = annotated(model.eval(), [x])
    config = {"by": "type", "default": {"config": {**_EIGHT, **quantize}}}
    graph = quantize_transform_pass(graph, config)
    graph = add_hardware_metadata_analysis_pass(graph, hardware)
    return {
        node.name: hardware_of(node).folding
        for node in graph.fx_graph.nodes
        if hardware_of(node).host == node.name and hardware_of(node).folding.cycles
    }


def _two() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 4))


def test_multipliers_are_the_default() -> None:
    found = _foldings(_two(), (12,), {"target_initiation_interval": 4})
    assert [f.digits for f in found.values()] == [0] * len(found)


def test_a_kernel_is_asked_for_by_design_and_by_layer() -> None:
    found = _foldings(_two(), (12,), {"kernel": "adders", "target_initiation_interval": 4})
    assert [f.digits for f in found.values() if f.in_lanes == 12] == [4]
    options = {"kernels": {"0": "adders"}, "target_initiation_interval": 4}
    by_layer = list(_foldings(_two(), (12,), options).values())
    assert [f.digits for f in by_layer if f.in_lanes == 12] == [4]
    assert [f.digits for f in by_layer if f.in_lanes != 12 and f.multipliers] == [0]


def test_auto_takes_what_is_worth_fewer_multipliers() -> None:
    """At a vector a cycle a graph is cheaper; at one product a cycle a multiplier is."""
    for interval, adders in ((1, True), (96, False)):
        options = {"kernel": "auto", "target_initiation_interval": interval}
        (found,) = _foldings(nn.Linear(12, 8), (12,), options).values()
        assert (found.digits > 0) == adders
        graphs = _foldings(nn.Linear(12, 8), (12,), {**options, "kernel": "adders"})
        (graph,) = graphs.values()
        products = _foldings(nn.Linear(12, 8), (12,), {**options, "kernel": "multipliers"})
        (product,) = products.values()
        assert (graph.price < product.price) == adders
        assert (graph.multipliers, graph.price) == (0, graph.worth)


def test_a_budget_of_multipliers_counts_what_graphs_are_worth() -> None:
    options = {"kernel": "auto", "max_multipliers": 3}
    (found,) = _foldings(nn.Linear(12, 8), (12,), options).values()
    assert found.price <= 3


def test_layers_without_a_graph() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2))
    with pytest.raises(ConfigError) as error:
        _foldings(model, (4, 5, 5), {"kernels": {"0": "adders"}})
    assert "operator 'linear' has no adder graph here; use kernel \"multipliers\"" in str(
        error.value
    )
    with pytest.raises(ConfigError, match=r"hardware.kernels: no node 'nowhere' with hardware"):
        _foldings(_two(), (12,), {"kernels": {"nowhere": "adders"}})


def test_block_memories_have_several_shapes() -> None:
    assert [block_rams(512, 36), block_rams(513, 36), block_rams(4096, 4)] == [1, 2, 1]
    assert block_rams(16384, 1) == 1
    assert block_rams(2048, 18) == 2


def test_memories_of_few_words_are_few_functions() -> None:
    assert rom_luts(2, 500) == 0
    assert rom_luts(4, 500) < 16
    assert rom_luts(16, 500) == 500
    assert rom_luts(32, 96) > 2 * 96
