"""What an operator is: everything that the compiler knows about it, in one class."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, Generic, TypeVar, final

import numpy as np
import torch
from torch import fx, nn

from chop.errors import FormatError, UnsupportedOpError
from chop.formats.base import Format
from chop.formats.fixed import Fixed
from chop.formats.rounding import Floats, Ints, Rounding
from chop.formats.scale import Scale
from chop.integer.program import Program
from chop.integer.record import Value, record
from chop.integer.run import run
from chop.ir.meta import Cost, Folding
from chop.ir.tensor_type import Layout, Parameter, TensorType, channels_last
from chop.nn.result import ResultLayer
from chop.ops.channels import Axes, Resize, Ties, broadcast, zeros
from chop.ops.events import EventGraph, Offer
from chop.ops.factoring import Factoring
from chop.ops.timing import Flow, elastic

__all__ = [
    "Binding",
    "Build",
    "Call",
    "Case",
    "Memory",
    "Op",
    "RomOptions",
    "Site",
    "Source",
    "Stage",
    "StreamOrder",
]

A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class Call:
    """A node as an operator's `read` sees it.

    `args` and `kwargs` hold the data tensors as fx nodes and everything else (constants, sizes) as
    its value; `module` is the module called, if any. `batch` is the size of the batch that
    shapes and values were read from.
    """

    node: fx.Node
    module: nn.Module | None
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    input_shapes: tuple[tuple[int, ...], ...]
    output_shape: tuple[int, ...]
    source: str
    batch: int

    def argument(self, index: int, name: str, default: Any = None) -> Any:
        """Returns a positional or keyword argument; index 0 is the first."""
        if index < len(self.args):
            return self.args[index]
        return self.kwargs.get(name, default)

    @property
    def spelling(self) -> str:
        """The name under which torch was called: "relu", "add", "Linear"..."""
        if self.module is not None:
            return type(self.module).__name__
        target = self.node.target
        return target if isinstance(target, str) else getattr(target, "__name__", str(target))

    def refuse(self, reason: str, remedy: str) -> UnsupportedOpError:
        """Returns the error for a form of the operator that has no exact meaning here."""
        place = f" ({self.source})" if self.source else ""
        return UnsupportedOpError(f"node '{self.node.name}'{place}: {reason}; {remedy}")


@dataclass(frozen=True, slots=True)
class Site(Generic[A]):
    """One use of an operator, in integers.

    `exact` is the type of the operator's exact result; `output` differs from it where the
    operator's hardware rounds the result for the cast that follows it.
    """

    name: str
    attributes: A
    inputs: tuple[TensorType, ...]
    parameters: Mapping[str, Parameter]
    rounding: Rounding
    exact: TensorType
    output: TensorType


@dataclass(frozen=True, slots=True)
class Stage(Generic[A]):
    """One unit of hardware among those that compute a node, one behind the other."""

    op: Op[A]
    site: Site[A]


class StreamOrder(Enum):
    """In which order an operator's hardware reads a tensor's elements, or gives them.

    ROWS: as they lie in memory. CHANNELS: [C, H, W] and [C, L] with the channels innermost.
    """

    ANY = "any"
    ROWS = "rows"
    CHANNELS = "channels"


@dataclass(frozen=True, slots=True)
class RomOptions:
    """How the constants of a node are stored.

    `directory` is the folder of the ROM files as the RTL names it, `prefix` goes before each name.
    """

    style: str = "auto"
    directory: str = "rom"
    prefix: str = ""

    def file(self, name: str) -> str:
        return f"{self.directory}/{self.prefix}{name}.mem"


@dataclass(frozen=True, slots=True)
class Build:
    """How one site is built: folding, depths of its input buffer and output queue, constants."""

    folding: Folding
    rom: RomOptions
    in_depth: int = 1
    out_depth: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Memory:
    """A ROM: [words, elements per word] integers of `width` bits each."""

    file: str
    words: Ints
    width: int


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A module that is written for one site: its name, a template of hw/templates, its values."""

    module: str
    template: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Binding:
    """The RTL module of a node, its parameters and the prefixes of its ports.

    Parameters are integers, or text in SystemVerilog syntax. `packed`: all inputs share one prefix,
    their signals side by side, the first lowest.
    """

    module: str
    parameters: Mapping[str, int | str]
    inputs: tuple[str, ...] = ("x_",)
    output: str = "y_"
    packed: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """A small network that the generic tests run: input shapes (without the batch) and a model."""

    label: str
    model: nn.Module
    inputs: tuple[tuple[int, ...], ...]


