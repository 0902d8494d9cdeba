"""Functions by table: what they compute, where their formats come from, what is refused."""

from __future__ import annotations

import copy
import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from chop.errors import ConfigError, UnsupportedOpError
from chop.formats.fixed import Fixed
from chop.formats.rounding import Rounding
from chop.ir.graph import MaseGraph
from chop.ir.meta import common_of
from chop.ir.serialize import load_graph, save_graph
from chop.nn.functions import FUNCTIONS, Elementwise, Function, evaluate
from chop.nn.result import QuantizedResult
from chop.ops.annotate import run_in_integers
from chop.passes.graph.analysis import check_integerizable_analysis_pass
from chop.passes.graph.analysis.add_hardware import add_hardware_metadata_analysis_pass
from chop.passes.graph.transforms import (
    emit_internal_rtl_transform_pass,
    emit_verilog_top_transform_pass,
    float_to_fake_transform_pass,
    quantize_transform_pass,
)
from chop.passes.graph.transforms.dequantize import take_back_formats
from tests.ops.designs import annotated

_WIDTHS = {"data_in_width": 8, "data_in_frac_width": 5}
_CONSTANTS: dict[str, tuple[Any, ...]] = {
    "pow": (3,),
    "power_of": (2.0,),
    "quotient": (1.5,),
    "threshold": (0.5, 0.25),
}


def _examples(count: int = 64) -> torch.Tensor:
    return torch.randn((count, 6), generator=torch.Generator().manual_seed(5)) * 2


def _quantised(model: nn.Module, **config: Any) -> MaseGraph:
    entry = {"config": {"name": "integer", **_WIDTHS, **config}}
    return quantize_transform_pass(annotated(model.eval(), (_examples(),)), {"default": entry})


def _function_node(graph: MaseGraph) -> Any:
    (node,) = (n for n in graph.fx_graph.nodes if common_of(n).operator == "table")
    return node


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_an_element_has_one_value_wherever_it_stands(name: str, seed: int) -> None:
    """Torch's own loops do not promise that: they treat the end of a tensor differently."""
    function = Function(name, _CONSTANTS.get(name, ()))
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(5003, generator=generator, dtype=torch.float64)
    x = torch.round(x * 64) / 64
    whole = evaluate(function, x)
    order = torch.randperm(len(x), generator=generator)
    for part in (slice(0, 1), slice(1, 4), slice(17, 100), slice(4999, None)):
        assert torch.equal(evaluate(function, x[part]).isnan(), whole[part].isnan())
        assert torch.equal(evaluate(function, x[part]).nan_to_num(), whole[part].nan_to_num())
    shuffled = evaluate(function, x[order])
    assert torch.equal(shuffled.nan_to_num(), whole[order].nan_to_num())
    # And it is the function.
    assert torch.allclose(whole, function(x), rtol=1e-14, atol=1e-300, equal_nan=True)
    assert evaluate(function, x[:0]).shape == (0,)


@pytest.mark.parametrize("rounding", list(Rounding))
def test_every_level_is_the_function_rounded(rounding: Rounding) -> None:
    layer = QuantizedResult(Elementwise(Function("tanh")), Fixed(6, 5), rounding).eval()
    model = nn.Sequential(nn.Identity(), layer)
    graph = quantize_transform_pass(
        annotated(model, (_examples(),)),
        {"default": {"config": {"name": "integer", **_WIDTHS, "data_out_width": 6,
                                "data_out_frac_width": 5}}, "rounding": rounding.value},
    )  # fmt: skip
    levels = np.arange(-128, 128)
    values = (levels / 32.0).reshape(-1, 1).repeat(6, axis=1)
    name = graph.placeholders[0]
    found = run_in_integers(graph, {name: values})[_function_node(graph).name]
    exact = np.tanh(values) * 32
    expected = {
        Rounding.FLOOR: np.floor(exact),
        Rounding.HALF_UP: np.floor(exact + 0.5),
        Rounding.HALF_EVEN: np.round(exact),
    }[rounding]
    assert np.array_equal(found, np.clip(expected, -32, 31))


def test_the_result_has_the_format_of_data_out() -> None:
    graph = _quantised(nn.Sequential(nn.Sigmoid()), data_out_width=5, data_out_frac_width=4)
    assert common_of(_function_node(graph)).output.format == Fixed(5, 4)


def test_without_data_out_the_result_is_as_wide_as_the_input() -> None:
    """Its fraction and sign are its own: a sigmoid is in 0..1."""
    graph = _quantised(nn.Sequential(nn.Sigmoid()))
    assert common_of(_function_node(graph)).output.format == Fixed(8, 8, signed=False)
    graph = _quantised(nn.Sequential(nn.Tanh()))
    assert common_of(_function_node(graph)).output.format == Fixed(8, 7)


def test_quantize_starts_over() -> None:
    once = _quantised(nn.Sequential(nn.Linear(6, 4), nn.SiLU()), weight_width=6)
    entry = {"config": {"name": "integer", "data_in_width": 6, "weight_width": 4}}
    twice = quantize_transform_pass(once, {"default": entry})
    assert common_of(_function_node(twice)).output.fixed.width == 6
    take_back_formats(twice)
    float_graph = annotated(nn.Sequential(nn.Linear(6, 4), nn.SiLU()).eval(), (_examples(),))
    names = [n.name for n in float_graph.fx_graph.nodes]
    assert [n.name for n in twice.fx_graph.nodes] == names
    model = copy.deepcopy(twice.model)
    x = _examples()
    linear = next(m for m in model.modules() if isinstance(m, nn.Linear))
    with torch.no_grad():
        assert torch.equal(model(x), nn.functional.silu(linear(x)))


