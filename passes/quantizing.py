"""The rewriting behind quantize and float_to_fake: casts between nodes, formats on constants."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import torch
from torch import fx, nn

from chop.errors import ConfigError, FormatError, UnsupportedOpError
from chop.formats.base import Format
from chop.formats.calibrate import choose_fixed
from chop.formats.fixed import Fixed
from chop.formats.requantise import Source, requantiser_of
from chop.formats.rounding import Floats, Rounding
from chop.formats.scaled import Scaled
from chop.ir.graph import MaseGraph
from chop.ir.meta import CommonMeta, common_of
from chop.ir.tensor_type import TensorType
from chop.nn.fake_quantize import Cast
from chop.nn.layers import AccumulatorBias, ChannelAffine, QuantizedLayer
from chop.nn.masks import mask_of
from chop.nn.quantizer import Quantizer, Static
from chop.nn.result import QuantizedResult, ResultLayer
from chop.ops.annotate import Annotator, data_inputs, module_of, record
from chop.ops.registry import operator
from chop.passes.batches import batches_of
from chop.passes.casting import Casts
from chop.passes.layer_plan import LayerPlan, TensorPlan

__all__ = ["Rules", "calibration_inputs", "calibration_values", "quantize_graph"]

# Returns a node's plan, and whether the configuration names it.
Rules = Callable[[MaseGraph, fx.Node], tuple[LayerPlan, bool]]

_MOST_SAMPLES = 2048
# A bias is added once per output: a wide one costs next to nothing.
_BIAS_WIDTH, _SCALED_BIAS_WIDTH = 16, 32


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
        values = calibration_values(who, graph, calibration)
        self._annotator = Annotator(graph, graph.example_inputs)
        self._casts = Casts(graph, self._annotator, values, rounding, who)

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
        return self._casts.rows

    def _quantize_input(self, node: fx.Node) -> None:
        found = self._port_formats(node)
        if not found:
            return
        plan, format = found[0]
        if len(trainings := dict.fromkeys(p.training for p, _ in found)) > 1:
            raise ConfigError(
                f"{self._casts.who(node)}: is read with the training algorithms "
                f"{' and '.join(trainings)}; give its readers one data_in"
            )
        if len({f for _, f in found}) > 1:
            format = self._common_format(node, [f for _, f in found])
        self._casts.insert(node, plan, format, f"{node.name}_cast", list(node.users))

    def _common_format(self, node: fx.Node, formats: list[Format]) -> Fixed:
        """Returns the fixed-point format that holds the levels of all."""
        fixed = [f for f in formats if isinstance(f, Fixed)]
        if len(fixed) < len(formats):
            listed = ", ".join(str(f) for f in formats)
            raise ConfigError(
                f"{self._casts.who(node)}: is read in the formats {listed}; "
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
                    found.append(
                        (plan.data_in, self._casts.data(plan.data_in, "data_in", user, node))
                    )
                elif not plan.partial:
                    raise ConfigError(f"{self._casts.who(user)}: data_in_width is missing; add it")
        return found

    def _cast_inputs(self, node: fx.Node, plan: LayerPlan) -> None:
        if self._casts.is_joint(node):
            return
        sources = data_inputs(node)
        joins = len(set(sources)) > 1 and self._casts.moves(node)
        if joins and plan.data_in is not None and plan.data_in.has_scale:
            self._casts.cast_jointly(node, plan.data_in, any_format=False)
            return
        for source in sources:
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
        if op.divides and not named and not self._can_be_cast(node, plan):
            self._cast_inputs(node, plan)
            self._annotator.annotate(node)
        if plan.data_out is not None and (named or not op.gives_indices):
            format = self._casts.data(plan.data_out, "data_out", node, node)
            readers = list(node.users)
            self._casts.insert(node, plan.data_out, format, f"{node.name}_data_out", readers)

    def _can_be_cast(self, node: fx.Node, plan: LayerPlan) -> bool:
        """Whether the quotients that a node gives can be rounded as its readers would.

        Of a sum of very many bits no multiplication does so exactly.
        """
        y = common_of(node).output
        if plan.data_in is None or not y.exact:
            return True
        format = self._casts.fit(_own_range(plan.data_in), "data_out", node, node)
        try:
            requantiser_of(Source(y.low, y.high, y.fixed, y.scale), format, self._rounding)
        except FormatError:
            return False
        return True

    def _annotate(self, node: fx.Node) -> None:
        """Annotates a node; what it cannot take with their scales is rounded first."""
        for mend in (self._round_means, self._align):
            if self._is_possible(node):
                return
            mend(node)
        self._annotator.annotate(node)

    def _is_possible(self, node: fx.Node) -> bool:
        """Annotates a node, and returns whether what it reads suits it."""
        try:
            self._annotator.annotate(node)
        except UnsupportedOpError:
            return False
        return not common_of(node).blocked

    def _round_means(self, node: fx.Node) -> None:
        """Rounds the means that a node reads, if any: to as many bits as the divider reads."""
        for source in node.all_input_nodes:
            maker = self._divider(source)
            plan = None if maker is None else self._rules(self._graph, maker)[0]
            if plan is None or plan.data_in is None or not plan.quantizes:
                continue
            tensor = _own_range(plan.data_in)
            format = self._casts.data(tensor, "data_out", source, source)
            self._casts.cast_to(node, source, tensor, format, "data_out")

    def _align(self, node: fx.Node) -> None:
        """Casts what a node reads to one format, where that is a cast of its result moved."""
        plan, named = self._rules(self._graph, node)
        exact = all(common_of(source).output.exact for source in data_inputs(node))
        if not plan.quantizes or not exact or not self._casts.moves(node):
            return
        if named and plan.data_in is not None:
            self._casts.cast_jointly(node, plan.data_in, any_format=False)
        elif plan.data_out is not None:
            self._casts.cast_jointly(node, plan.data_out, any_format=False)
        elif plan.data_in is not None:
            self._casts.cast_jointly(node, _own_range(plan.data_in), any_format=True)

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
                raise ConfigError(f"{self._casts.who(node)}: data_in_width is missing; add it")
            return
        format = self._casts.data(plan.data_in, "data_in", node, source)
        if not self._casts.take_over(node, source, plan.data_in, format):
            self._casts.cast_to(node, source, plan.data_in, format)

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
            per_channel = scale is not None and scale.per_channel
            if per_channel and not layer.reads_channel_scales and plan.data_in is not None:
                self._cast_input(node, source, plan)
        values, who = self._casts.recorded(node), self._casts.who(node)
        format = self._casts.data(tensor, "data_out", node, node)
        quantizer = tensor.quantizer(values, format, "data", self._rounding, who)
        alone = node.op == "call_module" and self._graph.readers(str(node.target)) == 1
        target = str(node.target) if alone else self._graph.free_name(f"{node.name}_layer")
        module = QuantizedResult(layer, quantizer, inserted=True).train(self._graph.model.training)
        self._graph.model.add_submodule(target, module)
        sources = tuple(data_inputs(node))
        node.op, node.target, node.args, node.kwargs = "call_module", target, sources, {}
        self._annotate_result(node, plan)

    def _annotate_result(self, node: fx.Node, plan: LayerPlan) -> None:
        """Operands in which no product is exact are rounded first."""
        try:
            self._annotator.annotate(node)
        except UnsupportedOpError:
            if plan.data_in is None:
                raise
            self._cast_inputs(node, plan)
            self._annotator.annotate(node)

    def _parameters(self, node: fx.Node, layer: nn.Module, plan: LayerPlan) -> dict[str, Quantizer]:
        found: dict[str, Quantizer] = {}
        weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
        if weight is not None:
            if plan.weight is not None:
                # A scale for each constant would be the constant.
                plain = replace(plan.weight.options, per_channel=False)
                single = isinstance(layer, ChannelAffine)
                tensor = replace(plan.weight, options=plain) if single else plan.weight
                found["weight"] = self._constant(node, "weight", weight, tensor)
            elif not plan.partial:
                raise ConfigError(f"{self._casts.who(node)}: weight_width is missing; add it")
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
                        f"{self._casts.who(node)}: its {name} is pruned, and the format "
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
        who = f"{self._casts.who(node)}: {tensor}"
        format = plan.fit(values, who, True)
        self._casts.report(node, tensor, plan, values, format)
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
        maker = module_of(self._graph, source)
        rounded = maker.quantizer if isinstance(maker, Cast | QuantizedResult) else None
        sources = [quantizer for quantizer in (weight, rounded) if quantizer is not None]
        width = None if plan is None else plan.options.width
        learned = any(not isinstance(q, Static) for q in sources)
        if learned or x.scale is not None or any(q.format.scale is not None for q in sources):
            if rounded is None:
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
        self._casts.report(node, "bias", plan, values, format)
        return Static(format, self._rounding)


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
    if type.exact and type.scale is None:
        return type.fixed
    if type.exact and type.scale is not None and not type.scale.per_channel:
        step = type.scale.factors[0] / Fraction(2) ** type.fixed.frac_width
        if Fraction(float(step)) == step:
            return Scaled(2, (float(step),))
    raise ConfigError(
        "the input of a layer with scaled weights must be cast first; give it a data_in format"
    )


def _drop_unread_constants(graph: MaseGraph) -> None:
    """A constant that became the parameter of a layer is read by no node any more."""
    for node in reversed(list(graph.fx_graph.nodes)):
        if common_of(node).operator == "constant" and not node.users:
            graph.fx_graph.erase_node(node)
