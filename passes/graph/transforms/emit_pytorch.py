"""emit_pytorch: the integer network as one file of Python that needs nothing but PyTorch."""

from __future__ import annotations

import base64
import keyword
import math
import re
import zlib
from fractions import Fraction
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from torch import fx

from chop.errors import UnsupportedOpError
from chop.formats.fixed import Fixed
from chop.formats.mxint import MxInt
from chop.formats.rounding import Ints
from chop.formats.scaled import Scaled
from chop.integer.modules import IntegerInput, IntegerNode, holds_integers
from chop.integer.source import HELPERS, source_of
from chop.ir.files import write_text
from chop.ir.graph import MaseGraph
from chop.ir.meta import common_of
from chop.ir.tensor_type import TensorType
from chop.ops.annotate import data_inputs, module_of
from chop.passes.contract import PassArguments, transform_pass
from chop.passes.graph.transforms.fake_to_true import fake_to_true_transform_pass
from chop.passes.integers import InputPort, input_ports, output_nodes

__all__ = ["emit_pytorch_transform_pass", "generate_pytorch"]

_COLUMNS = 88
_MOST_LEVELS = 1 << 12
_RESERVED = {"self", "torch", "nn", "Tensor", "base64", "zlib", "INPUTS", "OUTPUTS"}


class EmitPytorchArguments(PassArguments):
    """`file`: the .py that is written."""

    file: Path


@transform_pass("emit_pytorch", EmitPytorchArguments, ("add_common_metadata",))
def emit_pytorch_transform_pass(graph: MaseGraph, arguments: EmitPytorchArguments) -> MaseGraph:
    """Writes the network in integers as a Python file; the graph comes back as it was.

    See `generate_pytorch` for what the file holds, and for the errors.
    """
    write_text(arguments.file, generate_pytorch(graph))
    return graph


def generate_pytorch(graph: MaseGraph) -> str:
    """Returns Python source that computes the integer network bit for bit, with torch alone.

    It has the class `IntegerNetwork`, whose forward pass takes and returns int64 tensors, and
    `quantize_input` and `dequantize_output` for the way from and to real values; weights are
    embedded. The same graph gives the same text. A fake-quantised graph goes through fake_to_true
    first, with its errors. Raises UnsupportedOpError for an input in a format that only chop reads.
    """
    if not holds_integers(graph.model):
        graph = fake_to_true_transform_pass(graph)
    return _Writer(graph).text()


