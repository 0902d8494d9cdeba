"""fake_to_true: a fake-quantised network becomes one of integers only, with a certificate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import fx

from chop.errors import PassOrderError, UnsupportedOpError, VerifyError
from chop.integer.modules import (
    Carrier,
    IntegerInput,
    IntegerModule,
    IntegerNode,
    holds_integers,
)
from chop.integer.program import WHITELIST, Program
from chop.ir.graph import MaseGraph
from chop.ir.meta import CommonMeta, common_of
from chop.ir.tensor_type import TensorType
from chop.ops.annotate import data_inputs, module_of, run_in_integers, site_of
from chop.ops.registry import operator
from chop.passes.blockers import examine
from chop.passes.contract import PassArguments, transform_pass
from chop.passes.integers import InputPort, input_ports, output_nodes, to_integers

__all__ = ["fake_to_true_transform_pass"]

_LIMIT = 53


class FakeToTrueArguments(PassArguments):
    """`carrier`: in what the integers inside a node are held; "auto" is chosen node by node."""

    carrier: Literal["auto", "int64", "float64"] = "auto"


@transform_pass("fake_to_true", FakeToTrueArguments, ("add_common_metadata",))
def fake_to_true_transform_pass(graph: MaseGraph, arguments: FakeToTrueArguments) -> MaseGraph:
    """Returns a graph whose model takes, computes and returns int64 integers only.

    Every node in integers becomes an `IntegerNode` that runs the operator's integer program; an
    input takes the integers of its first cast (`to_integers` makes them from real values). Names,
    order and metadata of the nodes stay, so the passes that schedule and emit work as before.

    `info["fake_to_true"]` is the certificate: ports, and for every node its integers' bounds, its
    carrier and the proof that it is exact, its requantiser and the proof of that; and what the
    check for residues counted. On the example inputs every node was equal to the reference.

    Raises UnsupportedOpError with every node that has no integers, PassOrderError where parameters
    changed after the metadata, VerifyError where float64 is asked for and not proven, or where
    anything but integers is left.
    """
    if not holds_integers(graph.model):
        _check_blockers(graph)
    ports = input_ports(graph)
    rows = _Converter(graph, ports, arguments.carrier).run()
    residue = _check_residue(graph)
    compared = _check_against_reference(graph)
    graph.info["fake_to_true"] = {
        "carrier": arguments.carrier,
        "inputs": [_port_row(port) for port in ports.values()],
        "outputs": [_type_row(n.name, common_of(n).output) for n in output_nodes(graph)],
        "nodes": rows,
        "residue": residue,
        "compared": compared,
    }
    return graph


def _check_blockers(graph: MaseGraph) -> None:
    found = examine(graph, graph.example_inputs)
    if found.unformatted:
        raise UnsupportedOpError(
            f"no tensor of the network has a number format (the first node is "
            f"'{found.unformatted[0]}'); run quantize or float_to_fake first"
        )
    if found.blockers:
        lines = "\n".join(f"  {blocker}" for blocker in found.blockers)
        count = len(found.blockers)
        what = "1 node has" if count == 1 else f"{count} nodes have"
        raise UnsupportedOpError(f"{what} no integers:\n{lines}")
    for node in graph.fx_graph.nodes:
        if _is_stale(common_of(node), found.fresh[node.name]):
            raise PassOrderError(
                f"node '{node.name}': its parameters or formats changed after its metadata; "
                "run refresh_metadata first"
            )


def _is_stale(stored: CommonMeta, fresh: CommonMeta) -> bool:
    if stored.output != fresh.output or stored.inputs != fresh.inputs:
        return True
    if stored.attributes != fresh.attributes or set(stored.parameters) != set(fresh.parameters):
        return True
    return any(
        not np.array_equal(p.values, fresh.parameters[name].values)
        or p.fixed != fresh.parameters[name].fixed
        for name, p in stored.parameters.items()
    )


class _Converter:
    """Puts integer modules in the place of everything that computes."""

    def __init__(self, graph: MaseGraph, ports: Mapping[str, InputPort], carrier: str) -> None:
        self._graph = graph
        self._carrier = carrier
        self._ports = ports

    def run(self) -> list[dict[str, Any]]:
        graph, rows = self._graph, []
        # Before any node is rewritten: a module that several nodes call is replaced for each.
        nodes = [n for n in graph.fx_graph.nodes if self._computes(n)]
        readers = {n: graph.readers(str(n.target)) if n.op == "call_module" else 0 for n in nodes}
        for node in nodes:
            sources = tuple(data_inputs(node))
            module, row = self._module(node)
            target = str(node.target) if readers[node] == 1 else graph.free_name(node.name)
            graph.model.add_submodule(target, module)
            node.op, node.target, node.args, node.kwargs = "call_module", target, sources, {}
            rows.append(row)
        for node in reversed(list(graph.fx_graph.nodes)):
            # Sizes and constants, which nobody reads any more.
            if not (node.users or node.op in ("placeholder", "output") or self._computes(node)):
                graph.fx_graph.erase_node(node)
        graph.model.delete_all_unused_submodules()
        for part in graph.model.modules():
            if not isinstance(part, IntegerModule):
                # Constants of the float network that a node read.
                part._parameters.clear()
                part._buffers.clear()
        graph.model.recompile()
        return rows

    def _computes(self, node: fx.Node) -> bool:
        common = common_of(node)
        return common.carries_data and common.operator != "input"

    def _module(self, node: fx.Node) -> tuple[IntegerModule, dict[str, Any]]:
        common, site = common_of(node), site_of(node)
        op = operator(common.operator)
        if all(t.exact for t in common.inputs):
            program = op.program(site)
            carrier, proof = _choose(node, program, self._carrier)
            row = _node_row(node, common.output, program, (carrier, proof), op.requantiser(site))
            return IntegerNode(program, carrier), row
        port = self._port_of(node)
        format = port.attributes.format
        type = TensorType.of(common.output.shape, format)
        carried = Carrier.INT64, "checks that they are integers of the input's format"
        if common.output.exact:
            return IntegerInput(port.name, format), _node_row(node, type, None, carried, ("", ""))
        moved = (TensorType.of(common.inputs[0].shape, format),)
        program = op.program(replace(site, inputs=moved))
        row = _node_row(node, type, program, carried, ("", ""))
        return IntegerInput(port.name, format, IntegerNode(program)), row

    def _port_of(self, node: fx.Node) -> InputPort:
        while node.op != "placeholder":
            (node,) = data_inputs(node)
        return self._ports[str(node.target)]


def _choose(node: fx.Node, program: Program, carrier: str) -> tuple[Carrier, str]:
    """Returns the carrier of a node and why it is exact."""
    bits, obstacle = program.peak.bit_length(), program.float64_obstacle()
    if carrier == Carrier.FLOAT64 and obstacle:
        raise VerifyError(
            f"node '{node.name}': float64 does not carry it exactly: {obstacle}; "
            'use carrier = "auto" or "int64"'
        )
    # Only products of matrices gain by float64: integers have no BLAS, and no product on a GPU.
    wanted = carrier == Carrier.FLOAT64 or (carrier == "auto" and program.multiplies_matrices)
    if wanted and not obstacle:
        return (
            Carrier.FLOAT64,
            f"every number on the way has at most {bits} bits of {_LIMIT}, by the bounds",
        )
    reason = f"; not float64: {obstacle}" if wanted else ""
    return (
        Carrier.INT64,
        f"every number on the way has at most {bits} bits of 63, by the bounds{reason}",
    )


def _node_row(
    node: fx.Node,
    type: TensorType,
    program: Program | None,
    carried: tuple[Carrier, str],
    requantiser: tuple[str, str],
) -> dict[str, Any]:
    """One node of the certificate; `carried` and `requantiser` come with their proofs."""
    steps = () if program is None else program.steps
    names = [step.instruction.__class__.__name__ for step in steps]
    return {
        "operator": common_of(node).operator,
        **_type_row(node.name, type),
        "carrier": carried[0].value,
        "carrier_proof": carried[1],
        "requantiser": requantiser[0],
        "requantiser_proof": requantiser[1],
        "instructions": [name for name in names if name != "Constant"],
    }


def _type_row(name: str, type: TensorType) -> dict[str, Any]:
    return {
        "node": name,
        "shape": list(type.shape),
        "format": str(type.format),
        "low": type.low,
        "high": type.high,
        "frac_width": type.fixed.frac_width,
        "scale": None if type.scale is None else [float(f) for f in type.scale.factors],
    }


def _port_row(port: InputPort) -> dict[str, Any]:
    row = _type_row(port.name, port.type) | {"shape": list(port.shape)}
    return row | {"rounding": str(port.attributes.rounding)}


def _check_residue(graph: MaseGraph) -> dict[str, int]:
    """Counts what there is; raises VerifyError with everything that is not integer."""
    residue, instructions, constants = [], 0, 0
    for node in graph.fx_graph.nodes:
        module = module_of(graph, node)
        if node.op in ("placeholder", "output") or isinstance(module, IntegerModule):
            continue
        residue.append(f"node '{node.name}' calls {type(module or node.target).__name__}")
    for name, tensor in graph.model.named_buffers():
        constants += tensor.numel()
        if tensor.dtype != torch.int64:
            residue.append(f"buffer '{name}' is {tensor.dtype}")
    residue += [f"'{name}' is a parameter" for name, _ in graph.model.named_parameters()]
    for name, module in graph.model.named_modules():
        if isinstance(module, IntegerNode):
            steps = module.program.steps
            instructions += len(steps)
            residue += [
                f"'{name}' has the instruction {type(step.instruction).__name__}"
                for step in steps
                if type(step.instruction) not in WHITELIST
            ]
        elif not isinstance(module, IntegerModule) and not _only_holds(graph, module):
            residue.append(f"module '{name}' is a {type(module).__name__}")
    if residue:
        raise VerifyError(f"not integers only: {'; '.join(residue)}")
    return {
        "nodes": len(graph.fx_graph.nodes),
        "instructions": instructions,
        "integers": constants,
        "floats": 0,
    }


def _only_holds(graph: MaseGraph, module: torch.nn.Module) -> bool:
    """Whether it is the graph itself, or a container without a forward pass that is called."""
    return module is graph.model or all(
        module_of(graph, node) is not module for node in graph.fx_graph.nodes
    )


def _check_against_reference(graph: MaseGraph) -> int:
    """Runs the true model on the example inputs; returns how many integers were compared."""
    examples = {name: x.double() for name, x in graph.example_inputs.items()}
    reference = run_in_integers(graph, {name: x.cpu().numpy() for name, x in examples.items()})
    integers = [to_integers(graph, name, examples[name]) for name in graph.placeholders]
    interpreter = fx.Interpreter(graph.model, garbage_collect_values=False)
    interpreter.run(*integers)
    count = 0
    for node, value in interpreter.env.items():
        if node.name not in reference:
            continue
        type, expected = common_of(node).output, reference[node.name]
        if value.dtype != torch.int64 or not np.array_equal(value.numpy(), expected):
            raise VerifyError(
                f"node '{node.name}': its integers differ from the reference's (a bug of chop)"
            )
        if expected.size and not type.low <= expected.min() <= expected.max() <= type.high:
            raise VerifyError(f"node '{node.name}': integers leave [{type.low}, {type.high}]")
        count += expected.size
    return count
