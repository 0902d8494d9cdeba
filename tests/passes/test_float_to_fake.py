"""float_to_fake: the rule of every node, what it gets from it, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from chop.errors import ConfigError
from chop.formats.fixed import Fixed
from chop.formats.scaled import Scaled
from chop.ir.graph import MaseGraph
from chop.ir.meta import common_of
from chop.nn.fake_quantize import Cast, fake_quantize
from chop.nn.layers import AccumulatorBias, QuantizedLayer
from chop.passes.graph.analysis import verify_metadata_analysis_pass
from chop.passes.graph.transforms import float_to_fake_transform_pass, quantize_transform_pass
from tests.passes.networks import Chain, annotated, batch, branches, chain, quantised, seeded

EIGHT: Mapping[str, Any] = {"format": "integer", "width": 8, "frac_width": 4}
SIX: Mapping[str, Any] = {"format": "integer", "width": 6, "frac_width": 3}
LINEAR: Mapping[str, Any] = {"type": "linear"}
# Two layers, and how their data are trained.
OPTIONS = (("a", {"rate": 0.5}), ("b", {"rate": 2.0}))


def rewritten(*rules: Mapping[str, Any], graph: MaseGraph | None = None, **more: Any) -> MaseGraph:
    result = float_to_fake_transform_pass(graph or chain(), {"rules": list(rules), **more})
    return verify_metadata_analysis_pass(result)


def formats(graph: MaseGraph) -> dict[str, str]:
    """Node -> the format of its weight, or of its result; without the input."""
    found = {}
    for node in graph.fx_graph.nodes:
        common = common_of(node)
        if common.carries_data and common.operator != "input":
            module = graph.modules.get(str(node.target)) if node.op == "call_module" else None
            weight = module.formats.get("weight") if isinstance(module, QuantizedLayer) else None
            found[node.name] = str(weight or common.output.format or "float")
    return found


def layer(graph: MaseGraph, name: str) -> QuantizedLayer:
    found = graph.model.get_submodule(name)
    assert isinstance(found, QuantizedLayer)
    return found


def test_a_rule_gives_casts_and_formats() -> None:
    graph = rewritten({"select": LINEAR, "data_in": EIGHT, "weight": SIX})
    assert formats(graph) == {
        "x_cast": "s8.4",
        "fc1": "s6.3",
        "act": "u11.7",
        "fc2_data_in": "s8.4",
        "fc2": "s6.3",
    }
    model, x = seeded(Chain), batch(50, 6, seed=9)
    assert isinstance(model, Chain)
    wanted = x
    for name, part in (("fc1", model.fc1), ("fc2", model.fc2)):
        bias = layer(graph, name).formats["bias"]
        assert isinstance(bias, Fixed)
        assert (bias.width, bias.frac_width) == (16, 7)
        wanted = functional.linear(
            fake_quantize(wanted, Fixed(8, 4)),
            fake_quantize(part.weight, Fixed(6, 3)),
            fake_quantize(part.bias, bias),
        )
        wanted = functional.relu(wanted) if name == "fc1" else wanted
    assert torch.equal(graph.model(x), wanted)


def test_the_first_rule_wins() -> None:
    general: Mapping[str, Any] = {"select": LINEAR, "data_in": EIGHT, "weight": EIGHT}
    special: Mapping[str, Any] = {"select": {"name": "fc2"}, "data_in": SIX, "weight": SIX}
    assert formats(rewritten(special, general))["fc2"] == "s6.3"
    assert formats(rewritten(special, general))["fc1"] == "s8.4"
    assert formats(rewritten(general, special)) == formats(rewritten(general))


def test_nodes_without_a_rule_stay_in_float() -> None:
    graph = rewritten({"select": {"name": "fc2"}, "data_in": EIGHT, "weight": SIX})
    assert formats(graph) == {
        "fc1": "float",
        "act": "float",
        "fc2_data_in": "s8.4",
        "fc2": "s6.3",
    }
    model, x = seeded(Chain), batch(20, 6)
    assert isinstance(model, Chain)
    hidden = fake_quantize(functional.relu(model.fc1(x)), Fixed(8, 4))
    weight, bias = (layer(graph, "fc2").quantizer(k) for k in ("weight", "bias"))
    wanted = functional.linear(hidden, weight(model.fc2.weight), bias(model.fc2.bias))
    assert torch.equal(graph.model(x), wanted)


def test_keep_float_takes_a_layer_out() -> None:
    rule = {"select": LINEAR, "data_in": EIGHT, "weight": SIX}
    graph = rewritten({"select": {"regex": ".*2"}, "keep_float": True}, rule)
    assert formats(graph) == {"x_cast": "s8.4", "fc1": "s6.3", "act": "u11.7", "fc2": "float"}
    other = rewritten({**rule, "select": {"type": "linear", "not": {"name": "fc2"}}})
    assert formats(other) == formats(graph)
    assert torch.equal(other.model(batch(9, 6)), graph.model(batch(9, 6)))


@pytest.mark.parametrize("name", ["NA", "fp32"])
def test_a_tensor_without_a_format_stays(name: str) -> None:
    """Weights alone, data alone, and one tensor named as floating point."""
    weights = rewritten({"select": LINEAR, "weight": SIX, "data_in": {"format": name}})
    assert formats(weights) == {"fc1": "s6.3", "act": "float", "fc2": "s6.3"}
    data = rewritten({"select": LINEAR, "data_in": EIGHT})
    assert formats(data)["x_cast"] == formats(data)["fc2_data_in"] == "s8.4"
    assert layer(data, "fc1").formats == {}
    x = batch(9, 6)
    model = seeded(Chain)
    assert isinstance(model, Chain)
    hidden = functional.relu(model.fc1(fake_quantize(x, Fixed(8, 4))))
    assert torch.equal(data.model(x), model.fc2(fake_quantize(hidden, Fixed(8, 4))))


def test_data_out_is_a_cast_after_the_node() -> None:
    rule = {"select": {"type": "relu"}, "data_out": {**SIX, "signed": "auto"}}
    graph = rewritten(rule)
    assert list(formats(graph)) == ["fc1", "act", "act_data_out", "fc2"]
    assert formats(graph)["act_data_out"] == "u6.3"


def test_weights_per_channel() -> None:
    weight = {"format": "scaled_integer", "width": 4, "per_channel": True}
    graph = rewritten({"select": LINEAR, "data_in": {"width": 8}, "weight": weight})
    for name, outputs in (("fc1", 4), ("fc2", 3)):
        found = layer(graph, name)
        assert isinstance(found.formats["weight"], Scaled)
        assert len(found.formats["weight"].scales) == outputs
        assert isinstance(found.quantizer("bias"), AccumulatorBias)
        bias, data = found.formats["bias"], common_of(_node(graph, name)).inputs[0].scale
        assert isinstance(bias, Scaled)
        assert data is not None
        wanted = [s * float(data.factors[0]) for s in found.formats["weight"].scales]
        assert bias.scales == pytest.approx(wanted, rel=1e-12)
        assert bias.width == 32


def _node(graph: MaseGraph, name: str) -> Any:
    return next(n for n in graph.fx_graph.nodes if n.name == name)


class Twins(nn.Module):
    """Two layers behind one activation."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.a, self.b = nn.Linear(6, 4), nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = functional.relu(self.first(x))
        return self.a(y), self.b(y)


