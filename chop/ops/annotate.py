"""Gives every node of a graph its common metadata, and runs a graph in integers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from chop.errors import FormatError, PassOrderError, ShapeError, UnsupportedOpError
from chop.formats.base import Format
from chop.formats.registry import hardware_formats
from chop.formats.rounding import MAX_BITS, Floats, Ints, Rounding
from chop.integer.modules import holds_integers
from chop.ir.capture import source_line
from chop.ir.graph import MaseGraph
from chop.ir.in_place import is_in_place, later_readers
from chop.ir.meta import CommonMeta, common_of, update
from chop.ir.modes import evaluating
from chop.ir.tensor_type import FREE_LAYOUT, Layout, Parameter, TensorType, channels_last
from chop.nn.layers import QuantizedLayer
from chop.nn.result import QuantizedResult
from chop.ops.base import Call, Op, Site
from chop.ops.orders import wanted_layout
from chop.ops.registry import find, operator

__all__ = [
    "Annotator",
    "call_of",
    "data_inputs",
    "in_float",
    "module_of",
    "record",
    "run_in_integers",
    "site_of",
    "spellings_of",
]


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps the value of every node."""

    def __init__(self, module: fx.GraphModule) -> None:
        if holds_integers(module):
            raise PassOrderError(
                "the graph holds integers only, since fake_to_true: it takes no real values; "
                "use the fake-quantised graph that it was made from"
            )
        super().__init__(module, garbage_collect_values=False)
        self.extra_traceback = False

    def fetch_args_kwargs_from_env(self, n: fx.Node) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args, kwargs = super().fetch_args_kwargs_from_env(n)
        module = self.fetch_attr(str(n.target)) if n.op == "call_module" else None
        if not is_in_place(n, module):
            return args, kwargs

        # The caller's inputs, and the values recorded, stay what they were.
        def kept(value: Any) -> Any:
            return value.clone() if isinstance(value, torch.Tensor) else value

        return fx.node.map_aggregate(args, kept), fx.node.map_aggregate(kwargs, kept)

    def run_node(self, n: fx.Node) -> Any:
        try:
            return super().run_node(n)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            # What torch says of a wrong shape is the reason; the node is what the user needs.
            place = source_line(n)
            at = f" ({place})" if place else ""
            reason = str(error).strip().splitlines()[0]
            raise ShapeError(
                f"node '{n.name}'{at}: {reason}; give inputs of the shape that the model expects"
            ) from error


