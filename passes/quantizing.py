"""The rewriting behind quantize and float_to_fake: casts between nodes, formats on constants."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import fx, nn

from chop.errors import ConfigError, FormatError, UnsupportedOpError
from chop.formats.base import Format
from chop.formats.calibrate import choose_fixed, sqnr_db
from chop.formats.fixed import Fixed
from chop.formats.rounding import Floats, Rounding
from chop.ir.graph import MaseGraph
from chop.ir.meta import KEY as META
from chop.ir.meta import CommonMeta, NodeMeta, common_of
from chop.ir.tensor_type import TensorType
from chop.nn.fake_quantize import Cast
from chop.nn.layers import AccumulatorBias, QuantizedLayer
from chop.nn.masks import mask_of
from chop.nn.quantizer import Quantizer, Static
from chop.nn.result import QuantizedResult, ResultLayer
from chop.ops.annotate import Annotator, data_inputs, module_of, record
from chop.ops.registry import operator
from chop.passes.batches import batches_of
from chop.passes.layer_plan import LayerPlan, TensorPlan

__all__ = ["Rules", "calibration_inputs", "calibration_values", "quantize_graph"]

# Returns a node's plan, and whether the configuration names it.
Rules = Callable[[MaseGraph, fx.Node], tuple[LayerPlan, bool]]

_MOST_SAMPLES = 2048
# A bias is added once per output: a wide one costs next to nothing.
_BIAS_WIDTH, _SCALED_BIAS_WIDTH = 16, 32


@dataclass(frozen=True, slots=True)
class _Row:
    """One format chosen, for the report."""

    node: str
    tensor: str
    format: str
    chosen: str
    algorithm: str
    sqnr_db: float


def calibration_inputs(who: str, graph: MaseGraph, calibration: Any) -> dict[str, torch.Tensor]:
    """Returns the calibration data by input name (the example inputs where None)."""
    data = graph.example_inputs if calibration is None else calibration
    batches = list(batches_of(who, graph.placeholders, data, _MOST_SAMPLES))
    return {name: torch.cat([b[name] for b in batches]) for name in graph.placeholders}


def calibration_values(who: str, graph: MaseGraph, calibration: Any) -> dict[str, Floats]:
    """Returns every node's values over the calibration data."""
    return record(graph, calibration_inputs(who, graph, calibration))


def quantize_graph(
    graph: MaseGraph, rules: Rules, calibration: Any, rounding: Rounding, who: str
) -> list[dict[str, Any]]:
    """Rewrites a float graph in place and returns a row per format chosen.

    Metadata are kept up to date as far as the rewriting needs them: refresh them afterwards. Raises
    ConfigError for a format that cannot be had, UnsupportedOpError as operators do.
    """
    return _Quantizer(graph, rules, calibration, rounding, who).run()


