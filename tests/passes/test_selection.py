"""Selectors: which nodes a rule is for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import fx, nn
from torch.nn import functional

from chop.errors import ConfigError
from chop.ir.graph import MaseGraph
from chop.passes.selection import check_leaves, parse_selector
from tests.passes.networks import annotated, batch, quantised


class Bounded(nn.Linear):
    """A subclass, which torch's own table does not know."""


class Net(nn.Module):
    """Modules at paths, a function, a method, one layer called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.head(self.body(x)))
        scores: torch.Tensor = self.head(y).clamp(-1, 1)
        return scores


ALL = {"body_0", "body_1", "body_2", "head", "relu", "head_1", "clamp"}


def graph() -> MaseGraph:
    return annotated(Net().eval(), batch(5, 6))


def selected(table: Any, graph: MaseGraph | None = None) -> set[str]:
    graph = graph or _GRAPH
    selector = parse_selector(table, "select")
    check_leaves(graph, selector, "select")
    return {n.name for n in _nodes(graph) if selector.matches(graph, n)}


def _nodes(graph: MaseGraph) -> list[fx.Node]:
    return [n for n in graph.fx_graph.nodes if n.op not in ("placeholder", "output")]


_GRAPH = graph()


def test_the_network_has_the_nodes_that_the_tests_name() -> None:
    assert {n.name for n in _nodes(_GRAPH)} == ALL


@pytest.mark.parametrize(
    ("table", "nodes"),
    [
        ({"name": "head"}, {"head", "head_1"}),
        ({"name": "head_1"}, {"head_1"}),
        ({"name": "body.0"}, {"body_0"}),
        ({"name": ["body_0", "relu"]}, {"body_0", "relu"}),
        ({"regex": "body.*"}, {"body_0", "body_1", "body_2"}),
        ({"regex": r"body\.[01]"}, {"body_0", "body_1"}),
        ({"regex": "bod|hea"}, None),
        ({"regex": ["head.*", "clamp"]}, {"head", "head_1", "clamp"}),
        ({"type": "linear"}, {"body_0", "head", "head_1"}),
        ({"type": "Linear"}, {"body_0", "head", "head_1"}),
        ({"type": "relu"}, {"body_1", "relu"}),
        ({"type": ["relu", "clamp"]}, {"body_1", "relu", "clamp"}),
        ({"type": "dropout"}, {"body_2"}),
        ({"subtype": "Linear"}, {"body_0", "head", "head_1"}),
        ({"subtype": "ReLU"}, {"body_1"}),
        ({"subtype": "module"}, {"body_0", "body_1", "body_2", "head", "head_1"}),
        ({"type": "linear", "regex": "body.*"}, {"body_0"}),
        ({"and": [{"type": "linear"}, {"name": "head"}]}, {"head", "head_1"}),
        ({"or": [{"type": "clamp"}, {"name": "body_1"}]}, {"clamp", "body_1"}),
        ({"not": {"type": "linear"}}, ALL - {"body_0", "head", "head_1"}),
        ({"type": "linear", "not": {"name": "head_1"}}, {"body_0", "head"}),
        (
            {"and": [{"not": {"type": "relu"}}, {"or": [{"regex": "body.*"}, {"name": "clamp"}]}]},
            {"body_0", "body_2", "clamp"},
        ),
        ({"not": {"not": {"name": "relu"}}}, {"relu"}),
        ({"or": [{"name": "relu"}], "not": {"name": "relu"}}, set()),
    ],
)
def test_what_a_table_selects(table: Any, nodes: set[str] | None) -> None:
    if nodes is None:
        with pytest.raises(ConfigError) as caught:
            selected(table)
        assert str(caught.value) == "select: 'bod|hea' matches no node; see report_graph"
    else:
        assert selected(table) == nodes


def test_a_class_is_a_subtype_of_its_bases() -> None:
    """A wrapped layer counts as the layer inside."""
    plain = annotated(nn.Sequential(nn.Linear(4, 4), nn.ReLU6()).eval(), batch(5, 4))
    nodes = {str(n.target): n.name for n in plain.fx_graph.nodes}
    assert selected({"subtype": "hardtanh"}, plain) == {nodes["1"]}
    assert selected({"type": "relu6"}, plain) == {nodes["1"]}
    wrapped = quantised(plain)
    assert selected({"subtype": "linear"}, wrapped) == {nodes["0"]}
    assert selected({"type": "Linear"}, wrapped) == {nodes["0"]}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "select must be a table of name, regex, type, subtype, and, or, not, got {}"),
        ("fc1", "select must be a table of name, regex, type, subtype, and, or, not, got 'fc1'"),
        ({"nmae": "fc1"}, "select: unknown key 'nmae'; did you mean 'name'?"),
        ({"name": 3}, "select.name must be a word or a list of words, got 3"),
        ({"name": []}, "select.name must be a word or a list of words, got []"),
        ({"name": ["a", 3]}, "select.name must be a word or a list of words, got ['a', 3]"),
        ({"and": {"name": "a"}}, "select.and must be a list of tables, got {'name': 'a'}"),
        ({"or": []}, "select.or must be a list of tables, got []"),
        ({"not": {"tpye": "a"}}, "select.not: unknown key 'tpye'; did you mean 'type'?"),
        (
            {"or": [{"name": "relu"}, {}]},
            "select.or must be a table of name, regex, type, subtype, and, or, not, got {}",
        ),
        (
            {"regex": "fc("},
            "select: 'fc(' is no regex: missing ), unterminated subpattern at position 2",
        ),
        ({"name": "haed"}, "select: no node 'haed'; did you mean 'head'?"),
        ({"not": {"name": "haed"}}, "select: no node 'haed'; did you mean 'head'?"),
        ({"type": "lineer"}, "select: no operator 'lineer'; did you mean 'linear'?"),
        ({"subtype": "droput"}, "select: no operator 'droput'; did you mean 'dropout'?"),
        ({"regex": "conv.*"}, "select: 'conv.*' matches no node; see report_graph"),
    ],
)
def test_a_slip_is_one_line(table: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        selected(table)
    assert str(caught.value) == message


def test_a_type_that_the_network_lacks_is_no_slip() -> None:
    """One recipe serves several networks."""
    assert selected({"type": "leaky_relu"}) == set()
