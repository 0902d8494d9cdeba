"""quantize: which layer gets which formats, what it computes then, and what it refuses."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from chop.errors import ConfigError, ShapeError, UnsupportedOpError
from chop.formats.calibrate import quantisation_error
from chop.formats.fixed import Fixed
from chop.formats.rounding import Rounding
from chop.ir.graph import MaseGraph
from chop.ir.meta import common_of
from chop.nn.fake_quantize import Cast, fake_quantize
from chop.ops.annotate import run_in_integers
from chop.passes.graph.analysis import (
    add_hardware_metadata_analysis_pass,
    verify_metadata_analysis_pass,
)
from chop.passes.graph.transforms import (
    emit_verilog_top_transform_pass,
    quantize_transform_pass,
)
from tests.passes.networks import (
    AUTOMATIC,
    EIGHT_BITS,
    Chain,
    annotated,
    batch,
    branches,
    chain,
    quantised,
    seeded,
)

Config = Mapping[str, Any]
FOUR_BITS = {**EIGHT_BITS, "data_in_width": 4, "data_in_frac_width": 2, "weight_width": 4}
FOUR_BITS |= {"weight_frac_width": 3}


def formats(graph: MaseGraph) -> dict[str, str]:
    """Node -> the format of its result, or of its weight where it has one."""
    found = {}
    for node in graph.fx_graph.nodes:
        common = common_of(node)
        if common.carries_data and common.operator != "input":
            weight = common.parameters.get("weight")
            format = weight.format if weight is not None else common.output.format
            found[node.name] = str(format or "float")
    return found


def reference(graph: MaseGraph, x: torch.Tensor, node: str) -> torch.Tensor:
    """The integer reference of a node, dequantised."""
    (type,) = (common_of(n).output for n in graph.fx_graph.nodes if n.name == node)
    levels = run_in_integers(graph, {"x": x.double().numpy()})[node]
    return torch.from_numpy(type.fixed.from_integers(levels))


def chain_by_hand(model: Chain, x: torch.Tensor, first: Config, second: Config) -> torch.Tensor:
    """What Chain computes with the given formats, written out in float64."""

    def rounded(values: torch.Tensor, config: Config, what: str) -> torch.Tensor:
        format = Fixed(config[f"{what}_width"], config[f"{what}_frac_width"])
        return fake_quantize(values.detach().double(), format)

    for layer, config in ((model.fc1, first), (model.fc2, second)):
        x = functional.linear(
            rounded(x, config, "data_in"),
            rounded(layer.weight, config, "weight"),
            rounded(layer.bias, config, "bias"),
        )
        x = functional.relu(x) if layer is model.fc1 else x
    return x


def test_one_configuration_for_every_type() -> None:
    graph = quantised(chain())
    assert formats(graph) == {
        "x_cast": "s8.4",
        "fc1": "s8.6",
        "act": "u14.10",
        "fc2_data_in": "s8.4",
        "fc2": "s8.6",
    }
    x = batch(50, 6, seed=9)
    model = seeded(Chain)
    assert isinstance(model, Chain)
    expected = chain_by_hand(model, x, EIGHT_BITS, EIGHT_BITS)
    assert torch.equal(reference(graph, x, "fc2"), expected)
    # Every value fits float32, so PyTorch's own run of the new graph is exact too.
    assert torch.equal(graph.model(x).double(), expected)


@pytest.mark.parametrize(
    "arguments",
    [
        {"by": "name", "fc2": {"config": FOUR_BITS}},
        {"by": "regex_name", r".*2": {"config": FOUR_BITS}},
        {"by": "regex_name", r"fc[2-9]": {"config": FOUR_BITS}},
    ],
)
def test_mixed_precision_by_name(arguments: dict[str, Any]) -> None:
    graph = quantize_transform_pass(chain(), {"default": {"config": EIGHT_BITS}, **arguments})
    assert formats(graph) == {
        "x_cast": "s8.4",
        "fc1": "s8.6",
        "act": "u14.10",
        "fc2_data_in": "s4.2",
        "fc2": "s4.3",
    }
    x = batch(50, 6, seed=9)
    model = seeded(Chain)
    assert isinstance(model, Chain)
    assert torch.equal(reference(graph, x, "fc2"), chain_by_hand(model, x, EIGHT_BITS, FOUR_BITS))


def test_a_regex_must_match_the_whole_name() -> None:
    graph = quantize_transform_pass(chain(), {"by": "regex_name", "fc1|fc": {"config": EIGHT_BITS}})
    assert formats(graph)["fc1"] == "s8.6"
    assert formats(graph)["fc2"] == "float"


@pytest.mark.parametrize("key", ["linear", "Linear", "LINEAR"])
def test_by_type_takes_the_operator_or_the_class(key: str) -> None:
    graph = quantize_transform_pass(chain(), {"by": "type", key: {"config": EIGHT_BITS}})
    assert formats(graph) == formats(quantised(chain()))


def test_an_entry_comes_before_the_default_and_the_first_before_the_second() -> None:
    arguments = {
        "by": "regex_name",
        "default": {"config": EIGHT_BITS},
        "fc2": {"config": FOUR_BITS},
        "fc.": {"config": {**EIGHT_BITS, "weight_width": 6}},
    }
    found = formats(quantize_transform_pass(chain(), arguments))
    assert (found["fc1"], found["fc2"]) == ("s6.6", "s4.3")


def test_modules_may_be_named_by_their_path() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3)).eval()
    graph = annotated(model, batch(5, 6))
    first, last = (n.name for n in graph.fx_graph.nodes if n.target in ("0", "2"))
    arguments = {"by": "name", "2": {"config": EIGHT_BITS}, first: {"config": FOUR_BITS}}
    found = formats(quantize_transform_pass(graph, arguments))
    assert (found[first], found[last]) == ("s4.3", "s8.6")


@pytest.mark.parametrize("off", [{"name": "NA"}, {"name": None}, {}])
def test_a_layer_may_stay_in_float(off: dict[str, Any], tmp_path: Any) -> None:
    arguments = {"by": "name", "default": {"config": EIGHT_BITS}, "fc2": {"config": off}}
    graph = quantize_transform_pass(chain(), arguments)
    assert formats(graph) == {"x_cast": "s8.4", "fc1": "s8.6", "act": "u14.10", "fc2": "float"}
    x = batch(50, 6, seed=9)
    model = seeded(Chain)
    assert isinstance(model, Chain)
    hidden = fake_quantize(x, Fixed(8, 4))
    weight = fake_quantize(model.fc1.weight, Fixed(8, 6))
    bias = fake_quantize(model.fc1.bias, Fixed(8, 4))
    hidden = functional.relu(functional.linear(hidden, weight, bias))
    assert torch.equal(graph.model(x), model.fc2(hidden))
    message = (
        "node 'fc2': operator 'linear' is in floating point; give it, and every tensor that it "
        'reads, a number format in quantize (name = "integer")'
    )
    for refuse in (
        lambda: add_hardware_metadata_analysis_pass(graph),
        lambda: emit_verilog_top_transform_pass(graph, {"project_dir": tmp_path / "d"}),
        lambda: run_in_integers(graph, {"x": x.double().numpy()}),
    ):
        with pytest.raises(UnsupportedOpError) as caught:
            refuse()
        assert re.sub(r" \(networks\.py:\d+\)", "", str(caught.value)) == message
    assert not (tmp_path / "d").exists()


def test_a_layer_behind_one_in_float_gets_its_format() -> None:
    arguments = {"by": "name", "default": {"config": EIGHT_BITS}, "fc1": {"config": {}}}
    graph = quantize_transform_pass(chain(), arguments)
    assert formats(graph) == {
        "fc1": "float",
        "act": "float",
        "fc2_data_in": "s8.4",
        "fc2": "s8.6",
    }
    x = batch(50, 6, seed=9)
    model = seeded(Chain)
    assert isinstance(model, Chain)
    hidden = fake_quantize(functional.relu(model.fc1(x)), Fixed(8, 4))
    weight = fake_quantize(model.fc2.weight, Fixed(8, 6))
    bias = fake_quantize(model.fc2.bias, Fixed(8, 4))
    assert torch.equal(graph.model(x), functional.linear(hidden, weight, bias))


def test_float_between_quantised_layers_is_refused_by_its_name() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 4), nn.Linear(4, 3)).eval()
    graph = annotated(model, batch(5, 6))
    middle = next(n.name for n in graph.fx_graph.nodes if n.target == "1")
    arguments = {"by": "name", "default": {"config": EIGHT_BITS}, middle: {"config": {}}}
    graph = quantize_transform_pass(graph, arguments)
    (name,) = graph.placeholders
    for refuse in (
        lambda: add_hardware_metadata_analysis_pass(graph),
        lambda: run_in_integers(graph, {name: batch(5, 6).double().numpy()}),
    ):
        with pytest.raises(UnsupportedOpError) as caught:
            refuse()
        assert str(caught.value).startswith(
            f"node '{middle}': operator 'linear' is in floating point; "
        )


def test_no_configuration_changes_nothing() -> None:
    graph = quantize_transform_pass(chain(), None)
    x = batch(20, 6)
    assert torch.equal(graph.model(x), seeded(Chain)(x))
    assert set(formats(graph).values()) == {"float"}


def test_data_out_is_a_cast_after_the_layer() -> None:
    config = {**EIGHT_BITS, "data_out_width": 6, "data_out_frac_width": 3}
    arguments = {"by": "name", "default": {"config": EIGHT_BITS}, "fc2": {"config": config}}
    graph = quantize_transform_pass(chain(), arguments)
    found = formats(graph)
    assert list(found) == ["x_cast", "fc1", "act", "fc2_data_in", "fc2", "fc2_data_out"]
    assert found["fc2_data_out"] == "s6.3"
    x = batch(50, 6, seed=9)
    exact = reference(quantised(chain()), x, "fc2")
    assert torch.equal(reference(graph, x, "fc2_data_out"), fake_quantize(exact, Fixed(6, 3)))


def test_without_data_out_the_accumulator_is_exact() -> None:
    graph = quantised(chain())
    (fc2,) = (common_of(n).output for n in graph.fx_graph.nodes if n.name == "fc2")
    assert fc2.fixed.frac_width == 4 + 6


def test_an_activation_is_cast_only_where_an_entry_names_it() -> None:
    plain = formats(quantised(chain()))
    assert "act_data_in" not in plain
    arguments = {"by": "type", "default": {"config": EIGHT_BITS}, "relu": {"config": EIGHT_BITS}}
    found = formats(quantize_transform_pass(chain(), arguments))
    # fc2 takes what the activation gives: it fits already.
    assert list(found) == ["x_cast", "fc1", "act_data_in", "act", "fc2"]
    assert found["act"] == "u7.4"


@pytest.mark.parametrize("given", [{}, {"frac": "auto"}])
def test_automatic_fractions_have_the_smallest_error(given: dict[str, str]) -> None:
    config: dict[str, Any] = dict(AUTOMATIC)
    for tensor in ("data_in", "weight", "bias"):
        if given:
            config[f"{tensor}_frac_width"] = "auto"
    graph = quantised(chain(), config)
    rows = {(row["node"], row["tensor"]): row for row in graph.info["quantize"]}
    assert list(rows) == [
        *(("fc1", "data_in"), ("fc1", "weight"), ("fc1", "bias")),
        *(("fc2", "data_in"), ("fc2", "weight"), ("fc2", "bias")),
    ]
    assert {row["chosen"] for row in rows.values()} == {"auto"}
    model = seeded(Chain)
    assert isinstance(model, Chain)
    x = batch(5, 6)
    hidden = torch.relu(model.fc1(x))
    for name, values, width, signed in (
        (("fc1", "data_in"), x, 8, True),
        (("fc2", "data_in"), hidden, 8, False),
        (("fc1", "weight"), model.fc1.weight, 8, True),
        (("fc2", "weight"), model.fc2.weight, 8, True),
    ):
        array = values.detach().double().numpy()
        every = [Fixed(width, frac, signed) for frac in range(-8, 24)]
        errors = [quantisation_error(array, format) for format in every]
        best = every[int(np.argmin(errors))]
        assert rows[name]["format"] == str(best)
        noise, signal = min(errors), float(np.mean(array**2))
        assert rows[name]["sqnr_db"] == pytest.approx(10 * np.log10(signal / noise), rel=1e-12)


def test_given_fractions_are_reported_as_given() -> None:
    rows = quantised(chain()).info["quantize"]
    assert {row["chosen"] for row in rows} == {"given"}
    assert [row["format"] for row in rows] == ["s8.4", "s8.6", "s8.4"] * 2


def test_calibration_data_decide() -> None:
    def fraction(calibration: Any) -> str:
        arguments = {"default": {"config": AUTOMATIC}, "calibration": calibration}
        return formats(quantize_transform_pass(chain(), arguments))["x_cast"]

    x = batch(40, 6)
    small, large = x / x.abs().max(), 100 * x / x.abs().max()
    assert fraction(None) == fraction({"x": batch(5, 6)})
    assert fraction({"x": small}) == "s8.7"
    assert fraction({"x": large}) == "s8.0"
    # A loader gives batches with labels; all of them count.
    assert fraction([(small, torch.zeros(40)), (large, torch.zeros(40))]) == "s8.0"
    assert fraction(large) == "s8.0"


@pytest.mark.parametrize("rounding", list(Rounding))
def test_one_rounding_mode_everywhere(rounding: Rounding) -> None:
    arguments = {"default": {"config": EIGHT_BITS}, "rounding": rounding.value}
    graph = verify_metadata_analysis_pass(quantize_transform_pass(chain(), arguments))
    ties = torch.tensor([[1, 3, -1, -3, 5, -5]]) / 32
    expected = {
        Rounding.HALF_UP: [1, 2, 0, -1, 3, -2],
        Rounding.FLOOR: [0, 1, -1, -2, 2, -3],
        Rounding.HALF_EVEN: [0, 2, 0, -2, 2, -2],
    }[rounding]
    assert (graph.model.get_submodule("x_cast")(ties) * 16).tolist() == [expected]
    fc1 = next(n for n in graph.fx_graph.nodes if n.name == "fc1")
    weight = seeded(Chain).get_parameter("fc1.weight").detach().double().numpy()
    assert np.array_equal(
        common_of(fc1).parameters["weight"].values, Fixed(8, 6).to_integers(weight, rounding)
    )


def test_a_layer_called_twice_may_differ_at_each_call() -> None:
    arguments = {
        "by": "name",
        "default": {"config": EIGHT_BITS},
        "b_1": {"config": FOUR_BITS},
    }
    graph = quantize_transform_pass(branches(), arguments)
    found = formats(graph)
    assert (found["b"], found["b_1"]) == ("s8.6", "s4.3")
    targets = {n.name: n.target for n in graph.fx_graph.nodes}
    assert targets["b"] != targets["b_1"]
    verify_metadata_analysis_pass(graph)


def test_one_input_read_by_several_layers_is_cast_once() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 3), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.a(x), self.b(x)

    arguments = {
        "by": "name",
        "a": {"config": EIGHT_BITS},
        "b": {"config": {**EIGHT_BITS, "data_in_width": 10, "data_in_frac_width": 7}},
    }
    graph = quantize_transform_pass(annotated(Two().eval(), batch(5, 4)), arguments)
    found = formats(graph)
    # The port holds both: three whole bits and the sign of a, seven fraction bits of b.
    assert [name for name in found if "cast" in name] == ["x_cast"]
    assert found["x_cast"] == "s11.7"
    assert (found["a_data_in"], found["b_data_in"]) == ("s8.4", "s10.7")


def test_the_configuration_alone_decides_the_result() -> None:
    """What an earlier call put in is taken back, down to the names."""
    first = quantised(chain(), AUTOMATIC)
    for config in (EIGHT_BITS, AUTOMATIC):
        fresh = quantised(chain(), config)
        again = quantised(quantised(first, FOUR_BITS), config)
        assert again.model.code == fresh.model.code
        assert again.info["quantize"] == fresh.info["quantize"]
        assert formats(again) == formats(fresh)
        x = batch(20, 6, seed=5)
        assert torch.equal(again.model(x), fresh.model(x))
    float_again = quantize_transform_pass(first, None)
    x = batch(20, 6)
    assert torch.equal(float_again.model(x), seeded(Chain)(x))


def test_the_model_s_own_casts_stay() -> None:
    model = nn.Sequential(Cast(Fixed(5, 1)), nn.Linear(4, 3)).eval()
    graph = annotated(model, batch(5, 4))
    own = next(n.name for n in graph.fx_graph.nodes if n.target == "0")
    once = quantised(graph)
    twice = quantised(once)
    for result in (once, twice):
        assert formats(result)[own] == "s5.1"
        verify_metadata_analysis_pass(result)
    assert once.model.code == twice.model.code


def test_a_loop_over_configurations_leaves_the_original_as_it_was() -> None:
    model = seeded(Chain)
    graph = annotated(model, batch(5, 6))
    code = graph.model.code
    state = copy.deepcopy(graph.model.state_dict())
    identities = {k: v.data_ptr() for k, v in graph.model.state_dict().items()}
    metas = {n.name: n.meta["mase"] for n in graph.fx_graph.nodes}
    kinds = ["type", "name", "regex_name"]
    results = set()
    for i in range(100):
        config: dict[str, Any] = dict(AUTOMATIC)
        config |= {"weight_width": 2 + i % 7, "data_in_width": 3 + i % 9}
        arguments: dict[str, Any] = {
            "by": kinds[i % 3],
            "default": {"config": config},
            ("linear", "fc1", "fc.")[i % 3]: {"config": {**config, "bias_width": 5 + i % 4}},
        }
        given = copy.deepcopy(arguments)
        candidate = quantize_transform_pass(graph, arguments)
        assert arguments == given
        results.add(tuple(row["format"] for row in candidate.info["quantize"]))
    assert len(results) > 50
    assert graph.model.code == code
    after = graph.model.state_dict()
    assert after.keys() == state.keys()
    assert all(torch.equal(after[k], v) for k, v in state.items())
    assert {k: v.data_ptr() for k, v in after.items()} == identities
    assert all(n.meta["mase"] is metas[n.name] for n in graph.fx_graph.nodes)
    assert "quantize" not in graph.info
    # The model that was captured is the caller's, and is whole too.
    assert torch.equal(model(batch(9, 6)), seeded(Chain)(batch(9, 6)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"by": "colour"}, "'by' must be 'type', 'name' or 'regex_name', got 'colour'"),
        ({"lineer": {"config": {}}}, "no operator 'lineer'; did you mean 'linear'?"),
        ({"by": "name", "fc3": {"config": {}}}, "no node 'fc3'; did you mean 'fc2'?"),
        (
            {"by": "regex_name", "layer.*": {"config": {}}},
            "'layer.*' matches no node; see report_graph",
        ),
        (
            {"by": "regex_name", "fc(": {"config": {}}},
            "'fc(' is no regex: missing ), unterminated subpattern at position 2",
        ),
        (
            {"default": {"config": {"name": "integer", "weigth_width": 8}}},
            "'default'.config: unknown key 'weigth_width'; did you mean 'weight_width'?",
        ),
        (
            {"default": {"cfg": {}}},
            "'default': unknown key 'cfg'; did you mean 'config'?",
        ),
        ({"default": 8}, "'default' must be a valid dictionary, got 8"),
        ({"linear": 8}, "'linear' must be a table with a table 'config', got 8"),
        (
            {"linear": {"config": {"name": "intger"}}},
            "'linear'.config: no format 'intger'; did you mean 'integer'?",
        ),
        (
            {"linear": {"config": {**EIGHT_BITS, "weight_width": 0}}},
            "'linear'.config: 'weight_width' must be greater than or equal to 1, got 0",
        ),
        (
            {"linear": {"config": {**EIGHT_BITS, "weight_width": None}}},
            "node 'fc1': weight_width is missing; add it",
        ),
        (
            {"linear": {"config": {**EIGHT_BITS, "data_in_width": None}}},
            "node 'fc1': data_in_width is missing; add it",
        ),
        ({"calibration": []}, "the data have no samples; give at least one"),
    ],
)
def test_wrong_arguments_are_one_line(arguments: dict[str, Any], message: str) -> None:
    graph = chain()
    history = graph.history
    with pytest.raises(ConfigError) as caught:
        quantize_transform_pass(graph, arguments)
    assert str(caught.value) == f"pass 'quantize': {message}"
    assert graph.history == history


def test_calibration_data_must_have_every_input() -> None:
    with pytest.raises(ShapeError) as caught:
        quantize_transform_pass(branches(), {"calibration": {"x": batch(5, 4, 4)}})
    assert (
        str(caught.value) == "pass 'quantize': input 'z' is missing from the data; "
        "give a tensor for each of: x, z"
    )


def test_constants_that_became_parameters_leave_the_graph() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return functional.linear(x, self.weight)

    graph = quantised(annotated(Functional(), batch(5, 4)))
    assert [n.op for n in graph.fx_graph.nodes if n.op == "get_attr"] == []
