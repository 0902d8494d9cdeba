"""compare_fake_true: where the fake-quantised network and its integers differ, node by node."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import fx

from chop.formats.rounding import Floats, Ints
from chop.ir.graph import MaseGraph
from chop.ir.meta import common_of
from chop.ir.tensor_type import TensorType
from chop.ops.annotate import record, run_in_integers
from chop.passes.batches import batches_of
from chop.passes.contract import PassArguments, analysis_pass

__all__ = ["Difference", "NodeDifferences", "compare_fake_true", "compare_fake_true_analysis_pass"]

_WHO = "pass 'compare_fake_true'"


class CompareArguments(PassArguments):
    """`data`: tensors by input name, or a loader; the example inputs where it is not given.

    `samples` bounds how many samples are compared.
    """

    data: Any = None
    samples: int | None = Field(default=None, ge=1)


@dataclass(frozen=True, slots=True)
class Difference:
    """A floating-point run against the integers.

    `differing` values are nearest to another integer than the reference's. `steps` is the largest
    distance of a value from the reference, in steps of the node's integers.
    """

    differing: int = 0
    steps: float = 0.0

    def __add__(self, other: Difference) -> Difference:
        return Difference(self.differing + other.differing, max(self.steps, other.steps))


@dataclass(frozen=True, slots=True)
class NodeDifferences:
    """One node: its values compared, and both runs of the fake-quantised network."""

    node: str
    operator: str
    count: int
    float32: Difference
    float64: Difference


@analysis_pass("compare_fake_true", CompareArguments, ("add_common_metadata",))
def compare_fake_true_analysis_pass(graph: MaseGraph, arguments: CompareArguments) -> MaseGraph:
    """Runs the fake-quantised network in float32 and in float64 against the integer reference.

    `info["compare_fake_true"]` holds the rows of `compare_fake_true` as plain data, and the totals
    over all nodes. Raises UnsupportedOpError for a node in floating point, PassOrderError for a
    graph that holds integers only.
    """
    data = graph.example_inputs if arguments.data is None else arguments.data
    rows = compare_fake_true(graph, data, arguments.samples)
    totals = {
        dtype: asdict(sum((getattr(row, dtype) for row in rows), Difference()))
        for dtype in ("float32", "float64")
    }
    graph.info["compare_fake_true"] = {
        "nodes": [asdict(row) for row in rows],
        "count": sum(row.count for row in rows),
        **totals,
    }
    return graph


def compare_fake_true(
    graph: MaseGraph, data: object, samples: int | None = None
) -> tuple[NodeDifferences, ...]:
    """Returns the differences of every node in integers, in the order of the graph.

    `data` is a mapping of tensors by input name, or a loader. The graph is left as it is.
    """
    networks = {"float32": graph.copy(), "float64": graph.copy()}
    networks["float32"].model.float()
    networks["float64"].model.double()
    nodes = {node.name: node for node in graph.fx_graph.nodes if common_of(node).output.exact}
    counts = dict.fromkeys(nodes, 0)
    found = {dtype: dict.fromkeys(nodes, Difference()) for dtype in networks}
    for batch in batches_of(_WHO, graph.placeholders, data, samples):
        # Both runs get the same real numbers: those that float32 can hold.
        inputs = {name: x.float() for name, x in batch.items()}
        exact = run_in_integers(graph, {n: x.double().numpy() for n, x in inputs.items()})
        for dtype, network in networks.items():
            cast = {name: x.to(getattr(torch, dtype)) for name, x in inputs.items()}
            values = record(network, cast)
            for name in exact:
                found[dtype][name] += _difference(_type(nodes[name]), values[name], exact[name])
        for name, integers in exact.items():
            counts[name] += integers.size
    return tuple(
        NodeDifferences(
            name,
            common_of(node).operator,
            counts[name],
            found["float32"][name],
            found["float64"][name],
        )
        for name, node in nodes.items()
    )


def _type(node: fx.Node) -> TensorType:
    return common_of(node).output


def _difference(type: TensorType, values: Floats, integers: Ints) -> Difference:
    steps = np.ldexp(values, type.fixed.frac_width)
    if type.scale is not None:
        steps = steps / type.scale.floats()
    distance = np.abs(steps - integers)
    differing = np.rint(steps) != integers
    return Difference(int(np.count_nonzero(differing)), float(distance.max(initial=0.0)))
