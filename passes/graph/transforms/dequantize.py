"""The way back from a quantised graph to the float graph that it was made from."""

from __future__ import annotations

from torch import fx, nn

from chop.ir.graph import MaseGraph
from chop.ir.meta import KEY, NodeMeta
from chop.nn.fake_quantize import Cast
from chop.nn.layers import QuantizedLayer
from chop.nn.result import QuantizedResult
from chop.nn.rewritten import restore_constants
from chop.ops.annotate import Annotator, module_of

__all__ = ["take_back_formats"]


def take_back_formats(graph: MaseGraph) -> None:
    """Removes inserted casts and the formats of parameters, in place; the model's own casts stay.

    Nodes get the names again that they had; a graph that was never quantised is left as it is.
    """
    inserted, quantised = [], []
    for node in graph.fx_graph.nodes:
        module = module_of(graph, node)
        if isinstance(module, Cast) and module.inserted:
            inserted.append(node)
        elif isinstance(module, QuantizedLayer) or _has_inserted_format(module):
            quantised.append(node)
    if not inserted and not quantised:
        return
    for node in inserted:
        node.replace_all_uses_with(node.all_input_nodes[0])
        graph.fx_graph.erase_node(node)
    modules = {node: module_of(graph, node) for node in quantised}
    for node, module in modules.items():
        if isinstance(module, QuantizedResult) and module.layer.float_target is not None:
            node.op, node.target = "call_function", module.layer.float_target
            node.kwargs = dict(module.layer.float_options)
        elif module is not None:
            graph.model.add_submodule(str(node.target), _in_float(module))
    graph.model.delete_all_unused_submodules()
    _renew(graph)
    annotator = Annotator(graph, graph.example_inputs)
    for node in graph.fx_graph.nodes:
        node.meta[KEY] = NodeMeta()
        annotator.annotate(node)


def _has_inserted_format(module: nn.Module | None) -> bool:
    return isinstance(module, QuantizedResult) and module.inserted


def _in_float(module: nn.Module) -> nn.Module:
    """Returns the module without its formats; one that several nodes call is made anew for each."""
    if isinstance(module, QuantizedResult):
        return QuantizedResult(module.layer)
    assert isinstance(module, QuantizedLayer)
    restore_constants(module)
    # The float layer keeps its wrapper: it need not be a module that torch knows.
    return QuantizedLayer(module.operator, module.layer, {}, module.rounding)


def _renew(graph: MaseGraph) -> None:
    """Copies the fx graph: one that a node was erased from would not give its name again."""
    fresh = fx.Graph(owning_module=graph.model)
    copies: dict[fx.Node, fx.Node] = {}
    for node in graph.fx_graph.nodes:
        copies[node] = fresh.node_copy(node, lambda n: copies[n])
    graph.model.graph = fresh
