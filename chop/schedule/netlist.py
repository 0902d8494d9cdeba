"""The instances and wires of the top module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from chop.ir.manifest import FormatEntry, StreamEntry
from chop.ir.meta import common_of
from chop.ir.tensor_type import TensorType
from chop.ops.base import Memory, Source
from chop.schedule.identifiers import identifiers
from chop.schedule.pacing import edge_between
from chop.schedule.plan import Plan
from chop.schedule.units import Dataflow, Unit

__all__ = ["Instance", "Netlist", "Wire", "build_netlist"]

_PORTS = ("clk_i", "rst_ni")


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance: parameters and connections in the order in which they are written.

    `node` is the unit that it computes, None for streams' own modules.
    """

    module: str
    name: str
    parameters: Mapping[str, int | str]
    connections: tuple[tuple[str, str], ...]
    node: str | None = None


@dataclass(frozen=True, slots=True)
class Wire:
    """A stream's signals inside the top; `branches` above 1: one valid and ready per branch."""

    signal: str
    width: int
    comment: str
    branches: int = 1


@dataclass(frozen=True, slots=True)
class _Signals:
    """The expressions of a stream's three signals."""

    data: str
    valid: str
    ready: str


@dataclass(slots=True)
class Netlist:
    """The content of the top module."""

    name: str
    inputs: tuple[StreamEntry, ...] = ()
    outputs: tuple[StreamEntry, ...] = ()
    streams: tuple[StreamEntry, ...] = ()
    wires: list[Wire] = field(default_factory=list)
    instances: list[Instance] = field(default_factory=list)
    assigns: list[tuple[str, str]] = field(default_factory=list)
    memories: list[Memory] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)


def build_netlist(dataflow: Dataflow, plan: Plan, top: str) -> Netlist:
    """Returns the top module of a scheduled design."""
    return _Builder(dataflow, plan, top).build()


