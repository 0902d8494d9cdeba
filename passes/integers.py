"""The integers at the ports of a graph: from real values, and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import fx
from torch.utils import _pytree as pytree

from chop.errors import ConfigError, UnsupportedOpError, did_you_mean
from chop.formats.rounding import Floats, Ints
from chop.integer.program import Reshape
from chop.integer.run import run
from chop.ir.graph import MaseGraph
from chop.ir.meta import common_of
from chop.ir.tensor_type import TensorType
from chop.ops.annotate import data_inputs, in_float, site_of
from chop.ops.cast import CastAttributes
from chop.ops.registry import operator

__all__ = ["InputPort", "input_ports", "output_nodes", "reals_of", "to_integers", "to_reals"]


@dataclass(frozen=True, slots=True)
class InputPort:
    """An input, the operators before its first cast (they only move elements), and that cast."""

    name: str
    shape: tuple[int, ...]
    layout: tuple[fx.Node, ...]
    cast: fx.Node

    @property
    def type(self) -> TensorType:
        """The type of the cast's result."""
        return common_of(self.cast).output

    @property
    def attributes(self) -> CastAttributes:
        found = common_of(self.cast).attributes
        assert isinstance(found, CastAttributes)
        return found


def input_ports(graph: MaseGraph) -> dict[str, InputPort]:
    """Returns the ports by placeholder name. An input without a cast is a UnsupportedOpError."""
    found = {}
    for node in graph.fx_graph.nodes:
        if node.op == "placeholder":
            found[str(node.target)] = _port(node)
    return found


def output_nodes(graph: MaseGraph) -> tuple[fx.Node, ...]:
    """Returns the nodes whose tensors the graph returns, in order."""
    (output,) = (n for n in graph.fx_graph.nodes if n.op == "output")
    return tuple(n for n in pytree.tree_leaves(output.args[0]) if isinstance(n, fx.Node))


def to_integers(graph: MaseGraph, name: str, x: torch.Tensor) -> torch.Tensor:
    """Returns the int64 integers that an input takes for real values x [N, *shape].

    Real value = integer * 2^-frac_width * scale of the port's format, rounded and saturated as the
    cast of the input does it. Raises ConfigError for an unknown input.
    """
    ports = input_ports(graph)
    if name not in ports:
        raise ConfigError(f"no input '{name}'{did_you_mean(name, ports)}")
    port = ports[name]
    moved: Floats = x.detach().double().cpu().numpy()
    for node in port.layout:
        moved = _moved(node, moved)
    format, rounding = port.attributes.format, port.attributes.rounding
    integers = format.to_integers(moved, rounding)
    # The operators before the cast keep the row-major order: the way back is a reshape.
    return torch.from_numpy(np.ascontiguousarray(integers.reshape(x.shape)))


def to_reals(graph: MaseGraph, name: str, integers: torch.Tensor) -> torch.Tensor:
    """Returns the float64 values of a node's integers [N, *shape], the nearest ones."""
    for node in graph.fx_graph.nodes:
        if node.name == name:
            return torch.from_numpy(reals_of(common_of(node).output, integers.cpu().numpy()))
    names = [node.name for node in graph.fx_graph.nodes]
    raise ConfigError(f"no node '{name}'{did_you_mean(name, names)}")


def reals_of(type: TensorType, integers: Ints) -> Floats:
    """Returns integers * 2^-frac_width * scale in float64."""
    reals: Floats = np.ldexp(integers.astype(np.float64), -type.fixed.frac_width)
    return reals if type.scale is None else reals * type.scale.floats()


def _port(node: fx.Node) -> InputPort:
    waiting = list(node.users)
    while waiting:
        user = waiting.pop(0)
        common = common_of(user)
        if not common.carries_data or common.inputs[0].exact:
            continue
        if common.output.exact:
            shape = common_of(node).output.shape
            return InputPort(str(node.target), shape, _between(node, user), user)
        if not operator(common.operator).is_layout:
            raise UnsupportedOpError(in_float(user))
        waiting += user.users
    raise UnsupportedOpError(
        f"input '{node.name}' is not read in fixed point; remove it or quantise its readers"
    )


def _between(node: fx.Node, cast: fx.Node) -> tuple[fx.Node, ...]:
    found: list[fx.Node] = []
    (source,) = data_inputs(cast)
    while source is not node:
        found.insert(0, source)
        (source,) = data_inputs(source)
    return tuple(found)


def _moved(node: fx.Node, values: Floats) -> Floats:
    program = operator(common_of(node).operator).program(site_of(node))
    if not all(isinstance(step.instruction, Reshape) for step in program.steps):
        raise UnsupportedOpError(
            f"node '{node.name}': moves elements before the first cast; cast the input first"
        )
    return run(program, [values])  # type: ignore[list-item, return-value]
