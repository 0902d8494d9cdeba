"""Saved graphs: a process without the model's source computes the same."""

from __future__ import annotations

import importlib.util
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from chop.errors import DataError
from chop.ir.capture import source_line
from chop.ir.graph import MaseGraph
from chop.ir.meta import common_of
from chop.ir.serialize import load_graph, save_graph
from chop.ops.annotate import run_in_integers
from chop.passes.graph.analysis import (
    add_common_metadata_analysis_pass,
    init_metadata_analysis_pass,
)
from chop.passes.graph.transforms import quantize_transform_pass

_SOURCE = """
import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(6)
        self.fc = nn.Linear(6, 6)

    def forward(self, x):
        return functional.leaky_relu(self.fc(self.norm(x)), negative_slope=0.25)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = Block()
        self.gain = nn.Parameter(torch.randn(6))
        self.register_buffer("offset", torch.randn(6))
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(6, 3, bias=False)

    def forward(self, x, other):
        twice = self.block(self.block(x)) * self.gain
        summed = torch.add(self.drop(twice), other.flatten(1)) - self.offset
        tied = functional.linear(summed, self.head.weight).reshape(x.shape[0], 3)
        return {"scores": self.head(summed), "more": (tied, twice.clamp(min=-1, max=None))}


def make_model():
    torch.manual_seed(3)
    model = Model()
    model.train()
    model(torch.randn(64, 6), torch.randn(64, 2, 3))
    return model.eval()
"""
_FRESH = """
import sys, torch
from pathlib import Path
from chop.ir.serialize import load_graph
from chop.ops.annotate import run_in_integers
graph = load_graph(Path(sys.argv[1]))
inputs = torch.load(sys.argv[2])
with torch.no_grad():
    result = graph.model(*inputs)
named = {n: x.double().numpy() for n, x in zip(graph.placeholders, inputs, strict=True)}
integers = run_in_integers(graph, named) if "quantize" in graph.history else {}
torch.save({"result": result, "integers": integers, "history": graph.history}, sys.argv[3])
assert "hidden_model" not in sys.modules
"""


@pytest.fixture
def model(tmp_path: Path) -> nn.Module:
    """A model of a module that nobody else can import."""
    path = tmp_path / "source" / "hidden_model.py"
    path.parent.mkdir()
    path.write_text(_SOURCE, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("hidden_model", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    path.unlink()
    made: nn.Module = module.make_model()
    return made


def _inputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(17, 6, generator=generator), torch.randn(17, 2, 3, generator=generator)


def _in_a_fresh_process(saved: Path, folder: Path) -> dict[str, Any]:
    torch.save(_inputs(), folder / "inputs.pt")
    script = folder / "fresh.py"
    script.write_text(_FRESH, encoding="utf-8")
    arguments = [str(saved), str(folder / "inputs.pt"), str(folder / "outputs.pt")]
    command = [sys.executable, str(script), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = torch.load(folder / "outputs.pt", weights_only=False)
    return result


def _assert_equal(a: Any, b: Any) -> None:
    assert torch.equal(a["scores"], b["scores"])
    assert all(torch.equal(x, y) for x, y in zip(a["more"], b["more"], strict=True))


def test_a_saved_graph_runs_without_the_models_source(model: nn.Module, tmp_path: Path) -> None:
    saved = tmp_path / "graph.pt"
    save_graph(MaseGraph(model), saved)
    found = _in_a_fresh_process(saved, tmp_path)
    with torch.no_grad():
        _assert_equal(found["result"], model(*_inputs()))


def test_a_quantised_graph_keeps_its_integers(model: nn.Module, tmp_path: Path) -> None:
    x, other = _inputs()
    graph = init_metadata_analysis_pass(MaseGraph(model))
    inputs = {"dummy_in": {"x": x, "other": other}}
    graph = add_common_metadata_analysis_pass(graph, inputs)
    config = {"name": "integer", "data_in_width": 6, "weight_width": 5, "bias_width": 9}
    graph = quantize_transform_pass(graph, {"default": {"config": config}})
    saved = tmp_path / "graph.pt"
    save_graph(graph, saved)
    found = _in_a_fresh_process(saved, tmp_path)
    with torch.no_grad():
        _assert_equal(found["result"], graph.model(x, other))
    named = {"x": x.double().numpy(), "other": other.double().numpy()}
    expected = run_in_integers(graph, named)
    assert list(found["integers"]) == list(expected)
    assert all((found["integers"][name] == expected[name]).all() for name in expected)
    assert found["history"] == graph.history


def test_a_loaded_graph_has_metadata_modes_and_reports(model: nn.Module, tmp_path: Path) -> None:
    x, other = _inputs()
    model.train()
    model.get_submodule("block.norm").eval()
    graph = init_metadata_analysis_pass(MaseGraph(model))
    inputs = {"dummy_in": {"x": x, "other": other}}
    graph = add_common_metadata_analysis_pass(graph, inputs)
    graph.info["mine"] = [{"node": "head"}]
    save_graph(graph, tmp_path / "graph.pt")
    loaded = load_graph(tmp_path / "graph.pt")
    for mine, theirs in zip(graph.fx_graph.nodes, loaded.fx_graph.nodes, strict=True):
        assert (mine.op, mine.name, mine.target) == (theirs.op, theirs.name, theirs.target)
        assert source_line(mine) == source_line(theirs)
        assert common_of(mine) == common_of(theirs)
    assert any(source_line(node) for node in loaded.fx_graph.nodes)
    # Where the model's file lies is nobody's business, and would change the bytes.
    content = (tmp_path / "graph.pt").read_bytes()
    assert str(Path(__file__).parent).encode() not in content
    assert loaded.info == {"mine": [{"node": "head"}]}
    assert loaded.model.training
    assert loaded.modules["drop"].training
    assert not loaded.modules["block.norm"].training
    assert torch.equal(loaded.example_inputs["x"], x)
    # The weight of a layer that a function reads too is still one tensor.
    assert loaded.model.get_parameter("head.weight") is loaded.modules["head"].weight
    names = {name for name, _ in loaded.model.named_buffers()}
    assert {"offset", "block.norm.running_mean"} <= names


def test_saving_twice_gives_a_graph_that_is_the_same(model: nn.Module, tmp_path: Path) -> None:
    save_graph(MaseGraph(model), tmp_path / "first.pt")
    again = load_graph(tmp_path / "first.pt")
    save_graph(again, tmp_path / "second.pt")
    with torch.no_grad():
        _assert_equal(load_graph(tmp_path / "second.pt").model(*_inputs()), model(*_inputs()))


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_graph(tmp_path / "none.pt")
    assert str(caught.value) == (
        f"no saved graph at '{tmp_path / 'none.pt'}'; write one with save_graph"
    )


def test_another_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    path.write_bytes(b"not a saved graph")
    with pytest.raises(DataError) as caught:
        load_graph(path)
    assert str(caught.value).startswith(f"'{path}' is not a saved graph: ")
    assert "\n" not in str(caught.value)
    torch.save({"magic": "chop graph 0"}, path)
    with pytest.raises(DataError) as caught:
        load_graph(path)
    assert str(caught.value) == (
        f"'{path}' is not a saved graph of this version of chop; save it again"
    )


def test_a_failed_save_leaves_the_old_file(
    model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "graph.pt"
    save_graph(MaseGraph(model), path)
    before = path.read_bytes()
    graph = MaseGraph(model)
    graph.info["unpicklable"] = lambda: None
    with pytest.raises((pickle.PicklingError, AttributeError)):
        save_graph(graph, path)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["graph.pt", "source"]
