"""What streams carry: a tensor's integers, or the codes of its format, in stream order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from chop.formats.rounding import Ints
from chop.ir.graph import MaseGraph
from chop.ir.manifest import StreamEntry
from chop.ir.meta import common_of
from chop.ir.stream import stream_order

__all__ = ["stream_words"]


def stream_words(
    graph: MaseGraph, streams: Iterable[StreamEntry], integers: Mapping[str, Ints]
) -> dict[str, Ints]:
    """Returns the words [N, elements] of every stream by its name, from integers by node name."""
    types = {node.name: common_of(node).output for node in graph.fx_graph.nodes}
    words = {}
    for stream in streams:
        format, values = types[stream.node].format, integers[stream.node]
        words[stream.name] = stream_order(
            values if format is None else format.encode(values), stream.layout
        )
    return words
