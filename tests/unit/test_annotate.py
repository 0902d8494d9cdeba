"""Common metadata node by node: what is refused, and the caller's tensors left alone."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn
from torch.nn import functional

from chop.errors import ShapeError, UnsupportedOpError
from chop.ir.graph import MaseGraph
from chop.ir.meta import common_of
from chop.ops.annotate import record, run_in_integers
from chop.passes.graph.transforms import quantize_transform_pass
from tests.ops.designs import annotated

_CONFIG = {"name": "integer", "data_in_width": 8, "weight_width": 8, "bias_width": 8}


class AddInPlace(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = x * 2
        return h.add_(1.0) + h


class ReluInPlace(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = x * 2
        return functional.relu(h, inplace=True), h


class LayerInPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.act = nn.ReLU6(inplace=True)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.act(x), x


class ThroughAView(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = x * 2
        return h.view(-1, 3, 2).mul_(3.0), h


class Alone(nn.Module):
    """In place, but nobody else looks."""

    def __init__(self) -> None:
        super().__init__()
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.act(x).add_(0.5)
        return functional.hardtanh_(h.view(-1, 3, 2), -1.0, 1.0)


def _line(model: type[nn.Module], text: str) -> int:
    lines, first = inspect.getsourcelines(model)
    return first + next(i for i, line in enumerate(lines) if text in line)


def test_in_place_through_a_view_is_refused() -> None:
    with pytest.raises(UnsupportedOpError) as caught:
        annotated(ThroughAView(), [torch.randn(4, 6)])
    assert str(caught.value) == (
        f"node 'mul_' (test_annotate.py:{_line(ThroughAView, 'mul_')}): 'mul_' works in place on a "
        "tensor that is read elsewhere; use the form that returns a new tensor"
    )


@pytest.mark.parametrize("model", [AddInPlace, ReluInPlace, LayerInPlace])
def test_in_place_on_a_tensor_that_is_read_elsewhere_is_exact(model: type[nn.Module]) -> None:
    x = torch.randn(50, 6)
    graph = annotated(model(), [x])
    quantised = quantize_transform_pass(graph, {"default": {"config": _CONFIG}})
    integers = run_in_integers(quantised, {"x": x.double().numpy()})
    fake = quantised.model.double()(x.double())
    (output,) = (node for node in quantised.fx_graph.nodes if node.op == "output")
    eager = model()(x.clone())
    for node, a, b in zip(
        output.all_input_nodes,
        fake if isinstance(fake, tuple) else (fake,),
        eager if isinstance(eager, tuple) else (eager,),
        strict=False,
    ):
        exact = common_of(node).output.fixed.from_integers(integers[node.name])
        assert (exact == a.detach().numpy()).all()
        assert (a - b).abs().max() < 0.1


def test_in_place_with_no_other_reader_is_exact_and_keeps_the_callers_tensor() -> None:
    x = torch.randn(50, 6)
    kept = x.clone()
    graph = annotated(Alone(), [x])
    assert (record(graph, {"x": x})["x"] == kept.double().numpy()).all()
    quantised = quantize_transform_pass(graph, {"default": {"config": _CONFIG}})
    assert torch.equal(x, kept)
    exact = run_in_integers(quantised, {"x": x.double().numpy()})["hardtanh_"]
    fake = quantised.model.double()(x.double())
    levels = common_of(list(quantised.fx_graph.nodes)[-2]).output.fixed
    assert torch.equal(torch.from_numpy(levels.from_integers(exact)), fake)


class LosesTheBatch(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x.reshape(-1))


class HardBatch(nn.Module):
    """Right for a batch of one only."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(1, -1)


@pytest.mark.parametrize(
    ("model", "batch", "shown"), [(LosesTheBatch, 4, (24,)), (HardBatch, 1, (1, 12))]
)
def test_the_first_dimension_must_stay_the_batch(
    model: type[nn.Module], batch: int, shown: tuple[int, ...]
) -> None:
    with pytest.raises(ShapeError) as caught:
        annotated(model(), [torch.randn(batch, 6)])
    line = _line(model, "reshape")
    assert str(caught.value) == (
        f"node 'reshape' (test_annotate.py:{line}): the first dimension must stay the batch "
        f"({max(batch, 2)}), got shape {shown}; keep dimension 0 out of reshapes"
    )


def test_what_depends_on_parameters_only_is_a_constant() -> None:
    class Computed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.randn(3, 6))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return functional.linear(x.view(x.size(0), -1), torch.tanh(self.w) * 2)

    graph = annotated(Computed(), [torch.randn(4, 2, 3)])
    kinds = {node.name: common_of(node).operator for node in graph.fx_graph.nodes}
    assert kinds == {
        "x": "input",
        "size": "shape",
        "view": "reshape",
        "w": "constant",
        "tanh": "constant",
        "mul": "constant",
        "linear": "linear",
        "output": "output",
    }


def test_a_node_in_float_has_no_integers() -> None:
    graph = annotated(nn.Linear(3, 2), [torch.randn(4, 3)])
    with pytest.raises(UnsupportedOpError) as caught:
        run_in_integers(graph, {"input": torch.randn(2, 3).double().numpy()})
    assert str(caught.value) == (
        "node 'linear': operator 'linear' is in floating point; give it, and every tensor that it "
        'reads, a number format in quantize (name = "integer")'
    )


def test_record_gives_every_tensor_by_name() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    graph = MaseGraph(model)
    x = torch.randn(4, 3)
    found = record(graph, {"input": x})
    assert list(found) == ["input_1", "linear_0", "relu_1", "output"]
    assert (found["relu_1"] == model(x).detach().double().numpy()).all()
