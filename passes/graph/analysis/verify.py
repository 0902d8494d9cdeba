"""verify_metadata: what is written on the nodes is what the graph computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import numpy as np
from torch import fx

from chop.errors import PassOrderError, VerifyError
from chop.integer.modules import holds_integers
from chop.ir.graph import MaseGraph
from chop.ir.meta import CommonMeta, Folding, HardwareMeta, common_of, hardware_of, meta_of
from chop.ir.tensor_type import Parameter, TensorType
from chop.ops.annotate import Annotator, run_in_integers
from chop.ops.base import RomOptions
from chop.ops.registry import operator
from chop.passes.contract import NoArguments, analysis_pass
from chop.passes.graph.analysis.add_hardware import planned_metadata
from chop.passes.graph.analysis.add_metadata import software_meta
from chop.schedule.plan import make_plan
from chop.schedule.units import Unit, dataflow_of, foldings_of

__all__ = ["verify_metadata_analysis_pass"]

_COMMON = "run add_common_metadata_analysis_pass again"
_SOFTWARE = "run add_software_metadata_analysis_pass again"
_HARDWARE = "run add_hardware_metadata_analysis_pass again"


@analysis_pass("verify_metadata", NoArguments, ("add_common_metadata",))
def verify_metadata_analysis_pass(graph: MaseGraph, arguments: NoArguments) -> MaseGraph:
    """Checks the metadata against the graph, and changes none of it.

    Always: every node has common metadata; bounds and constants fit their formats. Unless the graph
    holds integers only: operators, types and constants inferred anew from the example inputs equal
    the stored ones. With software metadata: the counts equal those counted anew. With hardware
    metadata: every folding is one that the operator can be built with, and buffers, cycles, costs,
    interval and latency equal those of the schedule made anew from the foldings. In fixed point
    throughout: the integer reference of the example inputs stays in the bounds of every node.

    `info["verify_metadata"]` counts what was checked; what did not apply is under "not_checked"
    with the reason. Raises VerifyError with the node, the rule, the value and the remedy.
    """
    checked = {"nodes": _verify_presence(graph)}
    not_checked = {}
    if holds_integers(graph.model):
        not_checked["types"] = "the graph holds integers only; fake_to_true checked them"
    else:
        checked["types"] = _verify_types(graph)
    checked |= _verify_formats(graph)
    optional: tuple[tuple[str, str | None, Callable[[MaseGraph], int]], ...] = (
        ("software", _absent(graph, "software"), _verify_software),
        ("hardware", _absent(graph, "hardware"), _verify_hardware),
        ("integers", _in_float(graph), _verify_integers),
    )
    for name, reason, verify in optional:
        if reason is None:
            checked[name] = verify(graph)
        else:
            not_checked[name] = reason
    graph.info["verify_metadata"] = {"checked": checked, "not_checked": not_checked}
    return graph


def _fail(node: fx.Node | str, rule: str, value: object, remedy: str) -> VerifyError:
    name = node if isinstance(node, str) else node.name
    return VerifyError(f"node '{name}': {rule}, got {value}; {remedy}")


def _verify_presence(graph: MaseGraph) -> int:
    for node in graph.fx_graph.nodes:
        try:
            common_of(node)
        except PassOrderError as error:
            raise _fail(node, "every node must have common metadata", "none", _COMMON) from error
    return len(graph.fx_graph.nodes)


def _verify_types(graph: MaseGraph) -> int:
    """Infers on a copy, in order: the first difference is where the metadata went wrong."""
    other = graph.copy()
    annotator = Annotator(other, other.example_inputs)
    for node, fresh in zip(graph.fx_graph.nodes, other.fx_graph.nodes, strict=True):
        annotator.annotate(fresh)
        _compare_common(node, common_of(node), common_of(fresh))
    return len(graph.fx_graph.nodes)


def _compare_common(node: fx.Node, stored: CommonMeta, fresh: CommonMeta) -> None:
    for what, mine, inferred in (
        ("operator", stored.operator, fresh.operator),
        ("attributes", stored.attributes, fresh.attributes),
        ("inputs", _texts(*stored.inputs), _texts(*fresh.inputs)),
        ("output", _texts(stored.output), _texts(fresh.output)),
        ("parameters", sorted(stored.parameters), sorted(fresh.parameters)),
    ):
        if mine != inferred:
            raise _fail(node, f"{what} must be {inferred} as inferred", mine, _COMMON)
    for name, parameter in stored.parameters.items():
        _compare_parameter(node, name, parameter, fresh.parameters[name])


def _compare_parameter(node: fx.Node, name: str, stored: Parameter, fresh: Parameter) -> None:
    if stored.format != fresh.format:
        raise _fail(node, f"{name} must be in {fresh.format} as inferred", stored.format, _COMMON)
    if stored.values.shape != fresh.values.shape:
        rule = f"{name} must have the shape {fresh.values.shape} of the layer's"
        raise _fail(node, rule, stored.values.shape, _COMMON)
    different = np.argwhere(stored.values != fresh.values)
    if len(different):
        at = tuple(different[0].tolist())
        rule = f"{name}{list(at)} must be {fresh.values[at]}, the layer's value in {fresh.format}"
        raise _fail(node, rule, stored.values[at], _COMMON)


def _texts(*types: TensorType) -> str:
    """Types as text with everything that they say."""
    parts = []
    for type in types:
        bounds = f" in [{type.low}, {type.high}]" if type.format is not None else ""
        layout = f" streamed as {type.layout}" if type.layout is not None else ""
        parts.append(f"{type}{bounds}{layout}")
    return ", ".join(parts) or "none"


def _verify_formats(graph: MaseGraph) -> dict[str, int]:
    tensors = constants = 0
    for node in graph.fx_graph.nodes:
        common = common_of(node)
        type = common.output
        if type.format is not None:
            tensors += 1
            least, most = (type.format.low, type.format.high) if type.format.carrier else (0, 0)
            if not least <= type.low <= type.high <= most:
                rule = f"bounds must lie in [{least}, {most}] of {type.format}"
                raise _fail(node, rule, f"[{type.low}, {type.high}]", _COMMON)
        for name, parameter in common.parameters.items():
            low, high = parameter.fixed.low, parameter.fixed.high
            constants += parameter.values.size
            outside = parameter.values[(parameter.values < low) | (parameter.values > high)]
            if outside.size:
                rule = f"{name} must lie in [{low}, {high}] of {parameter.format}"
                raise _fail(node, rule, outside.flat[0], _COMMON)
    return {"formats": tensors, "constants": constants}


def _absent(graph: MaseGraph, field: str) -> str | None:
    """Returns why a kind of metadata is not there; raises where it is on some nodes only."""
    nodes = list(graph.fx_graph.nodes)
    lacking = [node for node in nodes if getattr(meta_of(node), field) is None]
    remedy = f"run add_{field}_metadata_analysis_pass"
    if lacking and len(lacking) < len(nodes):
        rule = f"{field} metadata must be on every node or on none"
        raise _fail(lacking[0], rule, "none", f"{remedy} again")
    return f"no {field} metadata; {remedy} for it" if lacking else None


def _verify_software(graph: MaseGraph) -> int:
    for node in graph.fx_graph.nodes:
        stored, fresh = meta_of(node).software, software_meta(graph, node)
        for what in ("parameters", "macs", "bit_operations"):
            mine, counted = getattr(stored, what), getattr(fresh, what)
            if mine != counted:
                raise _fail(node, f"{what} must be {counted} as counted", mine, _SOFTWARE)
        for tensor, seen in fresh.statistics.items():
            points = [seen.minimum, *(value for _, value in seen.quantiles), seen.maximum]
            if points != sorted(points) or not seen.minimum <= seen.mean <= seen.maximum:
                rule = f"quantiles of its {tensor} must rise from minimum to maximum"
                raise _fail(node, rule, points, "run profile_statistics_analysis_pass again")
    return len(graph.fx_graph.nodes)


def _verify_hardware(graph: MaseGraph) -> int:
    """Makes the schedule anew from the foldings stored."""
    dataflow, report = dataflow_of(graph), graph.info["add_hardware_metadata"]
    nodes = {node.name: node for node in graph.fx_graph.nodes}
    foldings = foldings_of(graph, dataflow)
    for unit in dataflow.units:
        _verify_folding(nodes[unit.owner], unit, foldings[unit.node])
    plan = make_plan(dataflow, foldings, RomOptions(style=report["rom_style"]))
    planned = planned_metadata(graph, dataflow, plan)
    for name, node in nodes.items():
        for field in fields(HardwareMeta):
            stored, fresh = (getattr(m, field.name) for m in (hardware_of(node), planned[name]))
            if stored != fresh:
                raise _fail(node, f"{field.name} must be {fresh} as scheduled", stored, _HARDWARE)
    for what in ("initiation_interval", "latency_cycles"):
        if report[what] != getattr(plan, what):
            raise VerifyError(
                f"design: {what} must be {getattr(plan, what)} as scheduled, "
                f"got {report[what]}; {_HARDWARE}"
            )
    return len(dataflow.units)


def _verify_folding(node: fx.Node, unit: Unit, folding: Folding) -> None:
    possible = unit.op.foldings(unit.site)
    for what in ("in_lanes", "out_lanes"):
        lanes = sorted({getattr(f, what) for f in possible})
        if getattr(folding, what) not in lanes:
            rule = f"{what} must be one of {', '.join(map(str, lanes))}"
            raise _fail(node, rule, getattr(folding, what), _HARDWARE)
    alike = [f for f in possible if (f.in_lanes, f.out_lanes) == _lanes(folding)]
    if folding not in alike:
        rule = f"folding must be {' or '.join(map(str, alike)) or 'one that is possible'}"
        raise _fail(node, rule, folding, _HARDWARE)


def _lanes(folding: Folding) -> tuple[int, int]:
    return folding.in_lanes, folding.out_lanes


def _in_float(graph: MaseGraph) -> str | None:
    """Returns which node keeps the graph from having integers, if one does."""
    for node in graph.fx_graph.nodes:
        common = common_of(node)
        if common.carries_data and not common.output.exact:
            before_cast = common.operator == "input" or operator(common.operator).is_layout
            if not before_cast or any(user.op == "output" for user in node.users):
                return f"node '{node.name}' is in floating point; quantise it for this"
    return None


def _verify_integers(graph: MaseGraph) -> int:
    """Counts the values of the reference that were compared with the bounds."""
    inputs = {name: x.double().numpy() for name, x in graph.example_inputs.items()}
    values = run_in_integers(graph, inputs)
    count = 0
    for node in graph.fx_graph.nodes:
        if node.name not in values:
            continue
        type, found = common_of(node).output, values[node.name]
        count += found.size
        outside = found[(found < type.low) | (found > type.high)]
        if outside.size:
            rule = f"the reference must stay in [{type.low}, {type.high}]"
            raise _fail(node, rule, outside.flat[0], _COMMON)
    return count
