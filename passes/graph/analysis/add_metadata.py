"""add_common_metadata and add_software_metadata."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from chop.errors import ConfigError
from chop.integer.modules import IntegerModule
from chop.ir.graph import MaseGraph
from chop.ir.meta import CommonMeta, SoftwareMeta, common_of, meta_of, update
from chop.ops.annotate import Annotator, module_of
from chop.ops.registry import operator
from chop.passes.contract import NoArguments, PassArguments, analysis_pass

__all__ = [
    "add_common_metadata_analysis_pass",
    "add_software_metadata_analysis_pass",
    "software_meta",
]

_FLOAT_BITS = 32


class CommonArguments(PassArguments):
    """`dummy_in`: one batch of example values by input name."""

    dummy_in: Mapping[str, Any]


@analysis_pass("add_common_metadata", CommonArguments, ("init_metadata",))
def add_common_metadata_analysis_pass(graph: MaseGraph, arguments: CommonArguments) -> MaseGraph:
    """Adds each node's operator, attributes, shapes and number formats.

    Raises ShapeError for a missing or misshapen input, UnsupportedOpError for a node that is not an
    operator of chop.
    """
    inputs: dict[str, torch.Tensor] = {}
    for name, value in arguments.dummy_in.items():
        if not isinstance(value, torch.Tensor):
            raise ConfigError(
                f"dummy_in: input '{name}' must be a torch.Tensor, got {type(value).__name__}"
            )
        inputs[name] = value.detach()
    annotator = Annotator(graph, inputs)
    for node in graph.fx_graph.nodes:
        annotator.annotate(node)
    graph.example_inputs = inputs
    return graph


@analysis_pass("add_software_metadata", NoArguments, ("add_common_metadata",))
def add_software_metadata_analysis_pass(graph: MaseGraph, arguments: NoArguments) -> MaseGraph:
    """Adds each node's parameters, multiplications and bit operations per sample.

    Bit operations: multiplications times the widths of both operands (32 for floating point).
    """
    for node in graph.fx_graph.nodes:
        update(node, software=software_meta(graph, node))
    return graph


def software_meta(graph: MaseGraph, node: fx.Node) -> SoftwareMeta:
    """Returns what the node costs in software terms; statistics that it has are kept."""
    common, old = common_of(node), meta_of(node).software
    parameters, macs = 0, 0
    if common.carries_data and common.operator != "input":
        parameters = _parameters(graph, node)
        macs = operator(common.operator).macs(common.attributes, common.output)
    statistics = old.statistics if old is not None else {}
    return SoftwareMeta(parameters, macs, macs * _bits(common), statistics)


def _parameters(graph: MaseGraph, node: fx.Node) -> int:
    """Counts those of the module called, or those that a function is given."""
    module = module_of(graph, node)
    if isinstance(module, IntegerModule):
        return sum(p.values.size for p in common_of(node).parameters.values())
    if module is not None:
        return sum(p.numel() for p in module.parameters())
    found: dict[str, int] = {}
    waiting = list(node.all_input_nodes)
    while waiting:
        source = waiting.pop()
        if common_of(source).operator == "constant":
            waiting += source.all_input_nodes
            if source.op == "get_attr":
                owner, _, name = str(source.target).rpartition(".")
                found[str(source.target)] = getattr(graph.model.get_submodule(owner), name).numel()
    return sum(found.values())


def _bits(common: CommonMeta) -> int:
    weight = common.parameters.get("weight")
    formats = [t.format for t in common.inputs[:1]] + [weight.format if weight else None]
    product = 1.0
    for format in formats:
        product *= format.bits if format is not None else _FLOAT_BITS
    # A block's shared bits are a fraction per element.
    return math.ceil(product)
