"""The dataflow that becomes hardware: units, and the streams between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import fx
from torch.utils import _pytree as pytree

from chop.errors import ShapeError, UnsupportedOpError
from chop.ir.graph import MaseGraph
from chop.ir.meta import Folding, common_of, hardware_of
from chop.ir.tensor_type import TensorType, same_order
from chop.ops.annotate import data_inputs, in_float, site_of
from chop.ops.base import Op, Site, Stage
from chop.ops.cast import CastAttributes, is_shift
from chop.ops.moving import Move
from chop.ops.registry import operator

__all__ = ["Dataflow", "Unit", "dataflow_of", "foldings_of", "output_names"]


@dataclass(frozen=True, slots=True)
class Unit:
    """One instance of an operator's hardware.

    `owner` is the node of the graph that it computes, alone or as one of several stages: the last
    of them has the node's name. `node` names it and its site, `path` is that of the module it calls
    ("": none); `result` is the node whose tensor its stream carries (the cast that it absorbed, or
    itself); `sources` are the stream names that it reads. A cast's unit reads what a needless
    operator before it would.
    """

    node: str
    owner: str
    path: str
    result: str
    op: Op[Any]
    site: Site[Any]
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dataflow:
    """Streams are named by the unit or input that makes them.

    `inputs` maps each input to the type of its stream and `casts` to the node whose integers that
    stream carries, `outputs` maps each output's name to the stream that it shows, `results` to the
    node whose tensor it is, `hosts` every node to the unit or input that does its work.
    """

    inputs: Mapping[str, TensorType]
    casts: Mapping[str, str]
    units: tuple[Unit, ...]
    outputs: Mapping[str, str]
    results: Mapping[str, fx.Node]
    hosts: Mapping[str, str]

    def unit(self, name: str) -> Unit:
        """Returns the unit of that name."""
        return next(unit for unit in self.units if unit.node == name)

    def stream_type(self, stream: str) -> TensorType:
        """Returns the type that a stream carries."""
        return self.inputs[stream] if stream in self.inputs else self.unit(stream).site.output

    def readers(self, stream: str) -> int:
        """Returns how many units and outputs read a stream."""
        inner = sum(unit.sources.count(stream) for unit in self.units)
        return inner + list(self.outputs.values()).count(stream)


def dataflow_of(graph: MaseGraph) -> Dataflow:
    """Returns the hardware of a quantised graph.

    Raises UnsupportedOpError for a node in floating point, ShapeError for an input without readers.
    """
    hosts: dict[fx.Node, str] = {}
    inputs: dict[str, TensorType] = {}
    casts: dict[str, str] = {}
    units: list[Unit] = []
    # What a cast makes needless, by the cast.
    needless: dict[fx.Node, fx.Node] = {}
    for node in graph.fx_graph.nodes:
        common = common_of(node)
        if not common.carries_data:
            continue
        if common.operator == "input":
            hosts[node] = node.name
            continue
        sources = data_inputs(node)
        if node in hosts:
            continue
        _check_coded(node)
        if not all(t.exact for t in common.inputs):
            hosts[node] = hosts[sources[0]]
            if _on_host(node, inputs, hosts[node]):
                casts.setdefault(hosts[node], node.name)
        elif not common.output.exact:
            raise UnsupportedOpError(in_float(node))
        elif operator(common.operator).is_wired(site_of(node)):
            hosts[node] = hosts[sources[0]]
        elif (cast := _absorber(node)) is not None:
            hosts[node], needless[cast] = cast.name, node
        else:
            before = needless.get(node)
            sources = sources if before is None else data_inputs(before)
            made = _units(graph, node, before, tuple(hosts[n] for n in sources))
            units += made
            hosts[node] = node.name
            if made[-1].result != node.name:
                hosts[next(iter(node.users))] = node.name
    results = _outputs(graph)
    outputs = {name: hosts[node] for name, node in results.items()}
    _check_inputs(graph, inputs)
    by_name = {node.name: host for node, host in hosts.items()}
    return Dataflow(inputs, casts, tuple(units), outputs, results, by_name)


def output_names(graph: MaseGraph) -> tuple[str, ...]:
    """Returns the names of the outputs: y, or y0, y1, ... in the order of the forward's result."""
    count = len(_results(graph))
    names = ["y"] if count == 1 else [f"y{i}" for i in range(count)]
    taken = {node.name for node in graph.fx_graph.nodes}
    return tuple(f"{name}_out" if name in taken else name for name in names)


def _check_coded(node: fx.Node) -> None:
    """Blocks lie along the last axis, and few operators can do with mantissas and exponents."""
    common = common_of(node)
    op = operator(common.operator)
    for type in common.inputs:
        if not type.coded:
            continue
        if op.is_layout and (type.shape[-1:] != common.output.shape[-1:] or type.layout):
            raise UnsupportedOpError(
                f"node '{node.name}': operator '{op.name}' changes the last axis of a tensor in "
                f"{type.format}, whose blocks lie along it; cast it after '{op.name}'"
            )
        if not op.is_layout and not op.reads_coded:
            raise UnsupportedOpError(
                f"node '{node.name}': operator '{op.name}' has no hardware for data in "
                f"{type.format}; give it another format"
            )


def foldings_of(graph: MaseGraph, dataflow: Dataflow) -> dict[str, Folding]:
    """Returns the folding of every unit as the graph's hardware metadata have it."""
    found = {}
    for node in graph.fx_graph.nodes:
        units = [unit for unit in dataflow.units if unit.owner == node.name]
        if units:
            meta = hardware_of(node)
            for unit, stage in zip(units, (*meta.stages, meta), strict=True):
                found[unit.node] = stage.folding
    return found


