"""quantize: number formats on the inputs, parameters and results of layers, mixed per layer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import ConfigDict, Field
from torch import fx, nn

from chop.config.parse import parse_section
from chop.errors import ConfigError, did_you_mean
from chop.formats.calibrate import choose_fixed, sqnr_db
from chop.formats.fixed import Fixed
from chop.formats.registry import FORMATS
from chop.formats.rounding import Floats, Rounding
from chop.ir.graph import MaseGraph
from chop.ir.meta import KEY as META
from chop.ir.meta import CommonMeta, NodeMeta, common_of
from chop.ir.tensor_type import TensorType
from chop.nn.fake_quantize import Cast
from chop.nn.layers import QuantizedLayer
from chop.ops.annotate import Annotator, data_inputs, record, spellings_of
from chop.ops.registry import operator, operators
from chop.passes.batches import batches_of
from chop.passes.contract import PassArguments, transform_pass
from chop.passes.graph.transforms.dequantize import take_back_formats
from chop.passes.graph.transforms.refresh import refresh_metadata

__all__ = ["LayerConfig", "quantize_transform_pass"]

Width = int | None
Frac = int | Literal["auto"] | None

_RESERVED = ("by", "default", "calibration", "rounding")
_MOST_SAMPLES = 2048
# A bias is added once per output: a wide one costs next to nothing.
_DEFAULT_BIAS_WIDTH = 16


class LayerConfig(PassArguments):
    """The table `config` of one entry; the keys that MASE users know.

    A fraction of "auto" (also where the width is given alone) is the one of least squared error:
    of the weights themselves, and of the tensor over the calibration data.
    """

    name: str | None = None
    data_in_width: Width = Field(default=None, ge=1)
    data_in_frac_width: Frac = None
    weight_width: Width = Field(default=None, ge=1)
    weight_frac_width: Frac = None
    bias_width: Width = Field(default=None, ge=1)
    bias_frac_width: Frac = None
    data_out_width: Width = Field(default=None, ge=1)
    data_out_frac_width: Frac = None
    data_in_signed: bool | Literal["auto"] | None = None
    data_out_signed: bool | Literal["auto"] | None = None

    @property
    def quantizes(self) -> bool:
        return self.name not in (None, "NA")


@dataclass(frozen=True, slots=True)
class _Rules:
    """Which layer gets which configuration."""

    by: str
    default: LayerConfig
    entries: Mapping[str, LayerConfig]

    def of(self, graph: MaseGraph, node: fx.Node) -> tuple[LayerConfig, bool]:
        """Returns the node's configuration, and whether an entry names it."""
        for key, config in self.entries.items():
            if self._matches(graph, node, key):
                return config, True
        return self.default, False

    def _matches(self, graph: MaseGraph, node: fx.Node, key: str) -> bool:
        if self.by == "type":
            return key.lower() in spellings_of(graph, node)
        names = (node.name, str(node.target)) if node.op == "call_module" else (node.name,)
        if self.by == "name":
            return key in names
        return any(re.fullmatch(key, name) for name in names)


class QuantizeArguments(PassArguments):
    """The arguments that have a fixed name; every other key is an entry."""

    by: Literal["type", "name", "regex_name"] = "type"
    default: Mapping[str, Any] = Field(default_factory=dict)
    calibration: Any = None
    rounding: Rounding = Rounding.HALF_UP
    entries: Mapping[str, Any] = Field(default_factory=dict)


class _Open(PassArguments):
    """What arrives: checked by QuantizeArguments once entries and arguments are told apart."""

    model_config = ConfigDict(frozen=True, extra="allow", arbitrary_types_allowed=True)