class Annotator:
    """Computes common metadata node by node; the nodes before must have theirs."""

    def __init__(self, graph: MaseGraph, inputs: Mapping[str, torch.Tensor]) -> None:
        """Runs the graph once on a batch of inputs by placeholder name. Raises ShapeError."""
        self._graph = graph
        self.batch = _batch_size(graph, inputs)
        batch = inputs
        if self.batch == 1:
            # Two samples show what a batch of one hides: a dimension that is not the batch.
            batch = {name: torch.cat([x, x]) for name, x in inputs.items()}
            self.batch = 2
        self.values: dict[fx.Node, Any] = self._values(batch)
        # Of another batch: only where something asks for a size.
        self._others: dict[fx.Node, Any] = {}
        calls = [n for n in self.values if n.op.startswith("call_")]
        if not all(isinstance(self.values[n], torch.Tensor) for n in calls):
            size = 2 if self.batch == 3 else 3
            with suppress(ShapeError):
                # A model of one size of batches only has none to compare with.
                self._others = self._values(
                    {name: torch.cat([x[:1]] * size) for name, x in inputs.items()}
                )

    def _values(self, batch: Mapping[str, torch.Tensor]) -> dict[fx.Node, Any]:
        recorder = _Recorder(self._graph.model)
        with evaluating(self._graph.model):
            recorder.run(*(batch[name] for name in self._graph.placeholders))
        return dict(recorder.env)

    def annotate(self, node: fx.Node) -> None:
        """Sets the node's common metadata. Raises ShapeError or UnsupportedOpError."""
        update(node, common=self._common(node))

    def share(self, node: fx.Node, source: fx.Node) -> None:
        """Declares that a new node has the shape of another's value."""
        self.values[node] = self.values[source]

    def _common(self, node: fx.Node) -> CommonMeta:
        if node.op == "placeholder":
            return CommonMeta("input", None, (), self._float_type(node))
        if node.op == "output":
            sources = tuple(common_of(n).output for n in node.all_input_nodes)
            return CommonMeta("output", None, sources, TensorType(()))
        if not self._depends_on_inputs(node):
            return CommonMeta("constant", None, (), TensorType(()))
        if not isinstance(self.values[node], torch.Tensor):
            return CommonMeta("shape", None, (), TensorType(()))
        return self._operator_meta(node)

    def _operator_meta(self, node: fx.Node) -> CommonMeta:
        module = module_of(self._graph, node)
        op = find(node, module, len(data_inputs(node)))
        call = self.call(node)
        _refuse_aliasing(call, self._graph.model)
        self._refuse_batch_size(call, op)
        attributes = op.read(call)
        inputs = tuple(common_of(n).output for n in data_inputs(node))
        exact = self._float_type(node, inputs[0])
        if op.gives_any_order:
            exact = replace(exact, layout=self._wanted_layout(node, None))
        parameters, blocked = _parameters(op, call, module)
        if parameters is None or not all(t.exact for t in inputs):
            output = op.infer_float(attributes, exact)
            blocked = blocked or _without_hardware("input", [t.format for t in inputs])
            if output.format is not None:
                blocked = _without_hardware("result", [output.format])
            return CommonMeta(op.name, attributes, inputs, output, blocked=blocked)
        if op.moves_elements:
            exact = replace(exact, layout=self._wanted_layout(node, FREE_LAYOUT))
        site = Site(node.name, attributes, inputs, parameters, Rounding.HALF_UP, exact, exact)
        try:
            output = replace(op.infer(site), scale=op.infer_scale(site))
        except FormatError as error:
            blocked = f"its result: {error}"
            return CommonMeta(op.name, attributes, inputs, exact, blocked=blocked)
        return CommonMeta(op.name, attributes, inputs, output, parameters)

    def call(self, node: fx.Node) -> Call:
        """Returns the node as an operator reads it."""
        return call_of(self._graph, node, self.values)

    def _refuse_batch_size(self, call: Call, op: Op[Any]) -> None:
        """The number of samples is no number of a sample; shapes [N, ...] may name it."""
        node = call.node
        sizes = [n for n in node.all_input_nodes if common_of(n).operator == "shape"]
        if node not in self._others or not sizes:
            return
        varies = self._others[node].shape[1:] != self.values[node].shape[1:]
        if not (op.is_layout or op.moves_elements):
            varies |= any(self._others[n] != self.values[n] for n in sizes)
        if varies:
            raise call.refuse(
                f"what '{call.spelling}' gives depends on the size of the batch",
                "use a number, or the size of another axis",
            )

    def _depends_on_inputs(self, node: fx.Node) -> bool:
        if node.op == "get_attr":
            return False
        return any(common_of(n).operator != "constant" for n in node.all_input_nodes)

    def _float_type(self, node: fx.Node, source: TensorType | None = None) -> TensorType:
        value = self.values[node]
        if not isinstance(value, torch.Tensor):
            raise ShapeError(f"node '{node.name}': expected a tensor, got {type(value).__name__}")
        if value.dim() == 0 or value.shape[0] != self.batch:
            place = source_line(node)
            at = f" ({place})" if place else ""
            raise ShapeError(
                f"node '{node.name}'{at}: the first dimension must stay the batch "
                f"({self.batch}), got shape {tuple(value.shape)}; keep dimension 0 out of reshapes"
            )
        shape = tuple(value.shape[1:])
        if source is not None:
            same = TensorType(source.shape).elements == TensorType(shape).elements
            return TensorType(shape, layout=source.layout if same else None)
        usual = channels_last(shape) if len(shape) == 3 else None
        return TensorType(shape, layout=self._wanted_layout(node, usual))

    def _wanted_layout(self, node: fx.Node, otherwise: Layout) -> Layout:
        def module_at(user: fx.Node) -> nn.Module | None:
            return module_of(self._graph, user)

        return wanted_layout(node, self.values, module_at, otherwise)


