"""What keeps a network from being integers throughout: every node, not only the first."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from chop.errors import ChopError, FormatError, ShapeError, UnsupportedOpError
from chop.formats.fixed import Fixed
from chop.formats.rounding import Rounding
from chop.ir.capture import source_line
from chop.ir.graph import MaseGraph
from chop.ir.meta import CommonMeta, common_of, update
from chop.ir.tensor_type import Parameter, TensorType
from chop.nn.layers import QuantizedLayer
from chop.ops.annotate import Annotator, data_inputs, in_float, module_of, site_of
from chop.ops.base import Site
from chop.ops.registry import operator

__all__ = ["Blocker", "Examination", "examine"]

# What a node without formats is tried with: enough fraction for any bound written in decimals.
_TRIAL_DATA, _TRIAL_CONSTANT, _TRIAL_BIAS = Fixed(24, 16), Fixed(8, 6), Fixed(16, 8)
_PREFIX = re.compile(r"^node '[^']*'( \([^)]*\))?: ")


@dataclass(frozen=True, slots=True)
class Blocker:
    """Why a node has no integers, and what to do about it; `source` is its line in the model."""

    node: str
    operator: str
    source: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        at = f" ({self.source})" if self.source else ""
        return f"node '{self.node}'{at}: {self.reason}; {self.remedy}"


@dataclass(frozen=True, slots=True)
class Examination:
    """What an examination found.

    `unformatted` are the nodes of a network without any number format, which were tried in formats
    of the examination's own. `fresh` is the common metadata inferred anew, by node name.
    """

    blockers: tuple[Blocker, ...]
    unformatted: tuple[str, ...]
    fresh: Mapping[str, CommonMeta]


def examine(graph: MaseGraph, inputs: Mapping[str, torch.Tensor]) -> Examination:
    """Tries every node by itself, after nodes that are blocked as well; the graph is left alone.

    A network in which no tensor has a number format is examined as if it had been quantised.
    Raises ShapeError for inputs on which the network does not run.
    """
    return _Examiner(graph.copy(), inputs).run()


class _Examiner:
    def __init__(self, graph: MaseGraph, inputs: Mapping[str, torch.Tensor]) -> None:
        self._graph = graph
        self._annotator = Annotator(graph, inputs)
        self._blockers: dict[fx.Node, Blocker] = {}
        self._unformatted: list[str] = []
        self._fresh: dict[str, CommonMeta] = {}
        self._any_format = _has_formats(graph)

    def run(self) -> Examination:
        for node in self._graph.fx_graph.nodes:
            try:
                self._annotator.annotate(node)
                self._fresh[node.name] = common_of(node)
                self._examine(node, common_of(node))
            except (UnsupportedOpError, FormatError, ShapeError) as error:
                self._block(node, error)
        for node, message in _at_ports(self._graph):
            self._block(node, UnsupportedOpError(message))
        nodes = self._graph.fx_graph.nodes
        found = tuple(self._blockers[node] for node in nodes if node in self._blockers)
        return Examination(found, tuple(self._unformatted), self._fresh)

    def _examine(self, node: fx.Node, common: CommonMeta) -> None:
        if common.operator == "input":
            if not self._any_format:
                self._assume(node)
            return
        if not common.carries_data:
            return
        op = operator(common.operator)
        if all(t.exact for t in common.inputs) and common.output.exact:
            op.program(site_of(node))
        elif not self._any_format and self._needs_format(node, common):
            # Any format will do for its result, and it will get one.
            self._unformatted.append(node.name)
            self._assume(node)
        elif common.blocked:
            raise UnsupportedOpError(in_float(node))
        elif common.output.exact or (op.is_layout and not all(t.exact for t in common.inputs)):
            # The first cast of an input, and what comes before it, is the host's.
            return
        elif self._any_format:
            raise UnsupportedOpError(in_float(node))
        else:
            self._unformatted.append(node.name)
            self._try(node, common)

    def _needs_format(self, node: fx.Node, common: CommonMeta) -> bool:
        call = self._annotator.call(node)
        return operator(common.operator).result_layer(call, common.inputs) is not None

    def _try(self, node: fx.Node, common: CommonMeta) -> None:
        """Examines a node in float as if its constants had formats."""
        op = operator(common.operator)
        call = self._annotator.call(node)
        if op.result_layer(call, common.inputs) is not None:
            # Its result will have a format of its own, which decides about its table.
            self._assume(node)
            return
        parameters = _trial_parameters(op.layer(call))
        required = op.input_format(call)
        if required is not None:
            inputs = tuple(TensorType.of(t.shape, required) for t in common.inputs)
            common = replace(common, inputs=inputs)
        shape = common.output
        site: Site[Any] = Site(
            node.name, common.attributes, common.inputs, parameters, Rounding.HALF_UP, shape, shape
        )
        output = replace(op.infer(site), scale=op.infer_scale(site))
        update(node, common=replace(common, output=output, parameters=parameters))
        op.program(site_of(node))

    def _block(self, node: fx.Node, error: ChopError) -> None:
        text = _PREFIX.sub("", str(error))
        reason, _, remedy = text.rpartition("; ")
        name = self._operator_name(node)
        source = source_line(node)
        self._blockers.setdefault(
            node,
            Blocker(node.name, name, source, reason or text, remedy if reason else "remove it"),
        )
        if node.op != "output":
            self._assume(node)

    def _operator_name(self, node: fx.Node) -> str:
        if node.name in self._fresh:
            return self._fresh[node.name].operator
        module = module_of(self._graph, node)
        if module is not None:
            return type(module).__name__
        return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")

    def _assume(self, node: fx.Node) -> None:
        """Lets the nodes after this one be examined as if it had integers."""
        value = self._annotator.values[node]
        if isinstance(value, torch.Tensor):
            trial = TensorType.of(tuple(value.shape[1:]), _TRIAL_DATA)
            update(node, common=CommonMeta("input", None, (), trial))
        else:
            update(node, common=CommonMeta("shape", None, (), TensorType(())))


def _has_formats(graph: MaseGraph) -> bool:
    for module in graph.model.modules():
        if isinstance(module, QuantizedLayer) and module.formats:
            return True
        if getattr(module, "format", None) is not None:
            return True
    return False


def _trial_parameters(layer: nn.Module | None) -> dict[str, Parameter]:
    found = {}
    for name, format in (("weight", _TRIAL_CONSTANT), ("bias", _TRIAL_BIAS)):
        values = getattr(layer, name, None)
        if values is not None:
            integers = format.integers(values.detach().double().numpy())
            found[name] = Parameter(integers, format)
    return found


def _at_ports(graph: MaseGraph) -> Iterator[tuple[fx.Node, str]]:
    """Yields what is wrong with the inputs and outputs of the whole."""
    casts: dict[fx.Node, tuple[fx.Node, object]] = {}
    origin: dict[fx.Node, fx.Node] = {}
    for node in graph.fx_graph.nodes:
        common = common_of(node)
        if common.operator == "input":
            if not common.output.exact:
                origin[node] = node
            continue
        if node.op == "output":
            yield from _at_outputs(node, origin)
        sources = data_inputs(node) if common.carries_data else []
        if not sources or sources[0] not in origin:
            continue
        if not common.output.exact:
            origin[node] = origin[sources[0]]
            continue
        port = origin[sources[0]]
        first, attributes = casts.setdefault(port, (node, common.attributes))
        if attributes != common.attributes:
            message = (
                f"input '{port.name}' is cast to {common.output.format} here and differently in "
                f"'{first.name}'; cast it once, then cast the result"
            )
            yield node, message
    for node in (n for n in graph.fx_graph.nodes if n.op == "placeholder" and not n.users):
        message = (
            f"input '{node.name}' is not read in fixed point; remove it or quantise its readers"
        )
        yield node, message


def _at_outputs(
    output: fx.Node, origin: Mapping[fx.Node, fx.Node]
) -> Iterator[tuple[fx.Node, str]]:
    for node in pytree.tree_leaves(output.args[0]):
        if not isinstance(node, fx.Node) or not common_of(node).carries_data:
            name = getattr(node, "name", node)
            yield output, f"output '{name}' does not depend on the inputs; remove it"
        elif node in origin:
            yield node, f"output '{node.name}' is in floating point; give it a number format"