@transform_pass("quantize", _Open, ("add_common_metadata",))
def quantize_transform_pass(graph: MaseGraph, arguments: _Open) -> MaseGraph:
    """Returns a graph in which layers compute on number formats.

    Every input gets a cast to its port's format; a layer's `data_in` is a cast before it,
    `data_out` one after it, its parameters are rounded inside. Without `data_out` a layer hands on
    its exact accumulator. Activations and reshapes are exact in any format, so the default entry
    leaves them alone; an entry that names one casts its input. `info["quantize"]` lists every
    format chosen.

    Raises ConfigError for an unknown key, layer or format name, or a missing width.
    """
    given = dict(arguments.__pydantic_extra__ or {})
    fixed = {key: given.pop(key) for key in _RESERVED if key in given}
    parsed = parse_section(QuantizeArguments, {**fixed, "entries": given}, "pass 'quantize'")
    rules = _Rules(
        parsed.by,
        _layer_config("default", parsed.default),
        {key: _layer_config(key, entry) for key, entry in parsed.entries.items()},
    )
    take_back_formats(graph)
    _check_entries(graph, rules)
    _Quantizer(graph, rules, parsed).run()
    refresh_metadata(graph)
    return graph


@dataclass(slots=True)
class _Row:
    """One format chosen, for the report."""

    node: str
    tensor: str
    format: str
    chosen: str
    sqnr_db: float


