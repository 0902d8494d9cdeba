"""quantize: number formats on the inputs, parameters and results of layers, mixed per layer."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from torch import fx

from chop.errors import ConfigError, did_you_mean
from chop.formats.base import Options
from chop.formats.registry import FORMATS, format_class, required_options
from chop.formats.rounding import Rounding
from chop.ir.graph import MaseGraph
from chop.passes.contract import PassArguments, transform_pass
from chop.passes.entries import EntryArguments, read_entries
from chop.passes.graph.transforms.dequantize import take_back_formats
from chop.passes.graph.transforms.refresh import refresh_metadata
from chop.passes.layer_plan import LayerPlan, TensorPlan
from chop.passes.quantizing import quantize_graph

__all__ = ["LayerConfig", "quantize_transform_pass"]

Width = int | None
Frac = int | Literal["auto"] | None
Calibration = Literal["max", "percentile", "mse", "kl"]

_FLOAT = (None, "NA", "fp32")


class LayerConfig(PassArguments):
    """The table `config` of one entry; the keys that MASE users know.

    `name` is the format of every tensor; `weight_format`, `data_in_format`, ... override it. A
    format that has no width (binary, ternary) leaves tensors that are given one in fixed point. A
    fraction of "auto" (also where the width is given alone) is the one of least squared error: of
    the weights themselves, and of the tensor over the calibration data.
    """

    name: str | None = None
    data_in_format: str | None = None
    data_in_width: Width = Field(default=None, ge=1)
    data_in_frac_width: Frac = None
    data_in_signed: bool | Literal["auto"] | None = None
    data_in_exponent_width: Width = Field(default=None, ge=1)
    data_in_exponent_bias: int | None = None
    data_in_block_size: Width = Field(default=None, ge=1)
    data_in_scale: float | None = Field(default=None, gt=0)
    weight_format: str | None = None
    weight_width: Width = Field(default=None, ge=1)
    weight_frac_width: Frac = None
    weight_exponent_width: Width = Field(default=None, ge=1)
    weight_exponent_bias: int | None = None
    weight_block_size: Width = Field(default=None, ge=1)
    weight_scale: float | None = Field(default=None, gt=0)
    weight_per_channel: bool = False
    bias_format: str | None = None
    bias_width: Width = Field(default=None, ge=1)
    bias_frac_width: Frac = None
    bias_exponent_width: Width = Field(default=None, ge=1)
    bias_exponent_bias: int | None = None
    bias_block_size: Width = Field(default=None, ge=1)
    data_out_format: str | None = None
    data_out_width: Width = Field(default=None, ge=1)
    data_out_frac_width: Frac = None
    data_out_signed: bool | Literal["auto"] | None = None
    data_out_exponent_width: Width = Field(default=None, ge=1)
    data_out_exponent_bias: int | None = None
    data_out_block_size: Width = Field(default=None, ge=1)
    data_out_scale: float | None = Field(default=None, gt=0)

    @property
    def quantizes(self) -> bool:
        return self.name not in _FLOAT


class QuantizeArguments(EntryArguments):
    """Entries, and how ranges are found.

    `calibration` is data: tensors by input name, or a loader. `method` is how ranges are found in
    them, `percentile` what "percentile" keeps.
    """

    calibration: Any = None
    method: Calibration = "mse"
    percentile: float = Field(default=99.99, gt=0, le=100)
    rounding: Rounding = Rounding.HALF_UP


@transform_pass("quantize", QuantizeArguments, ("add_common_metadata",))
def quantize_transform_pass(graph: MaseGraph, arguments: QuantizeArguments) -> MaseGraph:
    """Returns a graph in which layers compute on number formats.

    Every input gets a cast to its port's format; a layer's `data_in` is a cast before it,
    `data_out` one after it, its parameters are rounded inside. Without `data_out` a layer hands on
    its exact accumulator. Activations and reshapes are exact in any format, so the default entry
    leaves them alone; an entry that names one casts its input. `info["quantize"]` lists every
    format chosen.

    Raises ConfigError for an unknown key, layer or format name, or a missing width.
    """
    who = "pass 'quantize'"
    take_back_formats(graph)
    entries = read_entries(graph, arguments, LayerConfig, who)
    plans = {key: _plan(config, key, arguments) for key, config in entries.configs()}
    default = plans.get("default") or _plan(LayerConfig(), "default", arguments)

    def rules(graph: MaseGraph, node: fx.Node) -> tuple[LayerPlan, bool]:
        entry = entries.find(graph, node)
        return (default, False) if entry is None else (plans[entry.key], True)

    graph.info["quantize"] = quantize_graph(
        graph, rules, arguments.calibration, arguments.rounding, who
    )
    refresh_metadata(graph)
    return graph


def _plan(config: LayerConfig, key: str, arguments: QuantizeArguments) -> LayerPlan:
    for prefix in ("", "data_in_", "weight_", "bias_", "data_out_"):
        name = getattr(config, f"{prefix}format" if prefix else "name")
        if name is not None and name not in FORMATS:
            raise ConfigError(
                f"pass 'quantize': '{key}'.config: no format '{name}'{did_you_mean(name, FORMATS)}"
            )
    if not config.quantizes:
        return LayerPlan(quantizes=False)
    return LayerPlan(
        data_in=_tensor(config, "data_in", arguments),
        weight=_tensor(config, "weight", arguments),
        bias=_tensor(config, "bias", arguments),
        data_out=_tensor(config, "data_out", arguments),
    )


def _tensor(config: LayerConfig, role: str, arguments: QuantizeArguments) -> TensorPlan | None:
    """Returns the plan of one tensor; None where the configuration says nothing of it."""
    prefix = f"{role}_"
    given = {
        field.removeprefix(prefix): getattr(config, field)
        for field in LayerConfig.model_fields
        if field.startswith(prefix) and field in config.model_fields_set
    }
    name = given.pop("format", None)
    if name is None:
        name = str(config.name)
        if not given and (role in ("bias", "data_out") or required_options(name)):
            return None
        if given.get("width") is not None and "width" not in format_class(name).options:
            name = "integer"
    if given.get("width") is None and "width" in required_options(name):
        return None
    signed = given.pop("signed", None)
    if given.get("frac_width") == "auto":
        given["frac_width"] = None
    options = Options(**given, calibration=arguments.method, percentile=arguments.percentile)
    return TensorPlan(name, options, signed)
