"""correct_bias: the mean error that rounding makes in a channel is taken out of its bias."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from chop.formats.fixed import Fixed
from chop.ir.graph import MaseGraph
from chop.nn.quantizer import Static
from chop.nn.rewritten import rewrite_constant
from chop.passes.contract import PassArguments, transform_pass
from chop.passes.graph.transforms.refresh import refresh_metadata
from chop.passes.layerwise import Stop, walk_layers

__all__ = ["correct_bias_transform_pass"]


class CorrectBiasArguments(PassArguments):
    """`calibration` is data: tensors by input name, or a loader (the example inputs where None)."""

    calibration: Any = None


@dataclass(frozen=True, slots=True)
class _Row:
    """One layer: its bias' format, and the largest |mean error| of a channel before and after."""

    node: str
    format: str = ""
    error_before: float = 0.0
    error_after: float = 0.0
    skipped: str = ""


@transform_pass("correct_bias", CorrectBiasArguments, ("add_common_metadata",))
def correct_bias_transform_pass(graph: MaseGraph, arguments: CorrectBiasArguments) -> MaseGraph:
    """Returns a quantised graph whose layers have the mean outputs of the float network.

    Layer after layer, the float bias moves by E[W x + b] - E[Wq xq + b] per channel, over the
    calibration data, where xq comes from the corrected layers before; then it is rounded as any
    bias is. So the mean error that stays is what the bias' rounding makes: at most a step of it,
    unless it saturates. A bias whose fraction was chosen by quantise loses fraction bits where the
    moved one would saturate. Nagel et al., "Data-free quantization through weight equalization and
    bias correction", ICCV 2019, section 4.2, with the means taken from data. Run it last:
    after learn_rounding.

    `info["correct_bias"]` has a row per layer. Raises PassOrderError on a float graph.
    """
    rows: list[_Row] = []
    chosen = _chosen_biases(graph)

    def visit(stop: Stop) -> None:
        rows.append(_correct(stop, stop.node.name in chosen))

    walk_layers(graph, arguments.calibration, ("bias",), "pass 'correct_bias'", visit)
    graph.info["correct_bias"] = [asdict(row) for row in rows]
    refresh_metadata(graph)
    return graph


def _chosen_biases(graph: MaseGraph) -> set[str]:
    """Returns the nodes whose bias has the format that a pass chose, not the configuration."""
    rows = [*graph.info.get("quantize", ()), *graph.info.get("float_to_fake", ())]
    return {r["node"] for r in rows if r["tensor"] == "bias" and r["chosen"] == "auto"}


def _correct(stop: Stop, chosen: bool) -> _Row:
    name = stop.node.name
    if not isinstance(getattr(stop.inner, "bias", None), nn.Parameter):
        return _Row(name, skipped="the layer has no bias")
    if stop.shared:
        return _Row(name, skipped="the layer's parameters are used at another place too")
    before = float(_mean_error(stop, stop.levels()["bias"]).abs().max())
    bias = stop.inner.get_parameter("bias").detach().double()
    moved = bias + _mean_error(stop, bias)
    rewrite_constant(stop.layer, "bias", moved)
    if chosen:
        _make_room(stop)
    after = float(_mean_error(stop, stop.levels()["bias"]).abs().max())
    return _Row(name, str(stop.layer.formats.get("bias", "float")), before, after)


def _mean_error(stop: Stop, bias: torch.Tensor) -> torch.Tensor:
    """Returns, for every element of the bias, the mean of wanted - result where it is added.

    An output's derivative by the bias says where that is, so the layout of the layer's result
    need not be known.
    """
    variable = bias.clone().requires_grad_()
    with torch.enable_grad():
        result = stop.result(**{**stop.levels(), "bias": variable})
        error = (stop.wanted - result).detach()
        (count,) = torch.autograd.grad(result.sum(), variable, retain_graph=True)
        (total,) = torch.autograd.grad((result * error).sum(), variable)
    return total / count


def _make_room(stop: Stop) -> None:
    if "bias" not in stop.layer.quantizers:
        return
    quantizer = stop.layer.quantizer("bias")
    if not isinstance(quantizer, Static) or not isinstance(quantizer.format, Fixed):
        return
    values = stop.inner.get_parameter("bias").detach().double()
    format = quantizer.format
    while True:
        scaled = values * 2.0**format.frac_width
        if format.low <= float(scaled.min()) and float(scaled.max()) <= format.high:
            break
        format = Fixed(format.width, format.frac_width - 1, format.signed)
    if format != quantizer.format:
        stop.layer.quantizers["bias"] = Static(format, quantizer.rounding)