class _Quantizer:
    """Rewrites one graph, node after node, keeping the metadata up to date."""

    def __init__(self, graph: MaseGraph, rules: _Rules, arguments: QuantizeArguments) -> None:
        self._graph = graph
        self._rules = rules
        self._rounding = arguments.rounding
        self._values = _calibration_values(graph, arguments.calibration)
        self._annotator = Annotator(graph, graph.example_inputs)
        self._casts: dict[tuple[fx.Node, Fixed], fx.Node] = {}
        self._rows: list[_Row] = []

    def run(self) -> None:
        for node in list(self._graph.fx_graph.nodes):
            self._annotator.annotate(node)
            common = common_of(node)
            if common.operator == "input":
                self._quantize_input(node)
            elif common.carries_data:
                self._quantize_node(node, common)
        _drop_unread_constants(self._graph)
        self._graph.model.delete_all_unused_submodules()
        self._graph.model.recompile()
        self._graph.info["quantize"] = [
            {
                "node": r.node,
                "tensor": r.tensor,
                "format": r.format,
                "chosen": r.chosen,
                "sqnr_db": r.sqnr_db,
            }
            for r in self._rows
        ]

    def _quantize_input(self, node: fx.Node) -> None:
        formats = list(dict.fromkeys(self._port_formats(node)))
        if not formats:
            return
        whole = max(f.width - f.frac_width - f.signed for f in formats)
        frac = max(f.frac_width for f in formats)
        signed = any(f.signed for f in formats)
        format = formats[0] if len(formats) == 1 else Fixed(whole + frac + signed, frac, signed)
        self._insert_cast(node, format, f"{node.name}_cast", list(node.users))

    def _port_formats(self, node: fx.Node) -> list[Fixed]:
        """Returns the formats in which the first quantised readers of an input want it."""
        found = []
        for user in node.users:
            if user.op == "output":
                if self._rules.default.quantizes:
                    found.append(self._data_format(self._rules.default, "in", user, node))
                continue
            self._annotator.annotate(user)
            common = common_of(user)
            if not common.carries_data:
                continue
            config, _ = self._rules.of(self._graph, user)
            if operator(common.operator).is_layout:
                found += self._port_formats(user)
            elif config.quantizes:
                found.append(self._data_format(config, "in", user, node))
        return [f for f in found if f is not None]

    def _quantize_node(self, node: fx.Node, common: CommonMeta) -> None:
        config, named = self._rules.of(self._graph, node)
        op = operator(common.operator)
        if not config.quantizes or (op.is_layout and not named):
            return
        if named or op.quantizes_input:
            for source in data_inputs(node):
                self._cast_input(node, source, config)
        call = self._annotator.call(node)
        layer = op.layer(call)
        if layer is not None and not isinstance(call.module, Cast):
            self._replace_layer(node, op.name, layer, config)
        self._annotator.annotate(node)
        if config.data_out_width is not None:
            format = self._data_format(config, "out", node, node)
            if format is not None:
                self._insert_cast(node, format, f"{node.name}_data_out", list(node.users))

    def _cast_input(self, node: fx.Node, source: fx.Node, config: LayerConfig) -> None:
        given = common_of(source).output
        format = self._data_format(config, "in", node, source)
        if format is None or (given.format is not None and _holds(format, given)):
            return
        known = self._casts.get((source, format))
        if known is not None:
            node.replace_input_with(source, known)
        else:
            self._insert_cast(source, format, f"{node.name}_data_in", [node])

    def _insert_cast(
        self, source: fx.Node, format: Fixed, name: str, readers: list[fx.Node]
    ) -> None:
        graph = self._graph
        target = graph.free_name(name)
        graph.model.add_submodule(target, Cast(format, self._rounding, inserted=True))
        with graph.fx_graph.inserting_after(source):
            cast = graph.fx_graph.create_node("call_module", target, (source,), name=name)
        cast.stack_trace = source.stack_trace
        cast.meta[META] = NodeMeta()
        for reader in readers:
            reader.replace_input_with(source, cast)
        self._annotator.share(cast, source)
        self._annotator.annotate(cast)
        self._casts[(source, format)] = cast

    def _replace_layer(
        self, node: fx.Node, name: str, layer: nn.Module, config: LayerConfig
    ) -> None:
        formats = self._parameter_formats(node, layer, config)
        alone = node.op == "call_module" and self._graph.readers(str(node.target)) == 1
        target = str(node.target) if alone else self._graph.free_name(f"{node.name}_layer")
        module = QuantizedLayer(name, layer, formats, self._rounding)
        self._graph.model.add_submodule(target, module)
        (source,) = data_inputs(node)
        node.op, node.target, node.args, node.kwargs = "call_module", target, (source,), {}

    def _parameter_formats(
        self, node: fx.Node, layer: nn.Module, config: LayerConfig
    ) -> dict[str, Fixed]:
        formats = {}
        product = None
        weight = getattr(layer, "weight", None)
        x = common_of(data_inputs(node)[0]).output.format
        if weight is not None:
            if config.weight_width is None:
                raise ConfigError(
                    f"pass 'quantize': node '{node.name}': weight_width is missing; add it"
                )
            formats["weight"] = self._parameter(
                node, "weight", weight, config.weight_width, config.weight_frac_width
            )
        if x is not None:
            product = x.frac_width + (formats["weight"].frac_width if formats else 0)
        bias = getattr(layer, "bias", None)
        if bias is not None:
            width = config.bias_width or _DEFAULT_BIAS_WIDTH
            formats["bias"] = self._parameter(
                node, "bias", bias, width, config.bias_frac_width, product
            )
        return formats

    def _parameter(
        self,
        node: fx.Node,
        tensor: str,
        values: torch.Tensor,
        width: int,
        frac: Frac,
        most_frac: int | None = None,
    ) -> Fixed:
        array = values.detach().double().numpy()
        if isinstance(frac, int):
            format, chosen = Fixed(width, frac), "given"
        else:
            # A bias finer than the products would only widen the accumulator.
            format, chosen = choose_fixed(array, width, True, most_frac).format, "auto"
        self._rows.append(_Row(node.name, tensor, str(format), chosen, sqnr_db(array, format)))
        return format

    def _data_format(
        self, config: LayerConfig, side: Literal["in", "out"], node: fx.Node, tensor: fx.Node
    ) -> Fixed | None:
        """Returns the format of a layer's data, and reports it."""
        width: int | None = getattr(config, f"data_{side}_width")
        frac: Frac = getattr(config, f"data_{side}_frac_width")
        sign: bool | str | None = getattr(config, f"data_{side}_signed")
        if width is None:
            if common_of(tensor).output.format is None:
                raise ConfigError(
                    f"pass 'quantize': node '{node.name}': data_in_width is missing; add it"
                )
            return None
        values = self._values[tensor.name if tensor.name in self._values else _origin(tensor)]
        automatic = not isinstance(frac, int)
        if sign is None:
            # A format given in full is signed, as in MASE; one chosen here uses what it can.
            sign = "auto" if automatic else True
        signed = (
            _may_be_negative(common_of(tensor).output, values) if sign == "auto" else bool(sign)
        )
        if isinstance(frac, int):
            format, chosen = Fixed(width, frac, signed), "given"
        else:
            format, chosen = choose_fixed(values, width, signed).format, "auto"
        row = _Row(node.name, f"data_{side}", str(format), chosen, sqnr_db(values, format))
        if row not in self._rows:
            self._rows.append(row)
        return format


