"""What the passes that factor layers share: who is chosen, and how a node becomes several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import fx, nn

from chop.errors import PassOrderError
from chop.ir.graph import MaseGraph
from chop.ir.meta import KEY, NodeMeta, common_of
from chop.nn.layers import QuantizedLayer
from chop.ops.annotate import Annotator, data_inputs, module_of
from chop.ops.factoring import Factoring
from chop.ops.registry import operator
from chop.passes.contract import PassArguments
from chop.passes.entries import EntryArguments, read_entries

__all__ = ["chosen_layers", "factoring_of", "in_a_row", "relative_error"]

C = TypeVar("C", bound=PassArguments)


def chosen_layers(
    graph: MaseGraph, arguments: EntryArguments, kind: type[C], who: str
) -> list[tuple[fx.Node, C]]:
    """Returns the nodes that an entry, or the default, is for, with its parsed `config`.

    Raises ConfigError for an unknown key, or an entry that selects no node.
    """
    entries = read_entries(graph, arguments, kind, who)
    found = []
    for node in graph.fx_graph.nodes:
        common = common_of(node)
        if not common.carries_data or common.operator == "input":
            continue
        entry = entries.find(graph, node)
        own = entries.default if entry is None else entry.config
        if own is not None:
            found.append((node, own))
    return found


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