def _units(
    graph: MaseGraph, node: fx.Node, needless: fx.Node | None, sources: tuple[str, ...]
) -> list[Unit]:
    """Returns the units of a node, with the cast behind it or the needless operator before it."""
    common, site = common_of(node), site_of(node)
    if needless is not None:
        site = replace(site, inputs=common_of(needless).inputs)
    op = operator(common.operator)
    found = []
    reorder, site = _reordered(op, site)
    for number, stage in reorder.items():
        name = _free(graph, stage.site.name)
        own = replace(stage.site, name=name)
        found.append(Unit(name, node.name, "", name, stage.op, own, (sources[number],)))
        sources = (*sources[:number], name, *sources[number + 1 :])
    *before, last = op.stages(site)
    path = str(node.target) if node.op == "call_module" else ""
    for stage in before:
        name = _free(graph, stage.site.name)
        own = replace(stage.site, name=name)
        found.append(Unit(name, node.name, "", name, stage.op, own, sources))
        sources = (name,)
    result, site, cast = node.name, last.site, _cast_behind(node)
    if last.op.absorbs_cast and cast is not None and is_shift(site_of(cast)):
        site = replace(
            site, rounding=_cast_attributes(cast).rounding, output=common_of(cast).output
        )
        result = cast.name
    found.append(Unit(node.name, node.name, path, result, last.op, site, sources))
    return found


def _reordered(op: Op[Any], site: Site[Any]) -> tuple[dict[int, Stage[Any]], Site[Any]]:
    """Returns the units that bring inputs into the order that is read, by input; the site then.

    Layouts follow the readers' wishes, so this is for a tensor with two kinds of readers, and for
    tensors of two orders that are joined.
    """
    found: dict[int, Stage[Any]] = {}
    inputs = list(site.inputs)
    wanted = op.stream_layouts(site)
    for number, (x, layout) in enumerate(zip(site.inputs, wanted, strict=True)):
        if not same_order(x.layout, layout):
            name = f"{site.name}_reorder{number if len(wanted) > 1 else ''}"
            inputs[number] = y = replace(x, layout=layout)
            own: Site[Move] = Site(name, Move(()), (x,), {}, site.rounding, y, y)
            found[number] = Stage(operator("permute"), own)
    return found, replace(site, inputs=tuple(inputs))


def _free(graph: MaseGraph, name: str) -> str:
    """Returns a name that no node of the graph has."""
    taken = {node.name for node in graph.fx_graph.nodes}
    while name in taken:
        name += "_"
    return name


def _cast_behind(node: fx.Node) -> fx.Node | None:
    """Returns the node's only reader, if that is a cast."""
    users = list(node.users)
    alone = len(users) == 1 and isinstance(common_of(users[0]).attributes, CastAttributes)
    return users[0] if alone else None


def _cast_attributes(cast: fx.Node) -> CastAttributes:
    attributes = common_of(cast).attributes
    assert isinstance(attributes, CastAttributes), "_cast_behind found a cast"
    return attributes


def _absorber(node: fx.Node) -> fx.Node | None:
    """Returns the cast behind a node that makes it needless and is hardware of its own."""
    cast, op = _cast_behind(node), operator(common_of(node).operator)
    if cast is None or (op.absorbs_cast and is_shift(site_of(cast))):
        return None
    return cast if op.absorbed_by(site_of(node), _cast_attributes(cast).format) else None


def _on_host(node: fx.Node, inputs: dict[str, TensorType], name: str) -> bool:
    """The first cast of an input, and reshapes before it, happen before the data are streamed.

    Returns whether the node is that cast.
    """
    common = common_of(node)
    if common.output.exact and len(common.inputs) == 1:
        if name in inputs and inputs[name].format != common.output.format:
            raise UnsupportedOpError(
                f"node '{node.name}': input '{name}' is cast to {common.output.format} here and to "
                f"{inputs[name].format} elsewhere; cast it once, then cast the result"
            )
        inputs[name] = common.output
        return True
    if not operator(common.operator).is_layout:
        raise UnsupportedOpError(in_float(node))
    return False


def _results(graph: MaseGraph) -> list[fx.Node]:
    (output,) = (n for n in graph.fx_graph.nodes if n.op == "output")
    return [n for n in pytree.tree_leaves(output.args[0]) if isinstance(n, fx.Node)]


def _outputs(graph: MaseGraph) -> dict[str, fx.Node]:
    found = {}
    for name, node in zip(output_names(graph), _results(graph), strict=True):
        common = common_of(node)
        if not common.carries_data:
            raise UnsupportedOpError(
                f"output '{name}' (node '{node.name}') does not depend on the inputs; remove it"
            )
        if not common.output.exact:
            raise UnsupportedOpError(in_float(node))
        if common.output.coded:
            raise UnsupportedOpError(
                f"output '{name}' (node '{node.name}') is in {common.output.format}, whose "
                "elements share exponents; cast it to fixed point first"
            )
        found[name] = node
    return found


def _check_inputs(graph: MaseGraph, inputs: Mapping[str, TensorType]) -> None:
    for node in graph.fx_graph.nodes:
        if node.op == "placeholder" and node.name not in inputs:
            raise ShapeError(
                f"input '{node.name}' is not read in fixed point; remove it or quantise its readers"
            )