def _origin(tensor: fx.Node) -> str:
    """Returns the node of the float graph whose values an inserted cast has."""
    return tensor.all_input_nodes[0].name


def _may_be_negative(type: TensorType, values: Floats) -> bool:
    return bool((values < 0).any()) if type.format is None else type.low < 0


def _holds(format: Fixed, given: TensorType) -> bool:
    """Whether casting the tensor to the format would change nothing."""
    shift = format.frac_width - given.fixed.frac_width
    return shift >= 0 and given.low << shift >= format.low and given.high << shift <= format.high


def _drop_unread_constants(graph: MaseGraph) -> None:
    """A constant that became the parameter of a layer is read by no node any more."""
    for node in reversed(list(graph.fx_graph.nodes)):
        if common_of(node).operator == "constant" and not node.users:
            graph.fx_graph.erase_node(node)


def _layer_config(key: str, entry: Any) -> LayerConfig:
    who = f"pass 'quantize': '{key}'"
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{who} must be a table with a table 'config', got {entry!r}")
    unknown = [k for k in entry if k != "config"]
    if unknown:
        raise ConfigError(
            f"{who}: unknown key '{unknown[0]}'{did_you_mean(unknown[0], ['config'])}"
        )
    config = parse_section(LayerConfig, entry.get("config", {}), f"{who}.config")
    if config.name is not None and config.name not in FORMATS:
        raise ConfigError(
            f"{who}.config: no format '{config.name}'{did_you_mean(config.name, FORMATS)}"
        )
    return config


def _check_entries(graph: MaseGraph, rules: _Rules) -> None:
    nodes = [n for n in graph.fx_graph.nodes if common_of(n).carries_data]
    nodes = [n for n in nodes if n.op != "placeholder"]
    if rules.by == "type":
        known = {op.name for op in operators()}
        known |= {word for n in nodes for word in spellings_of(graph, n)}
    else:
        known = {n.name for n in nodes} | {str(n.target) for n in nodes if n.op == "call_module"}
    for key in rules.entries:
        if rules.by == "regex_name":
            try:
                hit = any(re.fullmatch(key, name) for name in known)
            except re.error as error:
                raise ConfigError(f"pass 'quantize': '{key}' is no regex: {error}") from error
            if not hit:
                raise ConfigError(f"pass 'quantize': '{key}' matches no node; see report_graph")
        elif (key.lower() if rules.by == "type" else key) not in known:
            what = "operator" if rules.by == "type" else "node"
            raise ConfigError(f"pass 'quantize': no {what} '{key}'{did_you_mean(key, known)}")


def _calibration_values(graph: MaseGraph, calibration: Any) -> dict[str, Floats]:
    """Returns every node's values over the calibration data (the example inputs where none)."""
    data = graph.example_inputs if calibration is None else calibration
    batches = list(batches_of("pass 'quantize'", graph.placeholders, data, _MOST_SAMPLES))
    return record(graph, {n: torch.cat([b[n] for b in batches]) for n in graph.placeholders})
