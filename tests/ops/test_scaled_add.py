"""Sums of tensors of different scales in a network: formats, the way back, equality."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from chop.errors import UnsupportedOpError
from chop.ir.graph import MaseGraph
from chop.ir.meta import common_of
from chop.ops.annotate import run_in_integers
from chop.passes.graph.transforms import float_to_fake_transform_pass
from chop.passes.graph.transforms.dequantize import take_back_formats
from tests.ops.designs import annotated


class _Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(x)
        inner: torch.Tensor = self.inner(x)
        return torch.relu(x + inner)


def _examples() -> torch.Tensor:
    return torch.randn((64, 6), generator=torch.Generator().manual_seed(3))


def _fake(graph: MaseGraph, **more: Any) -> MaseGraph:
    tensor = {"format": "scaled_integer", "width": 6}
    layer = {"data_in": tensor, "weight": {**tensor, "per_channel": True}}
    rules: list[dict[str, Any]] = [{"select": {"type": "linear"}, **layer}]
    rules.append({"select": {"type": "relu"}, "data_in": tensor})
    if more:
        rules.append({"select": {"type": "tensor_add"}, **more})
    return float_to_fake_transform_pass(graph, {"rules": rules})


def _graph() -> MaseGraph:
    torch.manual_seed(2)
    return annotated(_Residual().eval(), (_examples(),))


def test_a_residual_sum_is_rounded_once() -> None:
    tensor = {"format": "scaled_integer", "width": 7}
    graph = _fake(_graph(), data_in=tensor, data_out={**tensor, "width": 6})
    (node,) = (n for n in graph.fx_graph.nodes if common_of(n).operator == "scaled_add")
    a, b = common_of(node).inputs
    assert a.scale != b.scale
    assert common_of(node).output.fixed.width == 6
    x = torch.randn((500, 6), generator=torch.Generator().manual_seed(9)).double() * 2
    with torch.no_grad():
        fake = graph.model.double()(x).numpy()
    found = run_in_integers(graph, {"x": x.numpy()})
    last = next(n for n in graph.fx_graph.nodes if n.op == "output").all_input_nodes[0]
    format = common_of(last).output.format
    assert format is not None
    scale = common_of(last).output.scale
    reals = found[last.name] * (1.0 if scale is None else scale.floats())
    assert np.array_equal(reals, fake)


def test_without_a_format_it_says_what_is_missing() -> None:
    graph = _fake(_graph())
    try:
        run_in_integers(graph, {"x": _examples().double().numpy()})
    except UnsupportedOpError as error:
        message = str(error)
    assert message.startswith("node 'add': operator 'tensor_add': its result: a sum of the scales ")
    assert message.endswith("has no scale of its own; give it a data_out format")


def test_it_is_a_plain_sum_again_in_float() -> None:
    float_graph = _graph()
    tensor = {"format": "scaled_integer", "width": 7}
    graph = _fake(float_graph, data_in=tensor, data_out=tensor)
    take_back_formats(graph)
    assert [n.name for n in graph.fx_graph.nodes] == [n.name for n in float_graph.fx_graph.nodes]
    with torch.no_grad():
        assert torch.equal(graph.model(_examples()), float_graph.model(_examples()))
    operators = {common_of(n).operator for n in graph.fx_graph.nodes}
    assert "tensor_add" in operators
    assert "scaled_add" not in operators