def call_of(graph: MaseGraph, node: fx.Node, values: Mapping[fx.Node, Any]) -> Call:
    """Returns the node as an operator reads it: sizes and constants as values."""
    keep = set(data_inputs(node))

    def value(argument: fx.Node) -> Any:
        return argument if argument in keep else values[argument]

    module = module_of(graph, node)
    return Call(
        node=node,
        module=module.layer if isinstance(module, QuantizedLayer) else module,
        args=tuple(fx.node.map_arg(node.args, value)),
        kwargs=dict(fx.node.map_arg(node.kwargs, value)),
        input_shapes=tuple(tuple(values[n].shape[1:]) for n in data_inputs(node)),
        output_shape=tuple(values[node].shape[1:]),
        source=source_line(node),
        batch=len(values[node]) if values[node].dim() else 0,
    )


def record(graph: MaseGraph, inputs: Mapping[str, torch.Tensor]) -> dict[str, Floats]:
    """Returns the value of every tensor node, [N, *shape] float64, by node name."""
    recorder = _Recorder(graph.model)
    with evaluating(graph.model):
        recorder.run(*(inputs[name] for name in graph.placeholders))
    return {
        node.name: value.detach().double().numpy()
        for node, value in recorder.env.items()
        if isinstance(value, torch.Tensor)
    }


def spellings_of(graph: MaseGraph, node: fx.Node) -> set[str]:
    """Returns the names under which a configuration may mean the node's type, in lower case."""
    common, module = common_of(node), module_of(graph, node)
    if not common.carries_data or common.operator == "input":
        return set()
    if isinstance(module, QuantizedResult):
        return {common.operator, module.layer.spelling}
    if isinstance(module, QuantizedLayer):
        module = module.layer
    spelling = type(module).__name__ if module is not None else node.target
    name = spelling if isinstance(spelling, str) else getattr(spelling, "__name__", "")
    return {common.operator, name.lower()}


def module_of(graph: MaseGraph, node: fx.Node) -> nn.Module | None:
    """Returns the module that a call_module node calls, else None."""
    return graph.model.get_submodule(str(node.target)) if node.op == "call_module" else None


def data_inputs(node: fx.Node) -> list[fx.Node]:
    """Returns the arguments of a node that are tensors which depend on the graph's inputs."""
    arguments = pytree.tree_leaves((node.args, node.kwargs))
    return [n for n in arguments if isinstance(n, fx.Node) and common_of(n).carries_data]


def site_of(node: fx.Node) -> Site[Any]:
    """Returns the node's use of its operator, in integers."""
    common = common_of(node)
    return Site(
        node.name,
        common.attributes,
        common.inputs,
        common.parameters,
        Rounding.HALF_UP,
        common.output,
        common.output,
    )


