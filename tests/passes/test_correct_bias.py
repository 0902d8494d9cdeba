"""correct_bias: the means of the float network, up to the rounding of the bias."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from chop.errors import PassOrderError
from chop.formats.fixed import Fixed
from chop.formats.rounding import Floats
from chop.ir.graph import MaseGraph
from chop.ir.meta import common_of
from chop.nn.layers import QuantizedLayer
from chop.nn.rewritten import restore_constants, rewrite_constant
from chop.ops.annotate import record, run_in_integers
from chop.passes.graph.analysis import verify_metadata_analysis_pass
from chop.passes.graph.transforms import (
    correct_bias_transform_pass,
    float_to_fake_transform_pass,
    quantize_transform_pass,
)
from tests.passes.networks import annotated, batch, branches, chain

# What sums of a few hundred float64 values are off by.
TINY = 1e-12
THREE_BITS = {"name": "integer", "data_in_width": 6, "weight_width": 3, "bias_width": 12}
SCALED = {"name": "scaled_integer", "data_in_width": 6, "weight_width": 3}
PER_CHANNEL = {**SCALED, "weight_per_channel": True}


def deep(seed: int) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 4)]
        return nn.Sequential(*layers).double().eval()


def skewed(seed: int) -> torch.Tensor:
    """Calibration data whose means are far from zero."""
    return batch(300, 6, seed=seed).double() + torch.arange(6) / 2


def mean_errors(graph: MaseGraph, plain: MaseGraph, x: torch.Tensor) -> dict[str, Floats]:
    """Layer -> the mean over x of quantised minus float output, per channel."""
    (name,) = graph.placeholders
    mine, wanted = record(graph, {name: x}), record(plain, {name: x})
    layers = [n.name for n in graph.fx_graph.nodes if common_of(n).operator == "linear"]
    return {n: (mine[n] - wanted[n]).mean(0) for n in layers}


def bias_step(graph: MaseGraph, name: str) -> Floats:
    (node,) = (n for n in graph.fx_graph.nodes if n.name == name)
    bias = common_of(node).parameters["bias"]
    step = np.asarray(np.ldexp(1.0, -bias.fixed.frac_width))
    return step if bias.scale is None else step * bias.scale.floats()


@pytest.mark.parametrize("config", [THREE_BITS, SCALED, PER_CHANNEL])
@pytest.mark.parametrize("seed", range(3))
def test_the_mean_error_is_at_most_a_step_of_the_bias(config: dict[str, Any], seed: int) -> None:
    x = skewed(seed)
    plain = annotated(deep(seed), x[:5])
    arguments = {"default": {"config": config}, "calibration": x}
    before = quantize_transform_pass(plain, arguments)
    graph = correct_bias_transform_pass(before, {"calibration": x})
    verify_metadata_analysis_pass(graph)
    old, new = mean_errors(before, plain, x), mean_errors(graph, plain, x)
    rows = {row["node"]: row for row in graph.info["correct_bias"]}
    assert list(rows) == list(new)
    for name, errors in new.items():
        # Half a step by the rounding, and float64's own.
        assert (np.abs(errors) <= 0.5 * bias_step(graph, name) + TINY).all(), f"seed {seed}"
        assert np.abs(errors).max() < np.abs(old[name]).max(), f"seed {seed}"
        assert rows[name]["error_after"] == pytest.approx(np.abs(errors).max(), abs=TINY)
    first = next(iter(rows.values()))
    assert first["error_before"] == pytest.approx(np.abs(old[first["node"]]).max(), abs=TINY)


def test_the_integers_have_the_means_too() -> None:
    x = skewed(0)
    plain = annotated(deep(0), x[:5])
    arguments = {"default": {"config": THREE_BITS}, "calibration": x}
    graph = correct_bias_transform_pass(
        quantize_transform_pass(plain, arguments), {"calibration": x}
    )
    (name,) = graph.placeholders
    last = list(graph.fx_graph.nodes)[-2]
    integers = run_in_integers(graph, {name: x.double().numpy()})[last.name]
    outputs = common_of(last).output.fixed.from_integers(integers)
    error = (outputs - plain.model(x).detach().double().numpy()).mean(0)
    assert (np.abs(error) <= 0.5 * bias_step(graph, last.name) + TINY).all()


def test_exact_formats_need_no_correction() -> None:
    """Weights and data on their levels: nothing is lost, so nothing moves."""
    model = nn.Sequential(nn.Linear(3, 2)).eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, -2.0, 0.5], [0.25, 1.0, -1.5]]))  # type: ignore[operator]
        model[0].bias.copy_(torch.tensor([0.5, -0.25]))  # type: ignore[operator]
    x = torch.randint(-8, 8, (40, 3), generator=torch.Generator().manual_seed(0)).float()
    graph = quantize_transform_pass(
        annotated(model, x), {"default": {"config": {**THREE_BITS, "weight_width": 8}}}
    )
    result = correct_bias_transform_pass(graph)
    (row,) = result.info["correct_bias"]
    assert (row["error_before"], row["error_after"]) == (0.0, 0.0)
    assert torch.equal(result.model(x), graph.model(x))


def test_a_chosen_fraction_gives_way_and_a_given_one_stays() -> None:
    """Inputs that saturate by far: the bias has to carry what they lack."""
    model = nn.Sequential(nn.Linear(4, 2)).double().eval()
    x = batch(100, 4).double() + 50
    formats = {"data_in_width": 8, "data_in_frac_width": 4, "weight_width": 8}
    chosen: dict[str, Any] = {"name": "integer", **formats, "bias_width": 8}
    for config, fits in ((chosen, True), ({**chosen, "bias_frac_width": 6}, False)):
        graph = quantize_transform_pass(
            annotated(model, x), {"default": {"config": config}, "calibration": x}
        )
        result = correct_bias_transform_pass(graph, {"calibration": x})
        verify_metadata_analysis_pass(result)
        (row,) = result.info["correct_bias"]
        format = Fixed(8, 6) if not fits else None
        assert (row["format"] == str(format)) is not fits
        (name,) = (n.name for n in result.fx_graph.nodes if n.target == "0")
        assert (row["error_after"] <= 0.5 * float(bias_step(result, name)) + TINY) is fits


def test_what_quantise_made_is_what_it_makes_again() -> None:
    """The configuration alone decides: a correction does not outlive the formats."""
    x = skewed(1)
    plain = annotated(deep(1), x[:5])
    arguments = {"default": {"config": THREE_BITS}, "calibration": x}
    graph = quantize_transform_pass(plain, arguments)
    corrected = correct_bias_transform_pass(graph, {"calibration": x})
    assert not torch.equal(corrected.model(x), graph.model(x))
    again = quantize_transform_pass(corrected, arguments)
    assert torch.equal(again.model(x), graph.model(x))
    twice = correct_bias_transform_pass(corrected, {"calibration": x})
    assert torch.equal(twice.model(x), corrected.model(x))
    # What was trained after the correction is no correction, and stays.
    module = corrected.model.get_submodule("4")
    with torch.no_grad():
        next(p for n, p in module.named_parameters() if n.endswith("bias")).add_(1)
    trained = quantize_transform_pass(corrected, arguments).model(x) - graph.model(x)
    assert bool((trained > 0.5).all())


def test_it_corrects_what_float_to_fake_made() -> None:
    x = skewed(2)
    plain = annotated(deep(2), x[:5])
    tensor = {"format": "integer", "width": 4}
    rule = {"select": {"type": "linear"}, "data_in": tensor, "weight": tensor}
    before = float_to_fake_transform_pass(plain, {"rules": [rule], "calibration": x})
    graph = correct_bias_transform_pass(before, {"calibration": x})
    for name, errors in mean_errors(graph, plain, x).items():
        assert (np.abs(errors) <= 0.5 * bias_step(graph, name) + TINY).all()


def test_what_cannot_be_corrected_is_named() -> None:
    model = nn.Sequential(nn.Linear(6, 4, bias=False), nn.Linear(4, 3)).eval()
    graph = quantize_transform_pass(
        annotated(model, batch(5, 6)), {"default": {"config": THREE_BITS}}
    )
    reasons = [r["skipped"] for r in correct_bias_transform_pass(graph).info["correct_bias"]]
    assert reasons == ["the layer has no bias", ""]
    graph = quantize_transform_pass(branches(), {"default": {"config": THREE_BITS}})
    found = {
        r["node"]: r["skipped"] for r in correct_bias_transform_pass(graph).info["correct_bias"]
    }
    shared = "the layer's parameters are used at another place too"
    assert (found["b"], found["b_1"], found["a"]) == (shared, shared, "")


def test_a_float_graph_is_refused() -> None:
    with pytest.raises(PassOrderError) as caught:
        correct_bias_transform_pass(chain())
    assert str(caught.value) == (
        "pass 'correct_bias': the graph has no quantised layer; run quantize or float_to_fake first"
    )


def test_rewriting_twice_keeps_the_first_values() -> None:
    layer = QuantizedLayer("linear", nn.Linear(3, 2), {"weight": Fixed(8, 4)})
    first = layer.layer.get_parameter("weight").detach().clone()
    for value in (1.0, 2.0):
        rewrite_constant(layer, "weight", torch.full((2, 3), value))
    restore_constants(layer)
    assert torch.equal(layer.layer.get_parameter("weight"), first)
    assert list(layer.state_dict()) == ["layer.weight", "layer.bias"]
    # Nothing is left to restore.
    with torch.no_grad():
        layer.layer.get_parameter("weight").fill_(5.0)
    restore_constants(layer)
    assert bool((layer.layer.get_parameter("weight") == 5.0).all())