class _Quantizer:
    """Rewrites one graph, node after node, keeping the metadata up to date."""

    def __init__(
        self, graph: MaseGraph, rules: Rules, calibration: Any, rounding: Rounding, who: str
    ) -> None:
        self._graph = graph
        self._rules = rules
        self._rounding = rounding
        self._who = who
        self._values = calibration_values(who, graph, calibration)
        self._annotator = Annotator(graph, graph.example_inputs)
        self._casts: dict[tuple[fx.Node, Format, str], fx.Node] = {}
        self._trainings: dict[fx.Node, str] = {}
        self._rows: list[_Row] = []

    def run(self) -> list[dict[str, Any]]:
        for node in list(self._graph.fx_graph.nodes):
            self._annotate(node)
            common = common_of(node)
            if common.operator == "input":
                self._quantize_input(node)
            elif common.carries_data:
                self._quantize_node(node, common)
        _drop_unread_constants(self._graph)
        self._graph.model.delete_all_unused_submodules()
        self._graph.model.recompile()
        return [asdict(row) for row in dict.fromkeys(self._rows)]

    def _node(self, node: fx.Node) -> str:
        return f"{self._who}: node '{node.name}'"

    def _quantize_input(self, node: fx.Node) -> None:
        found = self._port_formats(node)
        if not found:
            return
        plan, format = found[0]
        if len(trainings := dict.fromkeys(p.training for p, _ in found)) > 1:
            raise ConfigError(
                f"{self._node(node)}: is read with the training algorithms "
                f"{' and '.join(trainings)}; give its readers one data_in"
            )
        if len({f for _, f in found}) > 1:
            format = self._common_format(node, [f for _, f in found])
        self._insert_cast(node, plan, format, f"{node.name}_cast", list(node.users))

    def _common_format(self, node: fx.Node, formats: list[Format]) -> Fixed:
        """Returns the fixed-point format that holds the levels of all."""
        fixed = [f for f in formats if isinstance(f, Fixed)]
        if len(fixed) < len(formats):
            listed = ", ".join(str(f) for f in formats)
            raise ConfigError(
                f"{self._node(node)}: is read in the formats {listed}; "
                "give its readers one data_in format"
            )
        whole = max(f.width - f.frac_width - f.signed for f in fixed)
        frac = max(f.frac_width for f in fixed)
        signed = any(f.signed for f in fixed)
        return Fixed(whole + frac + signed, frac, signed)

    def _port_formats(self, node: fx.Node) -> list[tuple[TensorPlan, Format]]:
        """Returns the formats in which the first quantised readers of an input want it."""
        found: list[tuple[TensorPlan, Format]] = []
        for user in node.users:
            if user.op == "output":
                plan, _ = self._rules(self._graph, user)
            else:
                self._annotator.annotate(user)
                common = common_of(user)
                if not common.carries_data:
                    continue
                if operator(common.operator).is_layout:
                    found += self._port_formats(user)
                    continue
                plan, _ = self._rules(self._graph, user)
            if plan.quantizes:
                required = self._required_format(user)
                if required is not None:
                    found.append((TensorPlan("integer"), required))
                elif plan.data_in is not None:
                    found.append((plan.data_in, self._data(plan.data_in, "data_in", user, node)))
                elif not plan.partial:
                    raise ConfigError(f"{self._node(user)}: data_in_width is missing; add it")
        return found

    def _cast_inputs(self, node: fx.Node, plan: LayerPlan) -> None:
        for source in data_inputs(node):
            self._cast_input(node, source, plan)

    def _required_format(self, node: fx.Node) -> Fixed | None:
        """Returns the format that a node's input must have; None: that of the configuration."""
        if node.op == "output":
            return None
        op = operator(common_of(node).operator)
        return op.input_format(self._annotator.call(node))

    def _quantize_node(self, node: fx.Node, common: CommonMeta) -> None:
        plan, named = self._rules(self._graph, node)
        op = operator(common.operator)
        if not plan.quantizes or (op.is_layout and not named):
            return
        if (named or op.quantizes_input) and self._required_format(node) is None:
            self._cast_inputs(node, plan)
        call = self._annotator.call(node)
        inputs = [common_of(source).output for source in data_inputs(node)]
        result = op.result_layer(call, inputs)
        if result is not None and result.quantizes_input and not (named or op.quantizes_input):
            self._cast_inputs(node, plan)
        if result is not None:
            self._format_result(node, result, plan)
            return
        layer = op.layer(call)
        if layer is not None and not isinstance(call.module, Cast):
            self._replace_layer(node, op.name, layer, plan)
        self._annotator.annotate(node)
        if plan.data_out is not None and (named or not op.gives_indices):
            format = self._data(plan.data_out, "data_out", node, node)
            readers = list(node.users)
            self._insert_cast(node, plan.data_out, format, f"{node.name}_data_out", readers)

    def _annotate(self, node: fx.Node) -> None:
        """Annotates a node; means that it cannot take with their scales are rounded first."""
        try:
            self._annotator.annotate(node)
        except UnsupportedOpError:
            if not self._round_means(node):
                raise
        else:
            if not common_of(node).blocked or not self._round_means(node):
                return
        self._annotator.annotate(node)

    def _round_means(self, node: fx.Node) -> bool:
        """Rounds the means that a node reads, if any, and returns whether there are.

        They get as many bits as the node that divides reads.
        """
        found = False
        for source in node.all_input_nodes:
            maker = self._divider(source)
            plan = None if maker is None else self._rules(self._graph, maker)[0]
            if plan is None or plan.data_in is None or not plan.quantizes:
                continue
            tensor = _own_range(plan.data_in)
            format = self._data(tensor, "data_out", source, source)
            known = self._casts.get((source, format, tensor.training))
            if known is not None:
                node.replace_input_with(source, known)
            else:
                self._insert_cast(source, tensor, format, f"{source.name}_data_out", [node])
            found = True
        return found

    def _divider(self, node: fx.Node) -> fx.Node | None:
        """Returns the node that gave a tensor its scale by a division; None: another did."""
        while common_of(node).carries_data and common_of(node).output.scale is not None:
            common, sources = common_of(node), data_inputs(node)
            if operator(common.operator).divides:
                return node
            if common.parameters or len(sources) != 1 or common.operator == "cast":
                return None
            (node,) = sources
        return None

    def _cast_input(self, node: fx.Node, source: fx.Node, plan: LayerPlan) -> None:
        given = common_of(source).output
        if plan.data_in is None:
            if given.format is None and not plan.partial:
                raise ConfigError(f"{self._node(node)}: data_in_width is missing; add it")
            return
        format = self._data(plan.data_in, "data_in", node, source)
        # A cast that trains is wanted even where it changes nothing yet.
        training = plan.data_in.training
        if _holds(format, given) and training in ("ste", self._trainings.get(source)):
            return
        known = self._casts.get((source, format, training))
        if known is not None:
            node.replace_input_with(source, known)
        else:
            self._insert_cast(source, plan.data_in, format, f"{node.name}_data_in", [node])

    def _insert_cast(
        self,
        source: fx.Node,
        plan: TensorPlan,
        format: Format,
        name: str,
        readers: list[fx.Node],
    ) -> None:
        graph = self._graph
        target = graph.free_name(name)
        values = self._recorded(source)
        quantizer = plan.quantizer(values, format, "data", self._rounding, self._node(source))
        graph.model.add_submodule(
            target, Cast(quantizer, inserted=True).train(graph.model.training)
        )
        with graph.fx_graph.inserting_after(source):
            cast = graph.fx_graph.create_node("call_module", target, (source,), name=name)
        cast.stack_trace = source.stack_trace
        cast.meta[META] = NodeMeta()
        for reader in readers:
            reader.replace_input_with(source, cast)
        self._annotator.share(cast, source)
        self._annotator.annotate(cast)
        self._casts[(source, format, plan.training)] = cast
        self._trainings[cast] = plan.training

    def _replace_layer(self, node: fx.Node, name: str, layer: nn.Module, plan: LayerPlan) -> None:
        quantizers = self._parameters(node, layer, plan)
        alone = node.op == "call_module" and self._graph.readers(str(node.target)) == 1
        target = str(node.target) if alone else self._graph.free_name(f"{node.name}_layer")
        module = QuantizedLayer(name, layer, quantizers, self._rounding)
        own = node.op == "call_module"
        module.train(layer.training if own else self._graph.model.training)
        self._graph.model.add_submodule(target, module)
        (source,) = data_inputs(node)
        node.op, node.target, node.args, node.kwargs = "call_module", target, (source,), {}

    def _format_result(self, node: fx.Node, layer: ResultLayer, plan: LayerPlan) -> None:
        """Gives a node that is not exact without one the format of its result."""
        tensor = plan.data_out
        if tensor is None and plan.data_in is not None:
            tensor = _own_range(plan.data_in)
        if tensor is None:
            return
        for source in data_inputs(node):
            scale = common_of(source).output.scale
            if scale is not None and scale.per_channel and plan.data_in is not None:
                self._cast_input(node, source, plan)
        values, who = self._recorded(node), self._node(node)
        format = self._data(tensor, "data_out", node, node)
        quantizer = tensor.quantizer(values, format, "data", self._rounding, who)
        alone = node.op == "call_module" and self._graph.readers(str(node.target)) == 1
        target = str(node.target) if alone else self._graph.free_name(f"{node.name}_layer")
        module = QuantizedResult(layer, quantizer, inserted=True).train(self._graph.model.training)
        self._graph.model.add_submodule(target, module)
        sources = tuple(data_inputs(node))
        node.op, node.target, node.args, node.kwargs = "call_module", target, sources, {}
        self._annotator.annotate(node)

    def _parameters(self, node: fx.Node, layer: nn.Module, plan: LayerPlan) -> dict[str, Quantizer]:
        found: dict[str, Quantizer] = {}
        weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
        if weight is not None:
            if plan.weight is not None:
                found["weight"] = self._constant(node, "weight", weight, plan.weight)
            elif not plan.partial:
                raise ConfigError(f"{self._node(node)}: weight_width is missing; add it")
        if bias is not None and (plan.bias is not None or "weight" in found or weight is None):
            values = None if weight is None else weight.detach().double().numpy()
            found["bias"] = self._bias(node, bias, plan.bias, found.get("weight"), values)
        self._check_zeros(node, layer, found)
        return found

    def _check_zeros(
        self, node: fx.Node, layer: nn.Module, quantizers: Mapping[str, Quantizer]
    ) -> None:
        """What was pruned must be zero in its format, too."""
        for name, quantizer in quantizers.items():
            kept = mask_of(layer, name)
            if kept is not None and not bool(kept.all()):
                values = layer.get_parameter(name).detach()
                levels, _ = quantizer.format.quantize(values, self._rounding)
                if bool(levels[~kept].any()):
                    raise ConfigError(
                        f"{self._node(node)}: its {name} is pruned, and the format "
                        f"{quantizer.format} has no zero; use one that has, ternary for example"
                    )

    def _constant(
        self,
        node: fx.Node,
        tensor: str,
        parameter: torch.Tensor,
        plan: TensorPlan,
    ) -> Quantizer:
        values = parameter.detach().double().numpy()
        who = f"{self._node(node)}: {tensor}"
        format = plan.fit(values, who, True)
        self._report(node, tensor, plan, values, format)
        return plan.quantizer(values, format, "weight", self._rounding, who)

    def _bias(
        self,
        node: fx.Node,
        bias: torch.Tensor,
        plan: TensorPlan | None,
        weight: Quantizer | None,
        weights: Floats | None,
    ) -> Quantizer:
        """Returns the bias' quantiser: on the scale of the products where they have one."""
        (source,) = data_inputs(node)
        x = common_of(source).output
        if plan is not None and plan.format not in ("integer", "fixed", "scaled_integer"):
            return self._constant(node, "bias", bias, plan)
        cast = module_of(self._graph, source)
        sources = [] if weight is None else [weight]
        if isinstance(cast, Cast):
            sources.append(cast.quantizer)
        width = None if plan is None else plan.options.width
        learned = any(not isinstance(q, Static) for q in sources)
        if learned or x.scale is not None or any(q.format.scale is not None for q in sources):
            if not isinstance(cast, Cast):
                sources.append(Static(_unit(x), self._rounding))
            return AccumulatorBias(width or _SCALED_BIAS_WIDTH, tuple(sources), self._rounding)
        product = None
        if x.exact:
            product = x.fixed.frac_width
            if weight is not None and weights is not None and weight.format.hardware:
                product += _frac_width(weight.format, weights)
        plan = plan or TensorPlan("integer")
        values = bias.detach().double().numpy()
        if plan.options.frac_width is not None:
            return self._constant(node, "bias", bias, plan)
        # A bias finer than the products would only widen the accumulator.
        format = choose_fixed(values, width or _BIAS_WIDTH, True, product).format
        self._report(node, "bias", plan, values, format)
        return Static(format, self._rounding)

    def _data(self, plan: TensorPlan, side: str, node: fx.Node, tensor: fx.Node) -> Format:
        """Returns the format of a layer's data, and reports it."""
        values = self._recorded(tensor)
        negative = _may_be_negative(common_of(tensor).output, values)
        format = plan.fit(values, f"{self._node(node)}: {side}", negative)
        self._report(node, side, plan, values, format)
        return format

    def _report(
        self, node: fx.Node, tensor: str, plan: TensorPlan, values: Floats, format: Format
    ) -> None:
        chosen = "auto" if plan.calibrated else "given"
        row = _Row(node.name, tensor, str(format), chosen, plan.algorithm, sqnr_db(values, format))
        self._rows.append(row)

    def _recorded(self, tensor: fx.Node) -> Floats:
        """Returns a node's values in the float graph; an inserted cast has those of its source."""
        while tensor.name not in self._values:
            tensor = tensor.all_input_nodes[0]
        return self._values[tensor.name]