def test_a_saved_graph_has_its_tables(tmp_path: Path) -> None:
    graph = _quantised(nn.Sequential(nn.GELU("tanh"), nn.Softplus(2.0)))
    save_graph(graph, tmp_path / "graph")
    loaded = load_graph(tmp_path / "graph")
    x = _examples()
    with torch.no_grad():
        assert torch.equal(loaded.model(x), graph.model(x))
    inputs = {graph.placeholders[0]: x.double().numpy()}
    expected, found = run_in_integers(graph, inputs), run_in_integers(loaded, inputs)
    assert all(np.array_equal(found[name], values) for name, values in expected.items())


def test_it_trains_with_the_gradient_of_the_function() -> None:
    layer = QuantizedResult(Elementwise(Function("tanh")), Fixed(10, 6))
    x = torch.linspace(-3, 3, 31, dtype=torch.float64)
    expected = 1 - torch.tanh(x) ** 2
    for mode in (layer.train(), layer.eval()):
        leaf = x.clone().requires_grad_()
        mode(leaf).sum().backward()
        assert leaf.grad is not None
        assert torch.allclose(leaf.grad, expected)


def test_float_to_fake_formats_the_result() -> None:
    tensor = {"format": "scaled_integer", "width": 6}
    graph = float_to_fake_transform_pass(
        annotated(nn.Sequential(nn.Identity(), nn.Mish()).eval(), (_examples(),)),
        {"rules": [{"select": {"type": "mish"}, "data_in": tensor}]},
    )
    output = common_of(_function_node(graph)).output
    assert output.format is not None
    assert (output.format.kind, output.fixed.width) == ("scaled_integer", 6)
    x = {graph.placeholders[0]: _examples().double().numpy()}
    with torch.no_grad():
        fake = graph.model.double()(_examples().double()).numpy()
    found = run_in_integers(graph, x)[_function_node(graph).name]
    assert np.array_equal(output.format.from_integers(found), fake)


def test_no_format_is_no_integers() -> None:
    model = annotated(nn.Sequential(nn.Identity(), nn.Sigmoid()).eval(), (_examples(),))
    tensor = {"format": "fixed", "width": 8}
    rules = [{"select": {"type": "identity"}, "data_in": tensor}]
    graph = float_to_fake_transform_pass(model, {"rules": rules})
    with pytest.raises(UnsupportedOpError) as error:
        run_in_integers(graph, {graph.placeholders[0]: _examples().double().numpy()})
    assert str(error.value) == (
        "node 'sigmoid_1': operator 'table': its result: sigmoid has no integers of its own; "
        "give it a data_out format"
    )


def test_the_check_before_training_counts_on_a_format() -> None:
    graph = annotated(nn.Sequential(nn.Linear(6, 4), nn.Sigmoid(), nn.ReLU()), (_examples(),))
    found = check_integerizable_analysis_pass(graph).info["check_integerizable"]
    assert found["blockers"] == []


def test_too_many_bits_are_refused() -> None:
    with pytest.raises(UnsupportedOpError) as error:
        _quantised(nn.Sequential(nn.Sigmoid()), data_in_width=17)
    assert str(error.value) == (
        "node 'sigmoid_0': a table of sigmoid takes inputs of at most 16 bits, got 17; "
        "give it a data_in_width of at most 16"
    )


class _Root(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sqrt(torch.relu(x) + 1.0)


class _Minus(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sqrt(torch.clamp(x, 0.75, 2.0) - 0.75)


def test_what_is_not_a_number_is_refused() -> None:
    """The constant rounds to -1, so that the root may meet -1/4."""
    quantised = _quantised(_Root(), bias_width=2, bias_frac_width=0)
    assert common_of(_function_node(quantised)).inputs[0].low == 32
    with pytest.raises(UnsupportedOpError) as error:
        _quantised(_Minus(), bias_width=2, bias_frac_width=0)
    place = f"test_table.py:{inspect.getsourcelines(_Minus)[1] + 2}"
    assert str(error.value) == (
        f"node 'sqrt' ({place}): sqrt of -0.25 is not a number, and its input may be that; clamp "
        "the input first, or give it an unsigned data_in format"
    )


def test_a_vector_is_no_exponent() -> None:
    class Power(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x ** torch.tensor([1.0, 2.0, 3.0, 1.0, 2.0, 3.0])

    with pytest.raises(UnsupportedOpError, match="exponent of 'pow' must be one number, got shape"):
        annotated(Power(), (_examples(),))


def test_blocks_hold_no_table() -> None:
    with pytest.raises((UnsupportedOpError, ConfigError), match="cannot hold"):
        _quantised(
            nn.Sequential(nn.Sigmoid()),
            data_out_format="mxint",
            data_out_width=6,
            data_out_block_size=2,
        )


@pytest.mark.parametrize(("width", "style"), [(12, "auto"), (13, "block")])
def test_long_tables_are_block_memory(width: int, style: str, tmp_path: Path) -> None:
    graph = _quantised(nn.Sequential(nn.Sigmoid()), data_in_width=width, data_out_width=4)
    graph = add_hardware_metadata_analysis_pass(graph, {"lanes": {"sigmoid_0": [1, 1]}})
    arguments = {"project_dir": tmp_path, "top_name": "top", "name": "top"}
    for emit in (emit_verilog_top_transform_pass, emit_internal_rtl_transform_pass):
        graph = emit(graph, arguments)
    top = (tmp_path / "rtl" / "top.sv").read_text(encoding="utf-8")
    assert re.findall(r'RomStyle\s*\("(\w+)"\)', top) == [style]