class Op(ABC, Generic[A]):
    """An operator. Stateless; the registry holds one instance of each."""

    # What differs between instances of one class (moves, pools) is declared without ClassVar.
    name: str
    summary: str
    # nn.Module classes, functions and method names of torch that it stands for.
    targets: tuple[object, ...]
    # Those that it stands for where the first operand is a constant (2 / x).
    reversed_targets: ClassVar[tuple[object, ...]] = ()
    # How many tensors it reads, None: any number; operators of different arity may share targets
    # (x + 1, x + y).
    arity: ClassVar[int | None] = 1
    # For docs/operators.md: cycles per sample and latency, and the forms that are refused.
    cycles: ClassVar[str] = "elements / lanes; latency 1"
    limits: str = ""
    # SystemVerilog module that computes it; None where it is wires or nothing.
    module: ClassVar[str | None] = None
    # Where it is one of several, as the site needs: all of them.
    modules: tuple[str, ...] = ()
    # Whether its hardware can round its result to another format at no extra cost.
    absorbs_cast: ClassVar[bool] = False
    # Whether the default configuration of quantize casts its input: operators that multiply or add.
    quantizes_input: ClassVar[bool] = False
    # Whether its hardware reads streams of coded elements (block formats) and not only integers.
    reads_coded: ClassVar[bool] = False
    # Whether it only renames elements: no hardware of its own.
    is_layout: ClassVar[bool] = False
    # Whether its hardware keeps its input and gives more than it was given. Its one reader may let
    # it wait (`stalled_flow`), and the scheduler takes the cheapest of the foldings that keep the
    # interval: lanes are paid for in memory and selections, and gain next to no latency.
    is_buffer: ClassVar[bool] = False
    # Whether its hardware gives its result in whatever order a reader wants, at no cost.
    gives_any_order: ClassVar[bool] = False
    # Whether its result may be a view of its input's memory; it chooses its stream's order itself.
    moves_elements: ClassVar[bool] = False
    # Whether it moves elements and is cheapest where its inputs come in the result's order.
    hands_on_order: bool = False
    # Whether its result counts: then a default data_out leaves it as it is.
    gives_indices: ClassVar[bool] = False
    # Whether it divides, exactly: its result may have a scale, and quantize rounds it for readers
    # that take none.
    divides: ClassVar[bool] = False
    # Whether f(s x) = s f(x), element by element, for every positive s.
    is_positively_homogeneous: ClassVar[bool] = False
    # The axis of a sample whose elements its layer scales apart: see `fold_before`, `fold_after`.
    channel_axis: ClassVar[int] = 0
    # Whether an element of its result depends on the elements in the same place only.
    is_elementwise: ClassVar[bool] = False

    @abstractmethod
    def read(self, call: Call) -> A:
        """Returns the attributes. The only code that looks at the node's arguments."""

    def layer(self, call: Call) -> nn.Module | None:
        """Returns the layer whose `weight` and `bias` are the node's constants, in float."""
        return None

    def input_format(self, call: Call) -> Fixed | None:
        """Returns the format that its input must have, whatever a configuration says; None: any."""
        return None

    def result_layer(self, call: Call, inputs: Sequence[TensorType]) -> ResultLayer | None:
        """Returns what a node computes whose result needs a format; None: its result is exact."""
        return None

    def fold_before(self, layer: nn.Module, scale: torch.Tensor, shift: torch.Tensor) -> bool:
        """Changes the layer to compute layer(x * scale + shift), if that is one layer again.

        Scale and shift lie along `channel_axis`.
        """
        return False

    def fold_after(self, layer: nn.Module, scale: torch.Tensor, shift: torch.Tensor) -> bool:
        """Changes the layer to compute layer(x) * scale + shift, if that is one layer again."""
        return False

    def tie_channels(
        self, attributes: A, inputs: Sequence[Axes], shape: tuple[int, ...], ties: Ties
    ) -> Axes:
        """Returns the labels of the result's axes, and ties channels that come and go together.

        Without a rule for more, only element-wise operators take channels that may change.
        """
        if self.is_elementwise:
            return broadcast(inputs, shape, ties)
        for labels in (labels for axes in inputs for labels in axes):
            ties.fix(labels, f"is of the operator '{self.name}', which has no rule for channels")
        return zeros(shape)

    def resized(self, layer: nn.Module, inputs: Sequence[Axes], output: Axes) -> Resize:
        """Returns how the node's layer follows from other channels before and after it.

        `inputs` and `output` have the old index of every new one, for each axis of the tensors.
        Raises UnsupportedOpError where it cannot.
        """
        raise UnsupportedOpError(f"operator '{self.name}' has no rule for layers of other channels")

    def factoring(self, layer: nn.Module) -> Factoring | None:
        """Returns what the layer can be taken apart into; None: nothing."""
        return None

    @abstractmethod
    def infer(self, site: Site[A]) -> TensorType:
        """Returns the type of the exact result; `site.exact` is its float type, for the shape."""

    def infer_scale(self, site: Site[A]) -> Scale | None:
        """Returns the scale of the exact result. Without a rule, a scaled operand is refused."""
        for what, scale in _scales(site):
            if scale is not None:
                raise UnsupportedOpError(
                    f"node '{site.name}': operator '{self.name}' has no rule for the scale {scale} "
                    f'of its {what}; cast it to fixed point first (name = "integer")'
                )
        return None

    def infer_float(self, attributes: A, output: TensorType) -> TensorType:
        """Returns the result's type where the input, or a constant, is in floating point."""
        return output

    def enter(self, attributes: A, values: Floats) -> Ints:
        """Returns the integers of real values: only a cast takes a tensor into fixed point."""
        raise UnsupportedOpError(f"operator '{self.name}' takes no real values to integers")

    @abstractmethod
    def define(self, site: Site[A], inputs: Sequence[Value]) -> Value:
        """THE definition: writes the integers of the exact result from those of the inputs.

        What it writes is one program, which numpy, PyTorch and generated code run alike.
        """

    @final
    def program(self, site: Site[A]) -> Program:
        """Returns the integer program of a site. Raises FormatError where it may leave int64."""
        inputs = [(t.shape, t.low, t.high) for t in site.inputs]
        try:
            return record(lambda values: self.define(site, values), inputs)
        except FormatError as error:
            raise FormatError(f"node '{site.name}': {error}") from error

    @final
    def evaluate(self, site: Site[A], inputs: Sequence[Ints]) -> Ints:
        """Returns the program's result: integers [N, *shape] from those of the inputs.

        A layout operator moves real values alike.
        """
        return run(self.program(site), inputs)

    def reads(self, shape: tuple[int, ...]) -> StreamOrder:
        """Returns in which order the hardware reads an input of that shape."""
        return StreamOrder.ANY

    def stream_layouts(self, site: Site[A]) -> tuple[Layout, ...]:
        """Returns the layouts in which the hardware reads its inputs.

        Where one is not that of the input, a reorder buffer comes in front. The default: what
        `reads` says of a single input, else as they are.
        """
        layouts = tuple(x.layout for x in site.inputs)
        order = self.reads(site.inputs[0].shape) if len(layouts) == 1 else StreamOrder.ANY
        if order is StreamOrder.ANY:
            return layouts
        return (channels_last(site.inputs[0].shape) if order is StreamOrder.CHANNELS else None,)

    def stages(self, site: Site[A]) -> tuple[Stage[Any], ...]:
        """Returns the units of hardware, the first first; the last one is named as the site is.

        The others' names are made from it. The methods below are asked of the stages' operators.
        """
        return (Stage(self, site),)

    def is_wired(self, site: Site[A]) -> bool:
        """Returns whether the result has the stream of the input: no hardware of its own."""
        return self.is_layout

    def requantiser(self, site: Site[A]) -> tuple[str, str]:
        """Returns the kind of requantiser that the operator is, and the proof ("", "": none)."""
        return "", ""

    def commutes_with_casts(self, attributes: A) -> bool:
        """Returns whether its operands rounded give its result rounded.

        To any evenly spaced levels that have a zero: it moves elements, or compares them.
        """
        return False

    def absorbed_by(self, site: Site[A], format: Format) -> bool:
        """Returns whether a cast to `format` right behind gives the same without the operator."""
        return False

    def macs(self, attributes: A, output: TensorType) -> int:
        """Returns the multiplications per sample."""
        return 0

    def foldings(self, site: Site[A]) -> tuple[Folding, ...]:
        """Returns every folding that the hardware can be built with."""
        return elementwise_foldings(site.exact.elements)

    def adder_foldings(self, site: Site[A]) -> tuple[Folding, ...]:
        """Returns further foldings, with one graph of additions in place of multipliers.

        Asked for only where they are wanted: to find the graph may take seconds.
        """
        return ()

    def sources(self, site: Site[A], build: Build) -> tuple[Source, ...]:
        """Returns the modules that are written for this site alone."""
        return ()

    def memories(self, site: Site[A], build: Build) -> tuple[Memory, ...]:
        """Returns the constants in the order in which the hardware reads them."""
        return ()

    def bind(self, site: Site[A], build: Build) -> Binding:
        """Returns the RTL module with its parameters. A layout operator has none."""
        raise UnsupportedOpError(f"node '{site.name}': operator '{self.name}' has no RTL module")

    def flow(self, site: Site[A], build: Build, valid: Sequence[Ints], samples: int) -> Flow:
        """Returns when beats are taken and given, from when they are valid: exact, in cycles.

        The default is one stream register, or wires where `is_layout`.
        """
        return elastic(valid[0], 0 if self.is_layout else 1)

    def stalled_flow(
        self, site: Site[A], build: Build, valid: Sequence[Ints], samples: int, left: Ints
    ) -> Flow:
        """Returns the flow of a buffer whose result's beats leave in the cycles `left`."""
        raise UnsupportedOpError(f"node '{site.name}': operator '{self.name}' is no buffer")

    def events(
        self, site: Site[A], build: Build, graph: EventGraph, inputs: Sequence[Offer]
    ) -> Offer | None:
        """Returns its result's stream in the event graph; None: its events have no fixed order.

        Exact for the depths of the build. The default: an elastic pipeline, if `flow` says so.
        """
        idle = [np.zeros(offer.count, np.int64) for offer in inputs]
        delay = self.flow(site, build, idle, 1).delay
        if delay is None:
            return None
        return graph.elastic(inputs, delay) if delay else inputs[0]

    def cost(self, site: Site[A], build: Build) -> Cost:
        """Returns an estimate of the resources.

        The default: an addition for the rounding and a selection for the saturation per lane, and
        one stream register; nothing where `is_layout`.
        """
        if self.is_layout:
            return Cost()
        lanes, out = build.folding.out_lanes, site.output.fixed.width
        rounds = site.exact.fixed.frac_width > site.output.fixed.frac_width
        saturates = rounds or site.exact.low < site.output.low or site.exact.high > site.output.high
        luts = out * saturates + site.inputs[0].fixed.width * rounds
        return Cost(lanes * max(luts, 2), lanes * out + 1)

    @abstractmethod
    def cases(self) -> tuple[Case, ...]:
        """Returns what the generic tests run."""


def _scales(site: Site[Any]) -> tuple[tuple[str, Scale | None], ...]:
    inputs = (("input", t.scale) for t in site.inputs)
    return (*inputs, *((name, p.scale) for name, p in site.parameters.items()))


def elementwise_foldings(elements: int) -> tuple[Folding, ...]:
    """Returns one folding per number of lanes that divides the elements."""
    return tuple(
        Folding(lanes, lanes, elements // lanes, 0)
        for lanes in range(1, elements + 1)
        if elements % lanes == 0
    )
