"""float_to_fake: a float network becomes a trainable fake-quantised one, rule by rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field
from torch import fx

from chop.errors import ConfigError, did_you_mean
from chop.formats.base import Options
from chop.formats.registry import FORMATS
from chop.formats.rounding import Rounding
from chop.ir.graph import MaseGraph
from chop.nn.quantizers.control import number_depths
from chop.passes.contract import PassArguments, transform_pass
from chop.passes.graph.transforms.dequantize import take_back_formats
from chop.passes.graph.transforms.refresh import refresh_metadata
from chop.passes.layer_plan import LayerPlan, TensorPlan
from chop.passes.quantizing import quantize_graph
from chop.passes.selection import Selector, check_leaves, parse_selector

__all__ = ["float_to_fake_transform_pass"]

_FLOAT = ("NA", "fp32")


class TensorConfig(PassArguments):
    """One tensor of the selected layers: its format, and the algorithm that trains it.

    `options` belong to the algorithm: its learning schedule, its noise, its decay.
    """

    format: str = "scaled_integer"
    width: int | None = Field(default=None, ge=1)
    frac_width: int | Literal["auto"] | None = None
    signed: bool | Literal["auto"] | None = None
    exponent_width: int | None = Field(default=None, ge=1)
    exponent_bias: int | None = None
    block_size: int | None = Field(default=None, ge=1)
    scale: float | None = Field(default=None, gt=0)
    per_channel: bool = False
    calibration: Literal["max", "percentile", "mse", "kl"] = "mse"
    percentile: float = Field(default=99.99, gt=0, le=100)
    algorithm: str = "ste"
    options: Mapping[str, Any] = Field(default_factory=dict)


class RuleConfig(PassArguments):
    """Which nodes, and what becomes of their tensors; `keep_float` leaves them in float."""

    select: Any
    data_in: TensorConfig | None = None
    weight: TensorConfig | None = None
    bias: TensorConfig | None = None
    data_out: TensorConfig | None = None
    keep_float: bool = False


class FloatToFakeArguments(PassArguments):
    """`rules`: the first that selects a node is its rule; a node without a rule stays in float.

    `calibration` is data: tensors by input name, or a loader.
    """

    rules: tuple[RuleConfig, ...] = Field(min_length=1)
    calibration: Any = None
    rounding: Rounding = Rounding.HALF_UP


@transform_pass("float_to_fake", FloatToFakeArguments, ("add_common_metadata",))
def float_to_fake_transform_pass(graph: MaseGraph, arguments: FloatToFakeArguments) -> MaseGraph:
    """Returns a graph whose selected layers compute on fake-quantised tensors, ready to train.

    A rule's `data_in` is a cast before the layer, `data_out` one after it, `weight` and `bias` are
    put on their levels inside; a bias without an entry gets 16 bits of fixed point, or 32 bits on
    the scale of the products where these have one. `info["float_to_fake"]` lists every format.

    Raises ConfigError for an unknown key, name, format or algorithm.
    """
    who = "pass 'float_to_fake'"
    rules = [_rule(rule, f"{who}: rule {i + 1}") for i, rule in enumerate(arguments.rules)]
    take_back_formats(graph)
    for i, (selector, _) in enumerate(rules):
        check_leaves(graph, selector, f"{who}: rule {i + 1}")

    def plan_of(graph: MaseGraph, node: fx.Node) -> tuple[LayerPlan, bool]:
        if node.op != "output":
            for selector, plan in rules:
                if selector.matches(graph, node):
                    return plan, True
        return LayerPlan(quantizes=False), False

    graph.info["float_to_fake"] = quantize_graph(
        graph, plan_of, arguments.calibration, arguments.rounding, who
    )
    number_depths(graph.model)
    refresh_metadata(graph)
    return graph


def _rule(config: RuleConfig, who: str) -> tuple[Selector, LayerPlan]:
    selector = parse_selector(config.select, f"{who}: select")
    tensors = {role: getattr(config, role) for role in ("data_in", "weight", "bias", "data_out")}
    if config.keep_float:
        if any(tensors.values()):
            raise ConfigError(f"{who}: has keep_float and formats; use one of the two")
        return selector, LayerPlan(quantizes=False)
    return selector, LayerPlan(
        data_in=_tensor(config.data_in, f"{who}: data_in"),
        weight=_tensor(config.weight, f"{who}: weight"),
        bias=_tensor(config.bias, f"{who}: bias"),
        data_out=_tensor(config.data_out, f"{who}: data_out"),
        partial=True,
    )


def _tensor(config: TensorConfig | None, who: str) -> TensorPlan | None:
    if config is None or config.format in _FLOAT:
        return None
    if config.format not in FORMATS:
        raise ConfigError(
            f"{who}: no format '{config.format}'{did_you_mean(config.format, FORMATS)}"
        )
    options = Options(
        width=config.width,
        frac_width=config.frac_width if isinstance(config.frac_width, int) else None,
        exponent_width=config.exponent_width,
        exponent_bias=config.exponent_bias,
        block_size=config.block_size,
        scale=config.scale,
        per_channel=config.per_channel,
        calibration=config.calibration,
        percentile=config.percentile,
    )
    return TensorPlan(config.format, options, config.signed, config.algorithm, config.options)