def run_in_integers(graph: MaseGraph, inputs: Mapping[str, Floats]) -> dict[str, Ints]:
    """Returns the integers of every node in fixed point, [N, *shape], by node name.

    `inputs` are real values [N, *shape] by placeholder name. This is the reference that PyTorch,
    RTL and reports are held to. Raises UnsupportedOpError at a node left in floating point.
    """
    floats: dict[fx.Node, Floats] = {}
    integers: dict[fx.Node, Ints] = {}
    for node in graph.fx_graph.nodes:
        common = common_of(node)
        if common.operator == "input":
            floats[node] = inputs[str(node.target)]
        elif common.carries_data:
            op, sources = operator(common.operator), data_inputs(node)
            if all(t.exact for t in common.inputs):
                if not common.output.exact:
                    raise UnsupportedOpError(in_float(node))
                integers[node] = op.evaluate(site_of(node), [integers[n] for n in sources])
            elif common.output.exact and len(sources) == 1:
                integers[node] = op.enter(common.attributes, floats[sources[0]])
            elif op.is_layout:
                floats[node] = op.evaluate(site_of(node), [floats[sources[0]]])  # type: ignore[list-item, assignment]
            else:
                raise UnsupportedOpError(in_float(node))
    return {node.name: values for node, values in integers.items()}


def in_float(node: fx.Node) -> str:
    """Returns the message for a node that has no integer meaning, and what to do about it."""
    common = common_of(node)
    if common.blocked:
        return f"node '{node.name}': operator '{common.operator}': {common.blocked}"
    return (
        f"node '{node.name}': operator '{common.operator}' is in floating point; "
        'give it, and every tensor that it reads, a number format in quantize (name = "integer")'
    )


def _parameters(
    op: Op[Any], call: Call, module: nn.Module | None
) -> tuple[dict[str, Parameter] | None, str]:
    """Returns the constants as integers; None where one has none, and why if a format is why."""
    layer = op.layer(call)
    names = [name for name in ("weight", "bias") if getattr(layer, name, None) is not None]
    if layer is None or not names:
        return {}, ""
    formats = module.formats if isinstance(module, QuantizedLayer) else {}
    found = {}
    for name in names:
        if name not in formats:
            return None, ""
        blocked = _without_hardware(name, [formats[name]])
        if blocked or not isinstance(module, QuantizedLayer):
            return None, blocked
        values = getattr(layer, name).detach().double().numpy()
        rounding = module.quantizer(name).rounding
        try:
            integers = formats[name].integers(values, rounding)
        except FormatError as error:
            if not np.isfinite(values).all():
                raise
            return None, f"its {name}: {error}"
        found[name] = Parameter(integers, formats[name])
    return found, ""


def _without_hardware(tensor: str, formats: Sequence[Format | None]) -> str:
    """Returns the refusal of the first format that has no hardware in this place ("": none)."""
    role = tensor if tensor in ("weight", "bias") else "data"
    for format in formats:
        if format is not None and role not in format.hardware:
            others = ", ".join(hardware_formats(role))
            return (
                f"its {tensor} is in the format '{format.kind}' ({format}), which has no hardware; "
                f"use one of {others}"
            )
        if format is not None and role == "data" and format.carrier is None:
            return (
                f"its {tensor} is in {format}, whose levels need integers of more than {MAX_BITS} "
                "bits; use fewer bits of exponent"
            )
    return ""


def _refuse_aliasing(call: Call, root: nn.Module) -> None:
    """An in-place operation changes what other readers of its input see."""
    if is_in_place(call.node, call.module) and later_readers(call.node, root):
        raise call.refuse(
            f"'{call.spelling}' works in place on a tensor that is read elsewhere",
            "use the form that returns a new tensor",
        )


def _batch_size(graph: MaseGraph, inputs: Mapping[str, torch.Tensor]) -> int:
    names = graph.placeholders
    for name in names:
        if name not in inputs:
            raise ShapeError(
                f"input '{name}' is missing; give one batch for each of: {', '.join(names)}"
            )
    for name, x in inputs.items():
        if name not in names:
            raise ShapeError(f"there is no input '{name}'; the inputs are: {', '.join(names)}")
        if x.dim() == 0 or len(x) == 0:
            raise ShapeError(
                f"input '{name}' must have a batch dimension first, got shape {tuple(x.shape)}"
            )
    sizes = {len(x) for x in inputs.values()}
    if len(sizes) != 1:
        raise ShapeError(f"the inputs have different batch sizes {sorted(sizes)}; make them equal")
    return sizes.pop()
