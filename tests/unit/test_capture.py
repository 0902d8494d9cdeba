"""Capture: refusals that say what, where and why; every kind of node; captured equals eager."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import nn

from chop.errors import CaptureError
from chop.ir.capture import capture, source_line
from chop.ir.graph import MaseGraph
from chop.ir.modes import evaluating

_HERE = "test_capture.py"
_BRANCH = (
    "the branch taken would depend on the data; "
    "use torch.clamp, relu or other tensor functions instead"
)
_NUMBER = "its value would depend on the data; keep it a tensor or use a constant"
_TURNS = "the number of turns would depend on the data; use tensor functions or a fixed range()"
_FIXED_SHAPE = "use torch.clamp, relu or other functions of fixed shape"


class If(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:
            return x
        return -x


class ElseIf(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dim is None:
            x = x + 1
        elif x.mean() < 1:
            x = -x
        return x


class While(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        while x.abs().max() > 1:
            x = x / 2
        return x


class Assert(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert (x >= 0).all()
        return x


class And(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if bool(x.sum()) else -x


class Inner(nn.Module):
    """The construct is in a submodule: its line is the one to show."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = If()

    def forward(self, x: torch.Tensor) -> Any:
        return self.inner(x) * 2


class For(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = torch.zeros(3)
        for row in x:
            total = total + row
        return total


class Length(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * len(x)


class Integer(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, : int(x.sum())]


class Float(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * float(x.max())


class Range(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(x.sum()):
            x = x + 1
        return x


class Item(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * x.max().item()


class NonZero(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[torch.nonzero(x)]


class Mask(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[x > 0]


class MaskOfTwo(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[(x > 0) & (x < 1)]


class MaskInTuple(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, x[0] > 0]


class Where(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return torch.where(x > 0)


class MaskedSelect(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.masked_select(x > 0)


class Broken(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.missing  # type: ignore[operator]


def _line(model: type[nn.Module], text: str) -> int:
    lines, first = inspect.getsourcelines(model)
    return first + next(i for i, line in enumerate(lines) if text in line)


@pytest.mark.parametrize(
    ("model", "where", "text", "construct", "reason"),
    [
        (If, If, "if x.sum() > 0:", "'if' on a tensor", _BRANCH),
        (ElseIf, ElseIf, "elif x.mean() < 1:", "'elif' on a tensor", _BRANCH),
        (Inner, If, "if x.sum() > 0:", "'if' on a tensor", _BRANCH),
        (While, While, "while x.abs().max() > 1:", "'while' on a tensor", _BRANCH),
        (Assert, Assert, "assert (x >= 0).all()", "'assert' on a tensor", _BRANCH),
        (And, And, "return x if bool(x.sum()) else -x", "a truth test on a tensor", _BRANCH),
        (For, For, "for row in x:", "iteration over a tensor", _TURNS),
        (
            Length,
            Length,
            "return x * len(x)",
            "len() of a tensor",
            "it is not known at capture; use x.shape[i] or a fixed number",
        ),
        (
            Integer,
            Integer,
            "return x[:, : int(x.sum())]",
            "a Python number taken from a tensor",
            _NUMBER,
        ),
        (
            Float,
            Float,
            "return x * float(x.max())",
            "a Python number taken from a tensor",
            _NUMBER,
        ),
        (Range, Range, "for _ in range(x.sum()):", "a Python number taken from a tensor", _NUMBER),
        (
            Broken,
            Broken,
            "return x + self.missing",
            "the forward pass failed",
            "'Broken' object has no attribute 'missing'",
        ),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_data_dependent_control_flow_is_refused(
    model: type[nn.Module], where: type[nn.Module], text: str, construct: str, reason: str
) -> None:
    with pytest.raises(CaptureError) as caught:
        MaseGraph(model())
    line = _line(where, text)
    shown = inspect.getsourcelines(where)[0][line - inspect.getsourcelines(where)[1]].strip()
    assert str(caught.value) == (
        f"model '{model.__name__}': {construct} at {_HERE}:{line}: '{shown}'; {reason}"
    )


@pytest.mark.parametrize(
    ("model", "text", "name", "reason"),
    [
        (Item, "x.max().item()", "item", "takes a Python number out of a tensor"),
        (NonZero, "torch.nonzero", "nonzero", "has a shape that depends on the data"),
        (Mask, "x[x > 0]", "x[mask]", "has a shape that depends on the data"),
        (MaskOfTwo, "x[(x > 0)", "x[mask]", "has a shape that depends on the data"),
        (MaskInTuple, "x[:, x[0] > 0]", "x[mask]", "has a shape that depends on the data"),
        (Where, "torch.where(x > 0)", "where", "has a shape that depends on the data"),
        (MaskedSelect, "masked_select", "masked_select", "has a shape that depends on the data"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_data_dependent_shapes_are_refused(
    model: type[nn.Module], text: str, name: str, reason: str
) -> None:
    with pytest.raises(CaptureError) as caught:
        MaseGraph(model())
    assert str(caught.value) == (
        f"model '{model.__name__}': '{name}' at {_HERE}:{_line(model, text)} {reason}; "
        f"{_FIXED_SHAPE}"
    )


class AllKinds(nn.Module):
    """placeholder, get_attr, call_module, call_function, call_method, output."""

    offset: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.scale = nn.Parameter(torch.randn(4))
        self.register_buffer("offset", torch.randn(4))

    def forward(self, x: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = torch.relu(self.fc(x) * self.scale)
        return self.fc(hidden).clamp(min=0) + other, hidden - self.offset


def test_all_six_kinds_of_node_shared_modules_several_inputs_and_outputs() -> None:
    model = AllKinds().eval()
    graph = MaseGraph(model)
    kinds = {node.op for node in graph.fx_graph.nodes}
    assert kinds == {
        *("placeholder", "get_attr", "call_function"),
        *("call_module", "call_method", "output"),
    }
    assert graph.placeholders == ("x", "other")
    assert sum(node.target == "fc" for node in graph.fx_graph.nodes) == 2
    assert graph.modules["fc"] is model.fc
    inputs = torch.randn(9, 4), torch.randn(9, 4)
    with torch.no_grad():
        for eager, captured in zip(model(*inputs), graph.model(*inputs), strict=True):
            assert torch.equal(eager, captured)


def test_capture_shares_the_parameters_and_changes_no_mode() -> None:
    model = AllKinds().train()
    model.fc.eval()
    captured = capture(model)
    assert captured.get_parameter("scale") is model.scale
    assert (model.training, model.fc.training) == (True, False)


def test_a_captured_model_is_taken_as_it_is() -> None:
    captured = capture(AllKinds())
    assert capture(captured) is captured


def test_a_sequential_gets_names_that_say_what_they_are() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU()))
    names = [node.name for node in MaseGraph(model).fx_graph.nodes]
    assert names == ["input_1", "linear_0", "relu_1_0", "output"]


def test_a_bare_layer_is_one_node() -> None:
    graph = MaseGraph(nn.Linear(3, 2))
    assert [node.op for node in graph.fx_graph.nodes] == ["placeholder", "call_module", "output"]


def test_source_line_is_the_users() -> None:
    graph = MaseGraph(AllKinds())
    lines = {node.name: source_line(node) for node in graph.fx_graph.nodes}
    assert lines["relu"] == f"{_HERE}:{_line(AllKinds, 'torch.relu')}"
    assert lines["clamp"] == f"{_HERE}:{_line(AllKinds, '.clamp(min=0)')}"
    assert lines["x"] == ""


def test_evaluating_restores_every_modules_own_mode() -> None:
    norm = nn.BatchNorm1d(2)
    model = nn.Sequential(nn.Dropout(), nn.Sequential(norm, nn.ReLU()))
    model.train()
    norm.eval()
    modes = [module.training for module in model.modules()]

    def fails() -> None:
        with evaluating(model):
            assert not any(module.training for module in model.modules())
            assert not torch.is_grad_enabled()
            raise RuntimeError("in between")

    with pytest.raises(RuntimeError, match="in between"):
        fails()
    assert [module.training for module in model.modules()] == modes
    assert torch.is_grad_enabled()
