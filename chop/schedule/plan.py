"""From lanes to cycles: when every beat moves and how deep every queue is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from chop.errors import ConfigError, VerifyError
from chop.formats.rounding import Ints
from chop.ir.meta import Folding
from chop.ops.base import Build, RomOptions
from chop.ops.timing import Flow, occupancy, serial
from chop.schedule.pacing import Edge, edge_between, narrowed, pass_edge
from chop.schedule.trimming import design_of, trimmed
from chop.schedule.units import Dataflow, Unit
from chop.schedule.waiting import Depths, waiting_depths

__all__ = [
    "Plan",
    "StreamTiming",
    "UnitPlan",
    "ideal_interval",
    "interval_of",
    "make_plan",
    "port_lanes",
]

# How often samples that take turns are seen to do so before that counts as a pattern.
_TURNS = 3
# How many units in a row may be ready only when the one behind them is: a path through all of them
# in one clock cycle. A FIFO comes behind the last.
_LONGEST_CHAIN = 3
# How many samples a run has beyond those that it takes to fill the design, and at most.
_MORE_SAMPLES, _MOST_SAMPLES = 3, 4096


class UnevenError(ConfigError):
    """A unit whose samples take turns at this interval: some early, the next as much later."""

    def __init__(self, node: str, folding: Folding, interval: int) -> None:
        super().__init__(
            f"hardware: node '{node}': with {folding.in_lanes} x {folding.out_lanes} lanes its "
            f"samples take turns at an interval of {interval} cycles, one early and the next late; "
            "use other lanes or another interval"
        )
        self.node = node
        self.folding = folding


@dataclass(frozen=True, slots=True)
class StreamTiming:
    """A stream's beats: valid from `valid[k]` on, if those before left at once.

    `queued`: whether the maker can hold beats back at no loss (an output queue, or a port).
    `patient`: whether it comes straight from a port, lanes unchanged: then waiting costs nothing.
    """

    valid: Ints
    lanes: int
    queued: bool
    patient: bool


@dataclass(frozen=True, slots=True)
class UnitPlan:
    """How one unit is built.

    `fifo_depth`: of the FIFO after it, 0 where there is none; `in_fifo_depths`: of those before its
    inputs, where it joins streams that do not come at the same time.
    """

    build: Build
    fifo_depth: int
    in_fifo_depths: tuple[int, ...]
    first_output_cycle: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The schedule of a design, in cycles from the one in which its first input beat is offered.

    `initiation_interval` is both ideal and achieved: the queues are sized from a periodic run at
    that interval, in which every unit is shown never to wait longer than its predecessors.
    """

    units: Mapping[str, UnitPlan]
    input_lanes: Mapping[str, int]
    initiation_interval: int
    latency_cycles: int


@dataclass(frozen=True, slots=True)
class UnitRun:
    """One unit's flow; `in_fifo_depths` are 0 where its input needs no FIFO."""

    build: Build
    seen: tuple[Ints, ...]
    flow: Flow
    patient: bool
    in_fifo_depths: tuple[int, ...]


@dataclass(slots=True)
class Run:
    """The state of one pass over the dataflow; `waiting` are the buffers that need no queue.

    `chains`: how many units in a row, up to a stream's maker, wait for their readers' ready.
    """

    dataflow: Dataflow
    samples: int
    interval: int
    streams: dict[str, StreamTiming] = field(default_factory=dict)
    offered: dict[str, Ints] = field(default_factory=dict)
    left: dict[str, Ints] = field(default_factory=dict)
    fifos: set[str] = field(default_factory=set)
    slowest: dict[str, int] = field(default_factory=dict)
    chains: dict[str, int] = field(default_factory=dict)
    waiting: set[str] = field(default_factory=set)
    flows: dict[str, UnitRun] = field(default_factory=dict)


