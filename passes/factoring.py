"""What the passes that factor layers share: who is chosen, and how a node becomes several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

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

__all__ = ["factor_layers", "relative_error"]

C = TypeVar("C", bound=PassArguments)
Row = Mapping[str, Any]
# A layer becomes three at the most.
_MOST_FACTORS = 3


def factor_layers(
    graph: MaseGraph,
    arguments: EntryArguments,
    name: str,
    kind: type[C],
    factor: Callable[[str, Factoring, C], tuple[Row, Sequence[nn.Module]] | None],
) -> None:
    """Puts several layers in the place of each chosen one, as `factor` says.

    `factor` gets a node's name, what can be factored of its layer and its config, and returns what
    `info[name]` is to say of it (`node` its name, `rank` 0: it stays) and the layers, or None where
    there is nothing to factor. What an earlier run factored, and its factors, stay as they are.
    Raises ConfigError as entries do, PassOrderError where a chosen layer is quantised.
    """
    chosen = _chosen_layers(graph, arguments, kind, f"pass '{name}'")
    annotator = Annotator(graph, graph.example_inputs)
    rows: dict[str, Row] = {row["node"]: row for row in graph.info.get(name, ())}
    parts = ("", *(f"_factor{number}" for number in range(1, _MOST_FACTORS)))
    done = {node + part for node, row in rows.items() if row["rank"] for part in parts}
    for node, config in chosen:
        found = None if node.name in done else _factoring_of(graph, annotator, node)
        made = None if found is None else factor(node.name, found, config)
        if made is not None:
            rows[node.name], layers = made
            if layers:
                _in_a_row(graph, node, layers)
    graph.model.delete_all_unused_submodules()
    graph.model.recompile()
    graph.info[name] = list(rows.values())


def _chosen_layers(
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


def _factoring_of(graph: MaseGraph, annotator: Annotator, node: fx.Node) -> Factoring | None:
    """Returns what can be factored of a node's layer. Raises PassOrderError once quantised."""
    module = module_of(graph, node)
    if isinstance(module, QuantizedLayer) and module.formats:
        raise PassOrderError(f"node '{node.name}' is quantised already; factor it before")
    op = operator(common_of(node).operator)
    layer = op.layer(annotator.call(node))
    return None if layer is None else op.factoring(layer)


def _in_a_row(graph: MaseGraph, node: fx.Node, layers: Sequence[nn.Module]) -> None:
    """Puts layers, one behind the other, in a node's place; the last one keeps its name."""
    (source,) = data_inputs(node)
    alone = node.op == "call_module" and graph.readers(str(node.target)) == 1
    last = str(node.target) if alone else graph.free_name(f"{node.name}_factored")
    for number, layer in enumerate(layers[:-1]):
        target = graph.free_name(f"{node.name}_factor{number + 1}")
        graph.model.add_submodule(target, layer)
        with graph.fx_graph.inserting_before(node):
            source = graph.fx_graph.create_node("call_module", target, (source,), name=target)
        source.stack_trace = node.stack_trace
        source.meta[KEY] = NodeMeta()
    graph.model.add_submodule(last, layers[-1])
    node.op, node.target, node.args, node.kwargs = "call_module", last, (source,), {}


def relative_error(given: torch.Tensor, wanted: torch.Tensor) -> float:
    """Returns the Frobenius norm of the difference over that of what was wanted."""
    size = float(torch.linalg.vector_norm(wanted))
    return float(torch.linalg.vector_norm(given - wanted)) / size if size else 0.0
