"""Capture of passes that look at sizes, change tensors in place, or compute their weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, spectral_norm, weight_norm

from chop.errors import CaptureError, UnsupportedOpError
from chop.ir.graph import MaseGraph
from chop.ir.serialize import load_graph, save_graph
from tests.ops.designs import annotated

Forward = Callable[[Any, torch.Tensor], Any]


class Model(nn.Module):
    """A layer, and a forward pass of it."""

    def __init__(self, function: Forward) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 6)
        self.relu = nn.ReLU(inplace=True)
        self.kept = nn.Parameter(torch.ones(6), requires_grad=False)
        self.function = function

    def forward(self, x: torch.Tensor) -> object:
        return self.function(self, x)


def _model(function: Forward) -> Model:
    torch.manual_seed(0)
    return Model(function).eval()


def _flat(value: object) -> list[torch.Tensor]:
    return [value] if isinstance(value, torch.Tensor) else list(value)  # type: ignore[call-overload]


def _branches(model: Any, x: torch.Tensor) -> Any:
    assert x.ndim == 2
    assert x.shape[1] == 6
    y = model.fc(x).unsqueeze(1) if x.dim() == 2 else x
    features = 1
    for size in y.size()[1:]:
        features *= size
    y = y.reshape(*y.shape[:1], features)
    return y if y.shape == x.shape else x


def _batch(model: Any, x: torch.Tensor) -> Any:
    b, n = x.size()
    rows = b
    rows *= 3
    return x.reshape(rows, n // 3).reshape(b, 2, x.shape[-1] // 2).flatten(1)


def _parts(model: Any, x: torch.Tensor) -> Any:
    halves = [part * (i + 1) for i, part in enumerate(x.chunk(2, 1))]
    assert len(torch.split(x, 2, 1)) == 3
    return torch.cat(halves + [part.relu() for part in x.unbind(1)[0:0]], 1)


def _largest(model: Any, x: torch.Tensor) -> Any:
    y = model.fc(x).view(-1, 2, 3)
    values, indices = y.max(2)
    low, _ = torch.min(y, dim=1, keepdim=True)
    return values, indices.float(), low, y.max(dim=1).values, y - low.expand_as(y)


@pytest.mark.parametrize("function", [_branches, _batch, _parts, _largest])
def test_sizes_are_known_where_examples_are_given(function: Forward) -> None:
    model, x = _model(function), torch.randn(5, 6)
    graph = MaseGraph(model, (x[:1],))
    with torch.no_grad():
        for batch in (x, x[:2], x[:1]):
            for a, b in zip(_flat(model(batch)), _flat(graph.model(batch)), strict=True):
                assert torch.equal(a, b)


def test_without_examples_a_branch_on_sizes_is_refused() -> None:
    with pytest.raises(
        CaptureError, match=r"^model 'Model': 'if' on a tensor|'assert' on a tensor"
    ):
        MaseGraph(_model(_branches))


def _renamed(model: Any, x: torch.Tensor) -> Any:
    y = z = model.fc(x)
    y += 1
    return y + z


def _statement(model: Any, x: torch.Tensor) -> Any:
    y = model.fc(x)
    before = y.sigmoid()
    model.relu(y)
    y.mul_(2)
    return y - before


def _residual(model: Any, x: torch.Tensor) -> Any:
    y = model.fc(x)
    z = model.relu(y)
    z -= y * 2
    return y + z


@pytest.mark.parametrize("function", [_renamed, _statement, _residual])
def test_readers_of_what_was_changed_in_place_read_the_result(function: Forward) -> None:
    model, x = _model(function), torch.randn(7, 6)
    graph = annotated(model, (x,))
    with torch.no_grad():
        assert torch.equal(model(x.clone()), graph.model(x.clone()))
    # Every node is read: nothing is left to what calls do on the side.
    assert all(node.users or node.op == "output" for node in graph.fx_graph.nodes)


def _view(model: Any, x: torch.Tensor) -> Any:
    y = model.fc(x)
    z = y.view(-1, 2, 3)
    y += 1
    return z


def _slice(model: Any, x: torch.Tensor) -> Any:
    y = model.fc(x)
    y[:, :2].add_(1)
    return y


@pytest.mark.parametrize("function", [_view, _slice])
def test_a_change_that_is_read_under_another_name_is_refused(function: Forward) -> None:
    with pytest.raises(UnsupportedOpError, match="works in place on a tensor that is read elsewhe"):
        annotated(_model(function), (torch.randn(3, 6),))


def _assigned(model: Any, x: torch.Tensor) -> Any:
    y = model.fc(x)
    y[:, 0] = 0
    return y


def _state(model: Any, x: torch.Tensor) -> Any:
    return model.fc(x) + model.kept.add_(1)


@pytest.mark.parametrize(
    ("function", "message"),
    [(_assigned, "an assignment to a part of a tensor"), (_state, "changes 'kept', which the mod")],
)
def test_assignments_and_state_are_refused(function: Forward, message: str) -> None:
    with pytest.raises(CaptureError, match=message):
        MaseGraph(_model(function), (torch.randn(3, 6),))


def test_branches_that_nothing_reads_are_left_out() -> None:
    def dead(model: Any, x: torch.Tensor) -> Any:
        functional.relu(model.fc(x)).sum(1)
        return x * 2

    graph = MaseGraph(_model(dead))
    assert [node.op for node in graph.fx_graph.nodes] == ["placeholder", "call_function", "output"]


@pytest.mark.parametrize("kind", [weight_norm, spectral_norm, parametrizations.weight_norm])
def test_weights_that_are_computed_become_plain_ones(
    kind: Callable[[nn.Module], nn.Module], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model = nn.Sequential(kind(nn.Linear(4, 3)), nn.ReLU()).eval()
    x = torch.randn(5, 4)
    graph = MaseGraph(model).copy()
    with torch.no_grad():
        assert torch.allclose(model(x), graph.model(x))
    assert type(graph.model.get_submodule("0")) is nn.Linear
    # The model itself stays as it is.
    assert len(list(model[0].parameters())) > 1
    save_graph(graph, tmp_path / "graph.pt")
    assert torch.equal(load_graph(tmp_path / "graph.pt").model(x), graph.model(x))


def test_other_hooks_are_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    model[0].register_forward_hook(lambda module, inputs, output: output * 2)
    with pytest.raises(CaptureError, match=r"the layer '0' has forward hooks, which no hardware"):
        MaseGraph(model)