def interval_of(
    dataflow: Dataflow, foldings: Mapping[str, Folding], ports: Mapping[str, int]
) -> int:
    """Returns the ideal interval: the largest of the layers' cycles and all streams' beats."""
    cycles = [f.cycles for f in foldings.values()]
    cycles += [dataflow.inputs[name].elements // lanes for name, lanes in ports.items()]
    for unit in dataflow.units:
        for source in unit.sources:
            lanes = foldings[source].out_lanes if source in foldings else ports[source]
            narrow = lanes // edge_between(lanes, foldings[unit.node].in_lanes).narrow
            cycles.append(dataflow.stream_type(source).elements // narrow)
    return max(cycles)


def ideal_interval(
    dataflow: Dataflow,
    foldings: Mapping[str, Folding],
    ports: Mapping[str, int],
    target: int | None = None,
) -> int:
    """Returns the interval of a design that loses no cycle for these multipliers and port lanes.

    The largest of MACs / multipliers over the layers and of beats per sample over the ports. Of
    layers without multipliers, the fewest cycles that they can be built for, or those that they
    take where no more than the `target` asked for.
    """
    found = [dataflow.inputs[name].elements // lanes for name, lanes in ports.items()]
    for unit in dataflow.units:
        folding = foldings[unit.node]
        if folding.multipliers:
            macs = unit.op.macs(unit.site.attributes, unit.site.exact)
            found.append(-(-macs // folding.multipliers))
        elif folding.digits or folding.cycles <= (target or 0):
            found.append(folding.cycles)
        else:
            found.append(min(fastest.cycles for fastest in unit.op.foldings(unit.site)))
    for stream in dataflow.outputs.values():
        lanes = foldings[stream].out_lanes if stream in foldings else ports[stream]
        found.append(dataflow.stream_type(stream).elements // lanes)
    return max(found)


def port_lanes(dataflow: Dataflow, foldings: Mapping[str, Folding]) -> dict[str, int]:
    """Returns the lanes of every input port: the most that any of its readers takes."""
    lanes: dict[str, int] = {}
    for unit in dataflow.units:
        for source in unit.sources:
            if source in dataflow.inputs:
                lanes[source] = max(lanes.get(source, 1), foldings[unit.node].in_lanes)
    # An input that is an output too, and nothing else.
    return {name: lanes.get(name, 1) for name in dataflow.inputs}


def make_plan(dataflow: Dataflow, foldings: Mapping[str, Folding], rom: RomOptions) -> Plan:
    """Returns the schedule for given lanes. The interval follows from them.

    Raises UnevenError where a unit gives no sample like the one before at that interval.
    """
    ports = port_lanes(dataflow, foldings)
    interval = interval_of(dataflow, foldings, ports)
    samples = 2
    while samples <= _MOST_SAMPLES:
        run = _run(dataflow, foldings, ports, interval, samples, rom)
        # A queue shows its depth only once the first sample has left the design.
        filling = -(
            -max(int(left[: len(left) // samples].max()) for left in run.left.values()) // interval
        )
        if samples >= filling + _MORE_SAMPLES and _periodic(run):
            found = [waiting_depths(run, at_last) for at_last in (False, True)]
            plans = [
                _finish(run, ports, interval, depths) for depths in found if depths is not None
            ]
            if plans:
                return _trimmed(run, min(plans, key=lambda plan: _stored_bits(dataflow, plan)))
        uneven = _uneven(run)
        if uneven is not None:
            raise UnevenError(uneven, foldings[uneven], interval)
        enough = filling + _MORE_SAMPLES
        samples = enough if samples < enough else 2 * samples
    raise VerifyError(
        f"schedule: no periodic run at an interval of {interval} cycles within "
        f"{_MOST_SAMPLES} samples; please report this"
    )


def _trimmed(run: Run, plan: Plan) -> Plan:
    """Returns the plan with the least depths of FIFOs, where the event graph shows them."""
    dataflow = run.dataflow
    if not any(unit.fifo_depth or any(unit.in_fifo_depths) for unit in plan.units.values()):
        return plan
    rows = {
        name: run.offered[stream].reshape(run.samples, -1)
        - np.arange(run.samples, dtype=np.int64)[:, None] * run.interval
        for name, stream in dataflow.outputs.items()
    }
    design = design_of(dataflow, plan)
    if design is None or any((times != times[0]).any() for times in rows.values()):
        return plan
    widths = {
        (name, number): dataflow.stream_type(
            name if number < 0 else unit.sources[number]
        ).stream_width
        * (folding.out_lanes if number < 0 else folding.in_lanes)
        for name, number in design.depths
        for unit, folding in [(dataflow.unit(name), plan.units[name].build.folding)]
    }
    depths = trimmed(design, {name: times[0] for name, times in rows.items()}, widths)
    if depths is None:
        raise VerifyError("schedule: the queues do not keep the outputs (a bug of chop)")
    units = {}
    for name, unit in plan.units.items():
        fifos = tuple(depths.get((name, n), 0) for n in range(len(unit.in_fifo_depths)))
        units[name] = replace(unit, fifo_depth=depths.get((name, -1), 0), in_fifo_depths=fifos)
    return replace(plan, units=units)


def _run(
    dataflow: Dataflow,
    foldings: Mapping[str, Folding],
    ports: Mapping[str, int],
    interval: int,
    samples: int,
    rom: RomOptions,
) -> Run:
    run = Run(dataflow, samples, interval)
    starts = interval * np.arange(samples, dtype=np.int64)[:, None]
    for name, type in dataflow.inputs.items():
        beats = np.arange(type.elements // ports[name], dtype=np.int64)
        run.streams[name] = StreamTiming((starts + beats).reshape(-1), ports[name], True, True)
        _offer(run, foldings, name)
    for unit in dataflow.units:
        build = Build(foldings[unit.node], rom)
        seen, patient = _arrivals(run, unit, build.folding)
        flow = unit.op.flow(unit.site, build, seen, samples)
        depths = (0,) * len(seen)
        if any(not np.array_equal(t, s) for t, s in zip(flow.taken, seen, strict=True)):
            flow = unit.op.flow(unit.site, build, [times + 1 for times in seen], samples)
            depths = tuple(occupancy(s, t + 1) for s, t in zip(seen, flow.taken, strict=True))
        queued = flow.reserved is not None
        straight = patient and not queued and len(seen) == 1
        run.flows[unit.node] = UnitRun(build, tuple(seen), flow, patient, depths)
        run.streams[unit.node] = StreamTiming(flow.valid, build.folding.out_lanes, queued, straight)
        if not queued and not unit.op.is_buffer:
            before = [
                0 if depth or source in run.fifos else run.chains.get(source, 0)
                for source, depth in zip(unit.sources, depths, strict=True)
            ]
            run.chains[unit.node] = 1 + max(before, default=0)
        _offer(run, foldings, unit.node)
    return run


def _stalled(run: Run, name: str) -> Callable[[Ints], Flow]:
    unit, done = run.dataflow.unit(name), run.flows[name]
    return lambda left: unit.op.stalled_flow(unit.site, done.build, done.seen, run.samples, left)


def _offer(run: Run, foldings: Mapping[str, Folding], name: str) -> None:
    """Sets from when each beat of the stream is offered to its readers, and when it leaves."""
    stream = run.streams[name]
    edges = [
        edge_between(stream.lanes, foldings[unit.node].in_lanes)
        for unit in run.dataflow.units
        for source in unit.sources
        if source == name
    ]
    slowest = run.slowest[name] = max((edge.narrow for edge in edges), default=1)
    if len(edges) == 1 and name in run.flows and run.dataflow.unit(name).op.is_buffer:
        flow = run.flows[name].flow
        found = narrowed(flow, slowest, _stalled(run, name))
        if found is not None and _repeats(found.left, run):
            run.waiting.add(name)
            run.streams[name] = replace(stream, valid=found.valid)
            run.flows[name] = replace(run.flows[name], flow=found.flow)
            run.left[name], run.offered[name] = found.left, found.left - slowest + 1
            return
    valid = stream.valid
    chained = bool(edges) and run.chains.get(name, 0) >= _LONGEST_CHAIN
    if (slowest > 1 and not stream.queued) or chained:
        run.fifos.add(name)
        valid = valid + 1
    run.offered[name] = serial(valid, slowest)
    run.left[name] = run.offered[name] + slowest - 1


def _arrivals(run: Run, unit: Unit, folding: Folding) -> tuple[list[Ints], bool]:
    seen, patient = [], True
    for source in unit.sources:
        stream = run.streams[source]
        edge = edge_between(stream.lanes, folding.in_lanes)
        seen.append(pass_edge(run.offered[source], edge))
        alone = run.dataflow.readers(source) == 1
        patient = patient and stream.patient and alone and edge == Edge(1, 1)
    return seen, patient


def _repeats(times: Ints, run: Run) -> bool:
    *_, before, last = times.reshape(run.samples, -1)
    return np.array_equal(last - before, np.full_like(last, run.interval))


def _periodic(run: Run) -> bool:
    for name, stream in run.streams.items():
        for times in (stream.valid, run.left[name]):
            if not _repeats(times, run):
                return False
    return True


def _uneven(run: Run) -> str | None:
    """Returns the first unit whose samples take turns, with inputs that do not."""
    for name, stream in run.streams.items():
        if _repeats(stream.valid, run) and _repeats(run.left[name], run):
            continue
        rows = stream.valid.reshape(run.samples, -1)
        for period in range(2, run.samples // _TURNS + 1):
            last = rows[-_TURNS * period :]
            if (last[period:] - last[:-period] == period * run.interval).all():
                return name if name in run.flows else None
        return None
    return None


def _stored_bits(dataflow: Dataflow, plan: Plan) -> int:
    """Returns the size of all queues."""
    bits = 0
    for unit in dataflow.units:
        done, folding = plan.units[unit.node], plan.units[unit.node].build.folding
        for source, depth in zip(unit.sources, done.in_fifo_depths, strict=True):
            element = dataflow.stream_type(source).stream_width
            bits += (depth + done.build.in_depth) * folding.in_lanes * element
        made = done.build.out_depth + done.fifo_depth
        bits += made * folding.out_lanes * unit.site.output.stream_width
    return bits


def _finish(
    run: Run, ports: Mapping[str, int], interval: int, depths: Mapping[str, Depths]
) -> Plan:
    units = {}
    for name, done in run.flows.items():
        queues = depths[name]
        final = Build(done.build.folding, done.build.rom, queues.in_depth, queues.out_depth)
        first = int(run.streams[name].valid[0])
        units[name] = UnitPlan(final, queues.fifo, queues.in_fifos, first)
    first = min(int(run.offered[stream][0]) for stream in run.dataflow.outputs.values())
    return Plan(units, dict(ports), interval, first)
