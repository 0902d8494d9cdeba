"""learn_rounding: up or down, never worse than to the nearest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import chop
from chop.errors import ConfigError, PassOrderError
from chop.formats.rounding import Floats, Ints
from chop.ir.graph import MaseGraph
from chop.ir.meta import common_of
from chop.ir.serialize import load_graph, save_graph
from chop.ops.annotate import record
from chop.passes.contract import accepts
from chop.passes.graph.analysis import verify_metadata_analysis_pass
from chop.passes.graph.transforms import (
    correct_bias_transform_pass,
    learn_rounding_transform_pass,
    quantize_transform_pass,
)
from chop.passes.registry import resolve
from tests.passes.networks import annotated, batch, branches, chain

THREE_BITS = {"name": "integer", "data_in_width": 8, "weight_width": 3, "bias_width": 16}
SCALED = {**THREE_BITS, "weight_format": "scaled_integer"}
PER_CHANNEL = {**SCALED, "weight_per_channel": True}
QUICK = {"iterations": 150, "learning_rate": 0.05}


def deep(seed: int) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 4)]
        return nn.Sequential(*layers).double().eval()


def correlated(seed: int) -> torch.Tensor:
    """Data that live near a plane: errors of the weights across it cost nothing."""
    mixing = batch(3, 8, seed=seed + 100)
    return (batch(400, 3, seed=seed) @ mixing + 0.05 * batch(400, 8, seed=seed + 1)).double()


def levels(graph: MaseGraph) -> dict[str, Ints]:
    """Layer -> the integers of its weights."""
    nodes = [n for n in graph.fx_graph.nodes if common_of(n).operator == "linear"]
    return {n.name: common_of(n).parameters["weight"].values for n in nodes}


def made(seed: int, config: dict[str, Any]) -> tuple[MaseGraph, MaseGraph]:
    """The float graph, and the graph quantised."""
    x = correlated(seed)
    plain = annotated(deep(seed), x[:5])
    arguments = {"default": {"config": config}, "calibration": x}
    return plain, quantize_transform_pass(plain, arguments)


def reconstruction(graph: MaseGraph, plain: MaseGraph, x: torch.Tensor) -> dict[str, float]:
    """Layer -> the mean squared error of its output on what reaches it in the quantised network."""
    (name,) = graph.placeholders
    mine, wanted = record(graph, {name: x}), record(plain, {name: x})
    return {n: float(np.mean((mine[n] - wanted[n]) ** 2)) for n in levels(graph)}


@pytest.mark.parametrize("config", [THREE_BITS, SCALED, PER_CHANNEL])
@pytest.mark.parametrize("seed", range(2))
def test_never_worse_than_the_nearest_and_within_a_level(config: dict[str, Any], seed: int) -> None:
    x = correlated(seed)
    plain, nearest = made(seed, config)
    graph = learn_rounding_transform_pass(nearest, {"calibration": x, **QUICK})
    verify_metadata_analysis_pass(graph)
    rows = {row["node"]: row for row in graph.info["learn_rounding"]}
    old, new = levels(nearest), levels(graph)
    after = reconstruction(graph, plain, x)
    assert list(rows) == list(new)
    for name, row in rows.items():
        moved = np.abs(new[name] - old[name])
        assert moved.max() <= 1
        assert np.count_nonzero(moved) == row["moved"]
        assert row["weights"] == moved.size
        assert row["error_after"] <= row["error_before"]
        assert row["error_after"] == pytest.approx(after[name], rel=1e-6)
    # In this many weights some can be rounded better, and the result shows it.
    assert sum(row["moved"] for row in rows.values()) > 0
    before = reconstruction(nearest, plain, x)
    last = list(rows)[-1]
    assert after[last] < 0.8 * before[last], f"seed {seed}"


@pytest.mark.parametrize("rounding", ["half_up", "half_even", "floor"])
@pytest.mark.parametrize("config", [THREE_BITS, PER_CHANNEL])
def test_every_weight_is_up_or_down(rounding: str, config: dict[str, Any]) -> None:
    """Whatever the rounding of the graph, in float32: the integers are levels next to the weight.

    Rounding down decides at the levels themselves, which float32 holds only nearly.
    """
    x = correlated(0).float()
    plain = annotated(deep(0).float(), x[:5])
    arguments = {"default": {"config": config}, "calibration": x, "rounding": rounding}
    nearest = quantize_transform_pass(plain, arguments)
    graph = learn_rounding_transform_pass(nearest, {"calibration": x, **QUICK})
    verify_metadata_analysis_pass(graph)
    for node in graph.fx_graph.nodes:
        weight = common_of(node).parameters.get("weight")
        if weight is None:
            continue
        exact = weights_in_steps(plain, graph, node.name)
        low, high = weight.format.low, weight.format.high
        down = np.clip(np.floor(exact), low, high)
        up = np.clip(np.floor(exact) + 1, low, high)
        assert ((weight.values == down) | (weight.values == up)).all()
    assert sum(row["moved"] for row in graph.info["learn_rounding"]) > 0


def weights_in_steps(plain: MaseGraph, graph: MaseGraph, name: str) -> Floats:
    (node,) = (n for n in graph.fx_graph.nodes if n.name == name)
    weight = common_of(node).parameters["weight"]
    values = plain.model.get_submodule(str(node.target)).get_parameter("weight")
    step = np.asarray(np.ldexp(1.0, -weight.fixed.frac_width))
    if weight.scale is not None:
        factors = np.array([float(f) for f in weight.scale.factors])
        step = step * factors.reshape(-1, 1)
    return np.asarray(values.detach().double().numpy() / step)


def test_the_choice_is_the_best_there_is() -> None:
    """Two weights on one line of data: y = w1 + w2 only, so their errors must cancel."""
    model = nn.Sequential(nn.Linear(2, 1, bias=False)).double().eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.46, 2.44]], dtype=torch.float64))  # type: ignore[operator]
    x = torch.arange(-8, 8, dtype=torch.float64)[:, None].repeat(1, 2)
    config = {"name": "integer", "data_in_width": 8, "data_in_frac_width": 0}
    config |= {"weight_width": 4, "weight_frac_width": 0}
    graph = quantize_transform_pass(annotated(model, x), {"default": {"config": config}})
    (name,) = levels(graph)
    assert levels(graph)[name].tolist() == [[1, 2]]
    graph = learn_rounding_transform_pass(graph, {"calibration": x, **QUICK})
    assert levels(graph)[name].sum() == 4
    (row,) = graph.info["learn_rounding"]
    mean = float((x[:, 0] ** 2).mean())
    assert row["error_before"] == pytest.approx(0.9**2 * mean, rel=1e-6)
    assert row["error_after"] == pytest.approx(0.1**2 * mean, rel=1e-6)


def test_the_seed_decides_and_a_second_pass_starts_from_the_float_weights() -> None:
    x = correlated(1)
    _, nearest = made(1, THREE_BITS)
    arguments = {"calibration": x, "batch_size": 32, **QUICK}
    first, same = (learn_rounding_transform_pass(nearest, arguments) for _ in range(2))
    again = learn_rounding_transform_pass(first, arguments)
    other = learn_rounding_transform_pass(nearest, {**arguments, "seed": 1})
    for name, values in levels(first).items():
        assert np.array_equal(values, levels(same)[name])
        assert np.array_equal(values, levels(again)[name])
    assert any(not np.array_equal(v, levels(other)[n]) for n, v in levels(first).items())
    assert again.info["learn_rounding"] == first.info["learn_rounding"]


def test_the_float_network_comes_back_and_the_correction_aims_at_it() -> None:
    x = correlated(0)
    plain, nearest = made(0, THREE_BITS)
    learned = learn_rounding_transform_pass(nearest, {"calibration": x, **QUICK})
    undone = quantize_transform_pass(learned, None)
    assert torch.equal(undone.model(x), plain.model(x))
    corrected = correct_bias_transform_pass(learned, {"calibration": x})
    (name,) = plain.placeholders
    wanted = record(plain, {name: x})
    mine = record(corrected, {name: x})
    for row in corrected.info["correct_bias"]:
        assert np.abs((mine[row["node"]] - wanted[row["node"]]).mean(0)).max() == pytest.approx(
            row["error_after"], abs=1e-12
        )
    levels_now = levels(corrected)
    assert all(np.array_equal(v, levels_now[n]) for n, v in levels(learned).items())


def test_what_cannot_be_learned_is_named() -> None:
    graph = quantize_transform_pass(branches(), {"default": {"config": THREE_BITS}})
    rows = learn_rounding_transform_pass(graph, {"iterations": 5}).info["learn_rounding"]
    reasons = {row["node"]: row["skipped"] for row in rows}
    shared = "the layer's parameters are used at another place too"
    assert (reasons["b"], reasons["b_1"], reasons["a"]) == (shared, shared, "")
    model = nn.Sequential(nn.Linear(4, 3)).eval()
    config = {**THREE_BITS, "weight_format": "binary", "weight_width": None}
    graph = quantize_transform_pass(annotated(model, batch(5, 4)), {"default": {"config": config}})
    (row,) = learn_rounding_transform_pass(graph).info["learn_rounding"]
    assert row["skipped"] == "its weight is in the format 'binary'; learned rounding needs integers"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"iterations": 0}, "'iterations' must be greater than or equal to 1, got 0"),
        ({"warm_start": 1.0}, "'warm_start' must be less than 1, got 1.0"),
        ({"beta": (2.0, 20.0)}, "'beta' must fall, got [2.0, 20.0]"),
        ({"seeds": 1}, "unknown key 'seeds'; did you mean 'seed'?"),
    ],
)
def test_wrong_arguments_are_one_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        learn_rounding_transform_pass(chain(), arguments)
    assert str(caught.value) == f"pass 'learn_rounding': {message}"


def test_a_float_graph_is_refused() -> None:
    with pytest.raises(PassOrderError) as caught:
        learn_rounding_transform_pass(chain())
    assert str(caught.value) == (
        "pass 'learn_rounding': the graph has no quantised layer; "
        "run quantize or float_to_fake first"
    )


def test_compile_offers_its_calibration_data() -> None:
    """The whole road, with every pass on the caller's data, and the saved graph the same."""
    x = correlated(0).float()
    passes: dict[str, dict[str, Any]] = {
        "equalize": {},
        "quantize": {"default": {"config": THREE_BITS}},
        "learn_rounding": QUICK,
        "correct_bias": {},
    }
    model = deep(0).float()
    graphs = [
        chop.compile(model, x[:5], {"passes": passes}, calibration_inputs=data).graph
        for data in (x, x[:5])
    ]
    example = graphs[0].example_inputs
    graph = annotated(model, *example.values())
    for name, arguments in passes.items():
        run = resolve(name)
        given = {"calibration": x} if accepts(run, "calibration") else {}
        graph = run(graph, {**arguments, **given})
    assert graphs[0].info["correct_bias"] == graph.info["correct_bias"]
    assert graphs[0].info["learn_rounding"] == graph.info["learn_rounding"]
    assert graphs[1].info["learn_rounding"] != graph.info["learn_rounding"]


def test_a_saved_graph_knows_its_float_weights(tmp_path: Path) -> None:
    plain, nearest = made(0, THREE_BITS)
    x = correlated(0)
    learned = learn_rounding_transform_pass(nearest, {"calibration": x, **QUICK})
    save_graph(learned, tmp_path / "graph.pt")
    loaded = load_graph(tmp_path / "graph.pt")
    assert torch.equal(loaded.model(x), learned.model(x))
    assert torch.equal(quantize_transform_pass(loaded, None).model(x), plain.model(x))
    assert loaded.model.state_dict().keys() == nearest.model.state_dict().keys()