class _Builder:
    def __init__(self, dataflow: Dataflow, plan: Plan, top: str) -> None:
        self._dataflow = dataflow
        self._plan = plan
        self._net = Netlist(top)
        names = [*dataflow.inputs, *(u.node for u in dataflow.units), *dataflow.outputs]
        words = identifiers(dict.fromkeys(names), (*_PORTS, top))
        self._ids = words
        self._taken = {word.lower() for word in words.values()}
        self._outputs = dict(dataflow.outputs)

    def build(self) -> Netlist:
        net, flow = self._net, self._dataflow
        net.inputs = tuple(self._entry(n, n, self._plan.input_lanes[n]) for n in flow.inputs)
        net.outputs = tuple(self._output(name, stream) for name, stream in flow.outputs.items())
        net.streams = tuple(
            self._entry(u.node, u.node, self._lanes(u.node))
            for u in flow.units
            if u.node == u.owner and self._port_of(u.node) is None
        )
        readers: dict[tuple[str, int], _Signals] = {}
        for stream in (*flow.inputs, *(u.node for u in flow.units)):
            if stream not in flow.inputs:
                self._instantiate(flow.unit(stream), readers)
            self._distribute(stream, readers)
        return net

    def _entry(self, name: str, stream: str, lanes: int) -> StreamEntry:
        type = self._dataflow.stream_type(stream)
        node = self._dataflow.casts.get(stream) or self._dataflow.unit(stream).result
        return StreamEntry(
            name=name,
            signal=self._ids[name],
            node=node,
            shape=type.shape,
            format=_format_entry(type),
            lanes=lanes,
            layout=type.layout,
        )

    def _output(self, name: str, stream: str) -> StreamEntry:
        """An output has its own node's shape: a reshape may stand behind the stream's maker."""
        node = self._dataflow.results[name]
        type = common_of(node).output
        entry = self._entry(name, stream, self._lanes(stream))
        update = {"node": node.name, "shape": type.shape, "layout": type.layout}
        return entry.model_copy(update=update)

    def _lanes(self, stream: str) -> int:
        if stream in self._dataflow.inputs:
            return self._plan.input_lanes[stream]
        return self._plan.units[stream].build.folding.out_lanes

    def _port_of(self, stream: str) -> str | None:
        """Returns the output that a unit drives directly: its only reader."""
        shown = [name for name, source in self._outputs.items() if source == stream]
        alone = self._dataflow.readers(stream) == 1 and stream not in self._dataflow.inputs
        if shown and alone and self._plan.units[stream].fifo_depth == 0:
            return shown[0]
        return None

    def _made(self, stream: str) -> _Signals:
        """Returns the signals that the maker of a stream drives."""
        if stream in self._dataflow.inputs:
            name = self._ids[stream]
            return _Signals(f"{name}_data_i", f"{name}_valid_i", f"{name}_ready_o")
        port = self._port_of(stream)
        return self._out_port(port) if port else _inner(self._ids[stream])

    def _out_port(self, name: str) -> _Signals:
        word = self._ids[name]
        return _Signals(f"{word}_data_o", f"{word}_valid_o", f"{word}_ready_i")

    def _instantiate(self, unit: Unit, readers: Mapping[tuple[str, int], _Signals]) -> None:
        build = self._plan.units[unit.node].build
        binding = unit.op.bind(unit.site, build)
        self._net.memories += unit.op.memories(unit.site, build)
        self._net.sources += unit.op.sources(unit.site, build)
        connections = [("clk_i", "clk_i"), ("rst_ni", "rst_ni")]
        taken = [readers[unit.node, index] for index in range(len(binding.inputs))]
        if binding.packed:
            taken = [_side_by_side(taken)]
        for prefix, signals in zip(binding.inputs, taken, strict=False):
            connections += _taking(prefix, signals)
        connections += _giving(binding.output, self._made(unit.node))
        name = f"u_{self._ids[unit.node]}"
        self._net.instances.append(
            Instance(binding.module, name, binding.parameters, tuple(connections), unit.node)
        )
        if self._port_of(unit.node) is None:
            self._wire(self._ids[unit.node], unit.node, self._lanes(unit.node))

    def _fresh(self, word: str) -> str:
        """Returns a name like `word` that nothing else has."""
        while word.lower() in self._taken:
            word += "_"
        self._taken.add(word.lower())
        return word

    def _wire(self, signal: str, stream: str, lanes: int, branches: int = 1) -> _Signals:
        type = self._dataflow.stream_type(stream)
        comment = f"{lanes} x {type.format if type.coded else type.fixed}"
        self._net.wires.append(Wire(signal, lanes * type.stream_width, comment, branches))
        return _inner(signal)

    def _distribute(self, stream: str, readers: dict[tuple[str, int], _Signals]) -> None:
        """Connects a stream to its readers: FIFO, fork and converters where they are needed."""
        word, signals = self._ids[stream], self._made(stream)
        lanes = self._lanes(stream)
        depth = 0 if stream in self._dataflow.inputs else self._plan.units[stream].fifo_depth
        signals = self._fifo(f"{word}_fifo", stream, lanes, depth, signals)
        units = [
            (unit, index)
            for unit in self._dataflow.units
            for index, source in enumerate(unit.sources)
            if source == stream
        ]
        ports = [n for n, source in self._outputs.items() if source == stream]
        if self._port_of(stream) is not None:
            return
        branches = self._fork(word, stream, signals, len(units) + len(ports))
        for (unit, index), branch in zip(units, branches, strict=False):
            plan = self._plan.units[unit.node]
            seen = self._convert(stream, unit, branch)
            depth = plan.in_fifo_depths[index]
            name = f"{word}_to_{self._ids[unit.node]}_fifo"
            readers[unit.node, index] = self._fifo(
                name, stream, plan.build.folding.in_lanes, depth, seen
            )
        for name, branch in zip(ports, branches[len(units) :], strict=True):
            port = self._out_port(name)
            self._net.assigns += [
                (port.data, branch.data),
                (port.valid, branch.valid),
                (branch.ready, port.ready),
            ]

    def _fifo(self, name: str, stream: str, lanes: int, depth: int, taken: _Signals) -> _Signals:
        """Returns the stream behind a FIFO, or the stream itself where the depth is 0."""
        if depth == 0:
            return taken
        name = self._fresh(name)
        width = lanes * self._dataflow.stream_type(stream).stream_width
        held = self._wire(name, stream, lanes)
        self._add("chop_fifo", name, {"Width": width, "Depth": depth}, taken, held)
        return held

    def _fork(self, word: str, stream: str, signals: _Signals, count: int) -> list[_Signals]:
        if count == 1:
            return [signals]
        name = self._fresh(f"{word}_fork")
        width = self._lanes(stream) * self._dataflow.stream_type(stream).stream_width
        self._wire(name, stream, self._lanes(stream), count)
        self._add("chop_fork", name, {"Width": width, "Outputs": count}, signals, _inner(name))
        return [
            _Signals(f"{name}_data", f"{name}_valid[{i}]", f"{name}_ready[{i}]")
            for i in range(count)
        ]

    def _convert(self, stream: str, unit: Unit, signals: _Signals) -> _Signals:
        lanes, wanted = self._lanes(stream), self._plan.units[unit.node].build.folding.in_lanes
        edge = edge_between(lanes, wanted)
        element = self._dataflow.stream_type(stream).stream_width
        word = f"{self._ids[stream]}_to_{self._ids[unit.node]}"
        middle = lanes // edge.narrow
        for source, target, suffix in ((lanes, middle, "_narrow"), (middle, wanted, "")):
            if source == target:
                continue
            name = self._fresh(word + (suffix if target != wanted else ""))
            made = self._wire(name, stream, target)
            parameters = {"ElementWidth": element, "InLanes": source, "OutLanes": target}
            self._add("chop_width_converter", name, parameters, signals, made)
            signals = made
        return signals

    def _add(
        self,
        module: str,
        name: str,
        parameters: Mapping[str, int | str],
        taken: _Signals,
        given: _Signals,
    ) -> None:
        connections = (
            ("clk_i", "clk_i"),
            ("rst_ni", "rst_ni"),
            *_taking("", taken),
            *_giving("", given),
        )
        self._net.instances.append(Instance(module, f"u_{name}", parameters, connections))