def casts(graph: MaseGraph) -> list[str]:
    nodes = [n for n in graph.fx_graph.nodes if n.op == "call_module"]
    found = [n.name for n in nodes if isinstance(graph.model.get_submodule(str(n.target)), Cast)]
    return sorted(found)


def test_readers_with_one_format_share_a_cast() -> None:
    plain = annotated(seeded(Twins), batch(5, 6))
    rule = {"select": LINEAR, "data_in": EIGHT, "weight": SIX}
    assert casts(rewritten(rule, graph=plain)) == ["a_data_in", "x_cast"]
    other = {"select": {"name": "b"}, "data_in": SIX, "weight": SIX}
    assert casts(rewritten(other, rule, graph=plain)) == ["a_data_in", "b_data_in", "x_cast"]
    # One that trains is not shared with one that does not.
    learned = {"format": "scaled_integer", "width": 8, "algorithm": "lsq"}
    fixed = {"format": "scaled_integer", "width": 8}
    graph = rewritten(
        {"select": {"name": "b"}, "data_in": learned}, {**rule, "data_in": fixed}, graph=plain
    )
    assert casts(graph) == ["a_data_in", "b_data_in", "x_cast"]
    assert layer(graph, "a") is not layer(graph, "b")


def test_a_cast_that_trains_is_not_left_out_or_shared_with_another() -> None:
    plain = annotated(seeded(Twins), batch(5, 6))
    before = {"select": {"type": "relu"}, "data_out": {**EIGHT, "signed": True}}
    learned = {"format": "integer", "width": 8, "frac_width": 4, "algorithm": "tqt"}
    rules = [{"select": {"name": n}, "data_in": {**learned, "options": o}} for n, o in OPTIONS]
    graph = rewritten(before, *rules, graph=plain)
    assert casts(graph) == ["a_data_in", "b_data_in", "relu_data_out"]
    found = [graph.model.get_submodule(f"{name}_data_in") for name, _ in OPTIONS]
    rates = [cast.quantizer.tuning.rate for cast in found if isinstance(cast, Cast)]
    assert rates == [0.5, 2.0]
    same = {"select": {"name": ["a", "b"]}, "data_in": learned}
    assert casts(rewritten(before, same, graph=plain)) == ["a_data_in", "relu_data_out"]


