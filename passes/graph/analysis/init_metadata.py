"""init_metadata: empty metadata on every node."""

from __future__ import annotations

from chop.ir.graph import MaseGraph
from chop.ir.meta import KEY, NodeMeta
from chop.passes.contract import NoArguments, analysis_pass

__all__ = ["init_metadata_analysis_pass"]


@analysis_pass("init_metadata", NoArguments)
def init_metadata_analysis_pass(graph: MaseGraph, arguments: NoArguments) -> MaseGraph:
    """Gives every node empty metadata; nodes that have metadata keep theirs."""
    for node in graph.fx_graph.nodes:
        node.meta.setdefault(KEY, NodeMeta())
    return graph
