"""What the passes that factor layers share: who is chosen, and how a node becomes several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

import torch
from pydantic import ConfigDict, Field
from torch import fx, nn

from chop.config.parse import parse_section
from chop.errors import ConfigError, PassOrderError
from chop.ir.graph import MaseGraph
from chop.ir.meta import KEY, NodeMeta, common_of
from chop.nn.layers import QuantizedLayer
from chop.ops.annotate import Annotator, data_inputs, module_of
from chop.ops.factoring import Factoring
from chop.ops.registry import operator
from chop.passes.contract import PassArguments
from chop.passes.selection import check_leaves, parse_selector

__all__ = ["FactorArguments", "chosen_layers", "factoring_of", "in_a_row", "relative_error"]

_LEAVES = {"type": "type", "name": "name", "regex_name": "regex"}
C = TypeVar("C", bound=PassArguments)


class FactorArguments(PassArguments):
    """The arguments that have a fixed name; every other key is an entry.

    `default` is for the layers without an entry; without it they stay as they are.
    """

    model_config = ConfigDict(frozen=True, extra="allow", arbitrary_types_allowed=True)

    by: Literal["type", "name", "regex_name"] = "type"
    default: Mapping[str, Any] = Field(default_factory=dict)

    @property
    def entries(self) -> Mapping[str, Any]:
        return self.__pydantic_extra__ or {}


def chosen_layers(
    graph: MaseGraph, arguments: FactorArguments, kind: type[C], who: str
) -> list[tuple[fx.Node, C]]:
    """Returns the nodes that an entry, or the default, is for, with its parsed `config`.

    Raises ConfigError for an unknown key, or an entry that selects no node.
    """
    parsed = []
    for key, table in arguments.entries.items():
        selector = parse_selector({_LEAVES[arguments.by]: key}, who)
        check_leaves(graph, selector, who)
        parsed.append((selector, _config(key, table, kind, who)))
    default = _config("default", arguments.default, kind, who) if arguments.default else None
    found = []
    for node in graph.fx_graph.nodes:
        common = common_of(node)
        if not common.carries_data or common.operator == "input":
            continue
        own = next((config for s, config in parsed if s.matches(graph, node)), default)
        if own is not None:
            found.append((node, own))
    return found


def _config(key: str, entry: Any, kind: type[C], who: str) -> C:
    if not isinstance(entry, Mapping) or set(entry) - {"config"}:
        raise ConfigError(f"{who}: entry '{key}' must be a table with the one key 'config'")
    return parse_section(kind, entry.get("config", {}), f"{who}: '{key}.config'")


def factoring_of(graph: MaseGraph, annotator: Annotator, node: fx.Node) -> Factoring | None:
    """Returns what can be factored of a node's layer. Raises PassOrderError once quantised."""
    module = module_of(graph, node)
    if isinstance(module, QuantizedLayer) and module.formats:
        raise PassOrderError(f"node '{node.name}' is quantised already; factor it before")
    op = operator(common_of(node).operator)
    layer = op.layer(annotator.call(node))
    return None if layer is None else op.factoring(layer)


def in_a_row(graph: MaseGraph, node: fx.Node, layers: Sequence[nn.Module]) -> list[fx.Node]:
    """Puts layers, one behind the other, in a node's place, and returns their nodes.

    The last one keeps the node's name.
    """
    (source,) = data_inputs(node)
    alone = node.op == "call_module" and graph.readers(str(node.target)) == 1
    last = str(node.target) if alone else graph.free_name(f"{node.name}_factored")
    made = []
    for number, layer in enumerate(layers[:-1]):
        target = graph.free_name(f"{node.name}_factor{number + 1}")
        graph.model.add_submodule(target, layer)
        with graph.fx_graph.inserting_before(node):
            source = graph.fx_graph.create_node("call_module", target, (source,), name=target)
        source.stack_trace = node.stack_trace
        source.meta[KEY] = NodeMeta()
        made.append(source)
    graph.model.add_submodule(last, layers[-1])
    node.op, node.target, node.args, node.kwargs = "call_module", last, (source,), {}
    return [*made, node]


def relative_error(given: torch.Tensor, wanted: torch.Tensor) -> float:
    """Returns the Frobenius norm of the difference over that of what was wanted."""
    size = float(torch.linalg.vector_norm(wanted))
    return float(torch.linalg.vector_norm(given - wanted)) / size if size else 0.0
