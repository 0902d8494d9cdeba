"""MaseGraph: what it shows of a model, and copies that share nothing mutable."""

from __future__ import annotations

import torch
from torch import nn

from chop.ir.graph import MaseGraph
from chop.ir.meta import KEY, common_of
from chop.passes.graph.analysis import (
    add_common_metadata_analysis_pass,
    init_metadata_analysis_pass,
)


class Twice(nn.Module):
    """One layer called twice, and one that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 3)
        self.idle = nn.Linear(1, 1)
        self.gain = nn.Parameter(torch.ones(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.fc(torch.relu(self.fc(x)) * self.gain)
        return result


def _annotated() -> MaseGraph:
    graph = init_metadata_analysis_pass(MaseGraph(Twice()))
    return add_common_metadata_analysis_pass(graph, {"dummy_in": {"x": torch.randn(4, 3)}})


def test_shows_the_graph_the_modules_and_the_inputs() -> None:
    model = Twice()
    graph = MaseGraph(model)
    assert graph.modules["fc"] is model.fc
    assert graph.placeholders == ("x",)
    assert graph.fx_graph is graph.model.graph
    assert graph.info == {}
    assert graph.history == ()
    x = torch.randn(5, 3)
    assert torch.equal(graph.model(x), model(x))


def test_a_copy_computes_the_same_and_shares_no_parameter() -> None:
    graph = _annotated()
    other = graph.copy()
    x = torch.randn(7, 3)
    before = graph.model(x)
    assert torch.equal(other.model(x), before)
    with torch.no_grad():
        for parameter in other.model.parameters():
            parameter.zero_()
    assert torch.equal(graph.model(x), before)
    assert torch.equal(other.model(x), torch.zeros(7, 3))


def test_a_copy_keeps_metadata_source_lines_and_history() -> None:
    graph = _annotated()
    graph.info["report"] = {"rows": [1]}
    other = graph.copy()
    for mine, theirs in zip(graph.fx_graph.nodes, other.fx_graph.nodes, strict=True):
        assert mine is not theirs
        assert common_of(theirs) is common_of(mine)
        assert theirs.stack_trace == mine.stack_trace
    assert other.history == graph.history == ("init_metadata", "add_common_metadata")
    assert other.example_inputs["x"] is graph.example_inputs["x"]
    other.info["report"]["rows"].append(2)
    assert graph.info == {"report": {"rows": [1]}}


def test_a_changed_copy_leaves_the_graph_as_it_was() -> None:
    graph = _annotated()
    code, metas = graph.model.code, [n.meta[KEY] for n in graph.fx_graph.nodes]
    other = graph.copy()
    for node in list(other.fx_graph.nodes):
        node.meta.pop(KEY)
        if node.name == "relu":
            node.replace_all_uses_with(node.args[0])
            other.fx_graph.erase_node(node)
    other.model.recompile()
    graph.model.recompile()
    assert other.model.code != code
    assert graph.model.code == code
    assert [n.meta[KEY] for n in graph.fx_graph.nodes] == metas


def test_a_shared_layer_stays_shared_in_a_copy() -> None:
    other = _annotated().copy()
    calls = [node for node in other.fx_graph.nodes if node.op == "call_module"]
    assert [node.target for node in calls] == ["fc", "fc"]