def _inner(signal: str) -> _Signals:
    return _Signals(f"{signal}_data", f"{signal}_valid", f"{signal}_ready")


def _side_by_side(streams: list[_Signals]) -> _Signals:
    def joined(words: list[str]) -> str:
        return f"{{{', '.join(reversed(words))}}}" if len(words) > 1 else words[0]

    return _Signals(
        joined([s.data for s in streams]),
        joined([s.valid for s in streams]),
        joined([s.ready for s in streams]),
    )


def _taking(prefix: str, s: _Signals) -> list[tuple[str, str]]:
    return [
        (f"{prefix}data_i", s.data),
        (f"{prefix}valid_i", s.valid),
        (f"{prefix}ready_o", s.ready),
    ]


def _giving(prefix: str, s: _Signals) -> list[tuple[str, str]]:
    return [
        (f"{prefix}data_o", s.data),
        (f"{prefix}valid_o", s.valid),
        (f"{prefix}ready_i", s.ready),
    ]


def _format_entry(type: TensorType) -> FormatEntry:
    carrier, scale, format = type.fixed, type.scale, type.format
    if type.coded:
        width = type.stream_width
        return FormatEntry(width=width, frac_width=0, signed=False, text=str(format), coded=True)
    own = scale is None or (format is not None and format.scale is not None)
    return FormatEntry(
        width=carrier.width,
        frac_width=carrier.frac_width,
        signed=carrier.signed,
        scale=() if scale is None else tuple(float(f) for f in scale.factors),
        trailing=0 if scale is None else scale.trailing,
        text=str(format) if own else f"{format} {scale}",
    )
