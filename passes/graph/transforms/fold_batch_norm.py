"""fold_batch_norm: batch normalisation disappears into a neighbouring layer where it can."""

from __future__ import annotations

import copy

import torch
from torch import fx, nn

from chop.ir.graph import MaseGraph
from chop.ir.meta import common_of
from chop.nn.layers import ChannelAffine
from chop.ops.annotate import Annotator, data_inputs, module_of
from chop.ops.registry import operator
from chop.passes.contract import NoArguments, transform_pass
from chop.passes.graph.transforms.refresh import refresh_metadata

__all__ = ["fold_batch_norm_transform_pass"]

_OPERATOR = "batch_norm"


@transform_pass("fold_batch_norm", NoArguments, ("add_common_metadata",))
def fold_batch_norm_transform_pass(graph: MaseGraph, arguments: NoArguments) -> MaseGraph:
    """Returns a graph whose batch norms are folded into the layer before, else into those after.

    With y = x g + h, g = gamma / sqrt(var + eps), h = beta - mu g: backwards W' = g W,
    b' = g b + h; forwards W' = W g, b' = b + W h. A batch norm between two activations stays, as a
    multiplication and an addition per channel. `info["fold_batch_norm"]` lists the fate of each.
    """
    annotator = Annotator(graph, graph.example_inputs)
    report = []
    for node in list(graph.fx_graph.nodes):
        if common_of(node).operator == _OPERATOR:
            report.append({"node": node.name, "folded_into": _fold(graph, annotator, node)})
    graph.model.delete_all_unused_submodules()
    graph.model.recompile()
    graph.info["fold_batch_norm"] = report
    if any(entry["folded_into"] for entry in report):
        refresh_metadata(graph)
    return graph


def _fold(graph: MaseGraph, annotator: Annotator, node: fx.Node) -> list[str]:
    layer = operator(_OPERATOR).layer(annotator.call(node))
    if not isinstance(layer, ChannelAffine) or layer.weight is None or layer.bias is None:
        return []
    scale = layer.weight.detach().double().reshape(-1)
    shift = layer.bias.detach().double().reshape(-1)
    (source,) = data_inputs(node)
    if len(source.users) == 1 and _absorb(graph, source, scale, shift, before=False):
        neighbours = [source]
    else:
        neighbours = _readers(graph, node, scale, shift)
    if neighbours:
        node.replace_all_uses_with(source)
        graph.fx_graph.erase_node(node)
    return [n.name for n in neighbours]


def _readers(
    graph: MaseGraph, node: fx.Node, scale: torch.Tensor, shift: torch.Tensor
) -> list[fx.Node]:
    """Folds into all readers, or into none."""
    readers = list(node.users)
    trial = [_absorb(graph, n, scale, shift, before=True, keep=False) for n in readers]
    if not readers or not all(trial):
        return []
    for reader in readers:
        _absorb(graph, reader, scale, shift, before=True)
    return readers


def _absorb(
    graph: MaseGraph,
    node: fx.Node,
    scale: torch.Tensor,
    shift: torch.Tensor,
    before: bool,
    keep: bool = True,
) -> bool:
    """Folds the batch norm into a copy of the node's layer, which takes its place if `keep`."""
    module = module_of(graph, node)
    if module is None or not common_of(node).carries_data:
        return False
    op = operator(common_of(node).operator)
    between = data_inputs(node)[0] if before else node
    # A batch norm's channels are a sample's first axis, a linear layer's the last one.
    if op.channel_axis % len(common_of(between).output.shape) != 0:
        return False
    layer: nn.Module = copy.deepcopy(module)
    done = op.fold_before(layer, scale, shift) if before else op.fold_after(layer, scale, shift)
    if done and keep:
        # A layer that is read elsewhere too keeps its other use as it was.
        alone = graph.readers(str(node.target)) == 1
        target = str(node.target) if alone else graph.free_name(f"{node.name}_folded")
        graph.model.add_submodule(target, layer)
        node.target = target
    return done