class _Writer:
    def __init__(self, graph: MaseGraph) -> None:
        self._graph = graph
        self._ports = input_ports(graph)
        self._taken: set[str] = _RESERVED | set(HELPERS)
        self._variables: dict[fx.Node, str] = {}
        self._constants: dict[str, Ints] = {}
        for node in graph.fx_graph.nodes:
            name = str(node.target) if node.op == "placeholder" else node.name
            self._variables[node] = self._fresh(name)

    def text(self) -> str:
        lines = self._forward()
        body = "\n".join(lines)
        environment = jinja2.Environment(
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        environment.filters["literal"] = _literal
        text = (files("chop.hw") / "templates/network.py.j2").read_text("utf-8")
        template = environment.from_string(text)
        inputs = {name: _input_entry(port) for name, port in self._ports.items()}
        variables = [
            self._variables[n] for n in self._graph.fx_graph.nodes if n.op == "placeholder"
        ]
        names = [name for name in HELPERS if f"{name}(" in body]
        if any(name.startswith("_shift_right") for name in names):
            names.insert(0, "_powers")
        outputs = [(n.name, common_of(n).output) for n in output_nodes(self._graph)]
        return template.render(
            name=type(self._graph.model).__name__,
            arguments=variables,
            inputs=inputs,
            kinds={k for entry in inputs.values() for k, v in entry.items() if v is not None},
            layers=sum(n.op == "call_module" for n in self._graph.fx_graph.nodes),
            outputs={name: _output_entry(type) for name, type in outputs},
            result=self._result(),
            lines=lines,
            helpers=[HELPERS[name] for name in HELPERS if name in names],
            constants=[_constant(name, values) for name, values in self._constants.items()],
        )

    def _forward(self) -> list[str]:
        lines = []
        for node in self._graph.fx_graph.nodes:
            if node.op == "call_module":
                lines += ["", f"# {self._comment(node)}", *self._lines(node)]
        return lines[1:]

    def _lines(self, node: fx.Node) -> list[str]:
        module, result = module_of(self._graph, node), self._variables[node]
        inputs = [self._variables[n] for n in data_inputs(node)]
        before: list[str] = []
        if isinstance(module, IntegerInput):
            before = [f'{result} = _checked({inputs[0]}, "{module.name}")']
            if module.layout is None:
                return before
            module, inputs = module.layout, [result]
        assert isinstance(module, IntegerNode)

        def store(role: str, values: Ints) -> str:
            name = self._fresh(f"{result}_{role}")
            self._constants[name] = values
            return f"self.{name}"

        lines = source_of(module.program, module.carrier, inputs, result, store, self._fresh)
        return before + [line for line in lines if line != f"{result} = {result}"]

    def _comment(self, node: fx.Node) -> str:
        common = common_of(node)
        if not common.output.exact:
            return f"{node.name}: {common.operator}, before the cast of the input"
        type = common.output
        shape = "x".join(map(str, type.shape)) or "1"
        scale = "" if type.scale is None else f", scale {type.scale}"
        bounds = f"integers in [{type.low}, {type.high}]"
        return f"{node.name}: {common.operator}, {shape} of {type.format}{scale}, {bounds}"

    def _result(self) -> str:
        (output,) = (n for n in self._graph.fx_graph.nodes if n.op == "output")
        map_arg: Any = fx.node.map_arg
        return repr(map_arg(output.args[0], lambda n: _Name(self._variables[n])))

    def _fresh(self, name: str) -> str:
        """Returns a name like this one, or the same, that nothing else has."""
        base = re.sub(r"\W", "_", name)
        candidate, number = base, 1
        while candidate in self._taken or keyword.iskeyword(candidate):
            number += 1
            candidate = f"{base}_{number}"
        self._taken.add(candidate)
        return candidate


class _Name:
    """A variable in the text of the result."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


def _input_entry(port: InputPort) -> dict[str, Any]:
    """What `quantize_input` and the check of the integers need to know."""
    format, rounding = port.attributes.format, port.attributes.rounding
    entry: dict[str, Any] = {"shape": port.shape, "format": str(format)}
    entry |= {"low": format.low, "high": format.high, "rounding": str(rounding)}
    entry |= _worth(port.type)
    if isinstance(format, Fixed | Scaled):
        return entry
    if isinstance(format, MxInt):
        block = {"size": format.block_size, "width": format.width}
        block |= {"lowest": format.lowest, "highest": format.highest}
        return entry | {"block": block, "row": common_of(port.cast).inputs[0].shape}
    listed = format.levels()
    if listed is None and format.high - format.low > _MOST_LEVELS:
        raise UnsupportedOpError(
            f"input '{port.name}': no Python is generated for the format {format}; "
            "use fixed point, scaled integers or mxint for the input"
        )
    levels = range(format.low, format.high + 1) if listed is None else listed.tolist()
    reals = [_least(b.at, b.inclusive) for b in format.boundaries(rounding)]
    return entry | {"levels": list(levels), "thresholds": reals}


def _least(at: Fraction, inclusive: bool) -> float:
    """Returns the least float64 that is at a boundary, or above it where it is not inclusive."""
    nearest = float(at)
    exact = Fraction(nearest)
    reached = exact >= at if inclusive else exact > at
    return nearest if reached else math.nextafter(nearest, math.inf)


def _output_entry(type: TensorType) -> dict[str, Any]:
    entry: dict[str, Any] = {"shape": type.shape, "format": str(type.format)}
    return entry | {"low": type.low, "high": type.high} | _worth(type)


def _worth(type: TensorType) -> dict[str, Any]:
    scale: Any = None
    if type.scale is not None:
        scale = np.asarray(type.scale.floats()).tolist()
    return {"frac_width": type.fixed.frac_width, "scale": scale}


def _literal(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _constant(name: str, values: Ints) -> tuple[str, str, tuple[int, ...], list[str]]:
    """Returns name, type, shape and the bytes as lines of base64."""
    dtypes = (np.int8, np.int16, np.int32, np.int64)
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    dtype = next(d for d in dtypes if np.iinfo(d).min <= low and high <= np.iinfo(d).max)
    little = np.ascontiguousarray(values.astype(np.dtype(dtype).newbyteorder("<")))
    text = base64.b64encode(zlib.compress(little.tobytes(), 9)).decode("ascii")
    lines = [text[i : i + _COLUMNS] for i in range(0, len(text), _COLUMNS)]
    return name, np.dtype(dtype).name, values.shape, lines