def test_an_input_trains_in_one_way() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 3), nn.Linear(6, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scores: torch.Tensor = self.a(x) + self.b(x)
            return scores

    learned = {"format": "integer", "width": 8, "algorithm": "tqt", "options": {"rate": 0.5}}
    rules = [
        {"select": {"name": "a"}, "data_in": learned},
        {"select": {"name": "b"}, "data_in": {"format": "integer", "width": 8}},
    ]
    plain = annotated(seeded(Both), batch(5, 6))
    with pytest.raises(ConfigError) as caught:
        float_to_fake_transform_pass(plain, {"rules": rules})
    assert str(caught.value) == (
        "pass 'float_to_fake': node 'x': is read with the training algorithms "
        "tqt (rate = 0.5) and ste; give its readers one data_in"
    )
    assert casts(rewritten({"select": LINEAR, "data_in": learned}, graph=plain)) == ["x_cast"]


def test_algorithms_train_what_they_are_named_for() -> None:
    weight = {"format": "scaled_integer", "width": 4, "algorithm": "lsq", "options": {"rate": 0.5}}
    data = {"format": "scaled_integer", "width": 4, "algorithm": "pact", "signed": False}
    graph = rewritten({"select": {"name": "fc2"}, "data_in": data, "weight": weight})
    rows = {(r["node"], r["tensor"]): r for r in graph.info["float_to_fake"]}
    assert rows[("fc2", "data_in")]["algorithm"] == "pact"
    assert rows[("fc2", "weight")]["algorithm"] == "lsq"
    assert layer(graph, "fc2").quantizer("weight").tuning.rate == 0.5
    trainable = {name for name, p in graph.model.named_parameters() if p.requires_grad}
    graph.model.train()
    graph.model(batch(20, 6)).square().sum().backward()
    learned = {n for n, p in graph.model.named_parameters() if p.grad is not None and p.grad.any()}
    assert learned == trainable
    assert any(name.endswith("alpha") for name in trainable)
    assert any(name.endswith("step") for name in trainable)


def test_what_was_put_in_is_taken_back() -> None:
    rule = {"select": LINEAR, "data_in": EIGHT, "weight": SIX}
    fresh = rewritten(rule)
    for before in (quantised(chain()), rewritten({"select": LINEAR, "weight": EIGHT})):
        again = rewritten(rule, graph=before)
        assert again.model.code == fresh.model.code
        assert torch.equal(again.model(batch(9, 6)), fresh.model(batch(9, 6)))
    undone = quantize_transform_pass(fresh, None)
    assert torch.equal(undone.model(batch(9, 6)), chain().model(batch(9, 6)))


def test_the_caller_s_graph_stays() -> None:
    plain = chain()
    code, state = plain.model.code, {k: v.clone() for k, v in plain.model.state_dict().items()}
    rewritten({"select": LINEAR, "data_in": EIGHT, "weight": SIX}, graph=plain)
    assert plain.model.code == code
    assert all(torch.equal(v, state[k]) for k, v in plain.model.state_dict().items())


def test_calibration_decides_ranges() -> None:
    rule = {"select": LINEAR, "data_in": {"format": "integer", "width": 8}}
    for size, wanted in ((0.9, "s8.7"), (100.0, "s8.0")):
        x = batch(40, 6)
        graph = rewritten(rule, calibration=size * x / x.abs().max())
        assert formats(graph)["x_cast"] == wanted


def test_two_inputs_and_a_shared_layer() -> None:
    rule = {"select": {"name": ["a", "b", "b_1"]}, "data_in": EIGHT, "weight": SIX}
    graph = rewritten(rule, graph=branches())
    found = formats(graph)
    assert (found["a"], found["b"], found["b_1"], found["c"]) == ("s6.3", "s6.3", "s6.3", "float")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "'rules' is missing; add it"),
        (
            {"rules": []},
            "'rules' Tuple should have at least 1 item after validation, not 0, got []",
        ),
        ({"rules": [{"weight": {}}]}, "'rules.0.select' is missing; add it"),
        (
            {"rules": [{"select": {"tpye": "linear"}}]},
            "rule 1: select: unknown key 'tpye'; did you mean 'type'?",
        ),
        (
            {"rules": [{"select": LINEAR}, {"select": {"name": "fc3"}}]},
            "rule 2: no node 'fc3'; did you mean 'fc2'?",
        ),
        (
            {"rules": [{"select": {"type": "lineer"}}]},
            "rule 1: no operator 'lineer'; did you mean 'linear'?",
        ),
        (
            {"rules": [{"select": LINEAR, "weight": {"format": "intger"}}]},
            "rule 1: weight: no format 'intger'; did you mean 'integer'?",
        ),
        (
            {"rules": [{"select": LINEAR, "weight": {"format": "integer"}}]},
            "node 'fc1': weight: fixed: needs the option 'width'",
        ),
        (
            {"rules": [{"select": LINEAR, "weight": {**SIX, "algorithm": "lqs"}}]},
            "node 'fc1': weight: no training algorithm 'lqs'; did you mean 'lsq'?",
        ),
        (
            {"rules": [{"select": LINEAR, "keep_float": True, "weight": SIX}]},
            "rule 1: has keep_float and formats; use one of the two",
        ),
        (
            {"rules": [{"select": LINEAR, "weight": {"width": 0}}]},
            "'rules.0.weight.width' must be greater than or equal to 1, got 0",
        ),
        (
            {"rules": [{"select": LINEAR}], "calibration": []},
            "the data have no samples; give at least one",
        ),
    ],
)
def test_a_slip_is_one_line(arguments: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        float_to_fake_transform_pass(chain(), arguments)
    assert str(caught.value) == f"pass 'float_to_fake': {message}"


@pytest.mark.parametrize(
    ("rule", "key"),
    [
        ({"select": LINEAR, "wieght": SIX}, "'rules.0.wieght'; did you mean 'weight'?"),
        (
            {"select": LINEAR, "weight": {"widht": 8}},
            "'rules.0.weight.widht'; did you mean 'width'?",
        ),
    ],
)
def test_an_unknown_key_names_the_nearest(rule: Mapping[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        float_to_fake_transform_pass(chain(), {"rules": [rule]})
    assert str(caught.value) == f"pass 'float_to_fake': unknown key {key}"