def _own_range(plan: TensorPlan) -> TensorPlan:
    """Returns a plan for a result: as wide as what its node reads; the range is its own."""
    options = replace(plan.options, frac_width=None, scale=None, exponent_bias=None)
    return replace(plan, options=options, signed="auto")


def _frac_width(format: Format, values: Floats) -> int:
    """Returns the fraction of constants as integers; 0 where they have none that fit."""
    try:
        return format.integers(values).carrier.frac_width
    except FormatError:
        return 0


def _unit(type: TensorType) -> Format:
    """Returns a format whose step is that of the type."""
    if type.scale is not None or not type.exact:
        raise ConfigError(
            "the input of a layer with scaled weights must be cast first; give it a data_in format"
        )
    return type.fixed


def _may_be_negative(type: TensorType, values: Floats) -> bool:
    return type.low < 0 if type.exact else bool((values < 0).any())


def _holds(format: Format, given: TensorType) -> bool:
    """Whether casting the tensor to the format would change nothing."""
    if given.format is None:
        return False
    if not isinstance(format, Fixed) or given.scale is not None or not given.exact:
        return format == given.format
    shift = format.frac_width - given.fixed.frac_width
    return shift >= 0 and given.low << shift >= format.low and given.high << shift <= format.high


def _drop_unread_constants(graph: MaseGraph) -> None:
    """A constant that became the parameter of a layer is read by no node any more."""
    for node in reversed(list(graph.fx_graph.nodes)):
        if common_of(node).operator == "constant" and not node.users:
            graph.fx_graph.erase_node(node)
