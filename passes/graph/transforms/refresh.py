"""Metadata after a graph was rewritten."""

from __future__ import annotations

from chop.ir.graph import MaseGraph
from chop.ir.meta import KEY, NodeMeta, update
from chop.ops.annotate import Annotator
from chop.passes.contract import NoArguments, transform_pass
from chop.passes.graph.analysis.add_metadata import software_meta

__all__ = ["refresh_metadata", "refresh_metadata_transform_pass"]


def refresh_metadata(graph: MaseGraph) -> None:
    """Brings every node's metadata up to date, and drops what only its own pass can find out.

    Common metadata is inferred anew; software metadata is counted anew where its pass has run,
    without the statistics of the graph before; hardware metadata is dropped.
    """
    annotator = Annotator(graph, graph.example_inputs)
    counts = "add_software_metadata" in graph.history
    for node in graph.fx_graph.nodes:
        node.meta[KEY] = NodeMeta()
        annotator.annotate(node)
    for node in graph.fx_graph.nodes if counts else ():
        update(node, software=software_meta(graph, node))


@transform_pass("refresh_metadata", NoArguments, ("add_common_metadata",))
def refresh_metadata_transform_pass(graph: MaseGraph, arguments: NoArguments) -> MaseGraph:
    """Returns the graph with metadata as its modules are now: after a training, above all."""
    refresh_metadata(graph)
    return graph
