"""quantize by the name of every number format: what runs, what equals what, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from chop.errors import UnsupportedOpError
from chop.formats.registry import FORMATS, format_class, hardware_formats, required_options
from chop.ir.graph import MaseGraph
from chop.ir.meta import common_of
from chop.ops.annotate import record, run_in_integers
from chop.passes.graph.analysis import (
    add_hardware_metadata_analysis_pass,
    verify_metadata_analysis_pass,
)
from chop.passes.graph.transforms import quantize_transform_pass
from tests.passes.networks import annotated, batch

NAMES = sorted(name for name in FORMATS if name not in ("NA", "fp32"))
# What a format is given of the options that it needs.
WIDTHS = {"width": 6, "exponent_width": 3}
DATA = ", ".join(hardware_formats("data"))
# Levels that do not fit integers of 62 bits, or whose products do not.
REFUSED = {
    "binary_residual": "its result is in the format 'binary_residual' (residual6), which has no "
    f"hardware; use one of {DATA}",
    "block_fp": "its result is in the format 'block_fp' (bfp6e3b3x4), which has no hardware; "
    f"use one of {DATA}",
    "block_minifloat": "its result is in the format 'block_minifloat' (mxfp_e3m2x4), which has no "
    f"hardware; use one of {DATA}",
    "block_log": "its result is in the format 'block_log' (blog6x4), which has no hardware; "
    f"use one of {DATA}",
    "bf16": "its result is in e8m7, whose levels need integers of more than 62 bits; "
    "use fewer bits of exponent",
}
WIDE = (
    "its result: fixed point: width must be in 1..62, got 66; "
    "use a narrower format or set data_out_width on the layer before"
)


def perceptron() -> tuple[nn.Module, torch.Tensor]:
    """A model [N, 8] -> [N, 4] in float64, and data."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 4))
    return model.double().eval(), batch(60, 8).double()


def config_of(name: str, roles: tuple[str, ...]) -> dict[str, Any]:
    """The format for these tensors, with what it needs; the others are integers of 8 bits."""
    config: dict[str, Any] = {"name": "integer", "data_in_width": 8, "weight_width": 8}
    if roles == ("weight", "data_in"):
        config = {"name": name}
    for role in roles:
        config[f"{role}_format"] = name
        config[f"{role}_width"] = None
        for option in required_options(name):
            config[f"{role}_{option}"] = WIDTHS[option]
        if "block_size" in format_class(name).options:
            # Blocks of a few exponents: what spans more than 62 bits has no integers.
            config |= {f"{role}_block_size": 4, f"{role}_exponent_width": 3}
            if "exponent_bias" in format_class(name).options:
                config[f"{role}_exponent_bias"] = 3
            if "exponent_width" not in format_class(name).options:
                del config[f"{role}_exponent_width"]
    return {key: value for key, value in config.items() if value is not None}


def made(name: str, roles: tuple[str, ...]) -> tuple[MaseGraph, torch.Tensor]:
    model, x = perceptron()
    arguments = {"default": {"config": config_of(name, roles)}, "calibration": x}
    return quantize_transform_pass(annotated(model, x[:5]), arguments), x


def check_equal(graph: MaseGraph, x: torch.Tensor) -> None:
    """Every node's integers are the fake-quantised network's values in float64, over the step."""
    (name,) = graph.placeholders
    integers = run_in_integers(graph, {name: x.numpy()})
    floats = record(graph, {name: x})
    # All but the input and the output.
    assert len(integers) == len(floats) - 2
    for node in graph.fx_graph.nodes:
        if node.name not in integers:
            continue
        type = common_of(node).output
        step = np.asarray(np.ldexp(1.0, -type.fixed.frac_width))
        step = step if type.scale is None else step * type.scale.floats()
        found = floats[node.name] / step
        # Scales are float32 numbers, and so a product of two is exact; sums of such products and
        # this division round, to some units in the last of 53 bits.
        np.testing.assert_allclose(found, integers[node.name], rtol=0, atol=2.0**-20)


@pytest.mark.parametrize("name", NAMES)
def test_every_format_by_name_for_weights_and_data(name: str) -> None:
    graph, x = made(name, ("weight", "data_in"))
    rows = graph.info["quantize"]
    chosen = {row["format"] for row in rows if row["tensor"] != "bias"}
    assert {row["tensor"] for row in rows} >= {"weight", "data_in"}
    result = graph.model(x)
    assert bool(result.isfinite().all())
    assert not torch.equal(result, perceptron()[0](x)), chosen
    verify_metadata_analysis_pass(graph)
    reason = REFUSED.get(name)
    if reason is not None:
        assert refusal(graph) == f"node 'input_1_cast': operator 'cast': {reason}"
    elif name == "fp16":
        assert refusal(graph) == f"node 'linear_0': operator 'linear': {WIDE}"
    else:
        check_equal(graph, x)
        add_hardware_metadata_analysis_pass(graph)


@pytest.mark.parametrize("name", NAMES)
def test_every_format_by_name_for_weights_alone(name: str) -> None:
    graph, x = made(name, ("weight",))
    assert bool(graph.model(x).isfinite().all())
    format = format_class(name)
    if "weight" in format.hardware and name != "bf16":
        verify_metadata_analysis_pass(graph)
        check_equal(graph, x)
        add_hardware_metadata_analysis_pass(graph)
        return
    (shown, *_) = (r["format"] for r in graph.info["quantize"] if r["tensor"] == "weight")
    reason = (
        f"its weight is in the format '{format.kind}' ({shown}), which has no hardware; "
        f"use one of {', '.join(hardware_formats('weight'))}"
    )
    if name == "bf16":
        reason = (
            "its weight: floating point: its levels need integers of 262 bits, of at most 62; "
            "use fewer bits of exponent"
        )
    assert refusal(graph) == f"node 'linear_0': operator 'linear': {reason}"


def refusal(graph: MaseGraph) -> str:
    with pytest.raises(UnsupportedOpError) as caught:
        add_hardware_metadata_analysis_pass(graph)
    return str(caught.value)


@pytest.mark.parametrize("name", ["NA", "fp32"])
def test_floating_point_is_left_alone(name: str) -> None:
    model, x = perceptron()
    graph = quantize_transform_pass(
        annotated(model, x[:5]), {"default": {"config": {"name": name}}}
    )
    assert torch.equal(graph.model(x), model(x))
    assert refusal(graph) == (
        "node 'linear_0': operator 'linear' is in floating point; give it, and every tensor that "
        'it reads, a number format in quantize (name = "integer")'
    )


def test_new_layers_and_casts_have_the_mode_of_the_model() -> None:
    """What runs in evaluation is what was calibrated: the bias is on its levels there."""
    model, x = perceptron()
    for training in (False, True):
        graph = annotated(model.train(training), x[:5])
        result = quantize_transform_pass(
            graph, {"default": {"config": config_of("ternary", ("weight",))}}
        )
        assert {module.training for module in result.model.modules()} == {training}
