"""No FIFO deeper than needed: the depths that cost no cycle, found in the design's event graph.

The depths of a plan suffice, by a schedule that it has made (waiting.py). Here they are reduced one
after the other, the largest first, as long as every output still comes in the cycle planned. Judge
is the least solution of the event graph (chop/ops/events.py): when things happen in a design that
is given a sample every interval. That is exact, and one beat less than what is found here delays an
output, sooner or later, or stops the design.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from chop.formats.rounding import Ints
from chop.ops.events import EventGraph, Offer
from chop.ops.timing import occupancy
from chop.schedule.pacing import edge_between
from chop.schedule.solving import NEVER, Solver

if TYPE_CHECKING:
    from chop.schedule.plan import Plan
    from chop.schedule.units import Dataflow

__all__ = ["Design", "FifoKey", "design_of", "trimmed"]

# A unit and the number of its input, or -1 for the FIFO behind it.
FifoKey = tuple[str, int]


@dataclass(frozen=True, slots=True, eq=False)
class Design:
    """The event graph of a plan, its FIFOs' depths, and the sequence of every output."""

    graph: EventGraph
    depths: Mapping[FifoKey, int]
    outputs: Mapping[str, int]


def design_of(dataflow: Dataflow, plan: Plan) -> Design | None:
    """Returns the event graph of a plan; None where a unit's events have no fixed order."""
    graph = EventGraph(plan.initiation_interval)
    depths: dict[FifoKey, int] = {}
    branches: dict[str, list[Offer]] = {}
    outputs: dict[str, int] = {}

    def distribute(stream: str, offer: Offer, depth: int) -> None:
        if depth:
            depths[stream, -1] = depth
            offer = graph.fifo(offer, (stream, -1))
        branches[stream] = graph.fork(offer, dataflow.readers(stream))

    for name, type in dataflow.inputs.items():
        distribute(name, graph.source(type.elements // plan.input_lanes[name]), 0)
    for unit in dataflow.units:
        done = plan.units[unit.node]
        inputs = []
        for number, source in enumerate(unit.sources):
            made = plan.units.get(source)
            lanes = made.build.folding.out_lanes if made else plan.input_lanes[source]
            edge = edge_between(lanes, done.build.folding.in_lanes)
            offer = graph.widen(graph.narrow(branches[source].pop(0), edge.narrow), edge.widen)
            depth = done.in_fifo_depths[number]
            if depth:
                depths[unit.node, number] = depth
                offer = graph.fifo(offer, (unit.node, number))
            inputs.append(offer)
        result = unit.op.events(unit.site, done.build, graph, inputs)
        if result is None:
            return None
        distribute(unit.node, result, done.fifo_depth)
    for name, stream in dataflow.outputs.items():
        outputs[name] = graph.take(branches[stream].pop(0))
    return Design(graph, depths, outputs)


def trimmed(
    design: Design, ends: Mapping[str, Ints], widths: Mapping[FifoKey, int]
) -> dict[FifoKey, int] | None:
    """Returns the least depths with which the outputs come in the cycles `ends` of a sample.

    `widths` are the bits of a beat. None where the depths of the design do not give these outputs.
    """
    graph, depths = design.graph, dict(design.depths)
    solver = Solver(graph)
    latest = [np.full(len(s), NEVER) for s in graph.sequences]
    for name, sequence in design.outputs.items():
        latest[sequence] = np.minimum(latest[sequence], ends[name])
    times = solver.earliest(depths, latest)
    if times is None:
        return None
    latest = solver.latest(depths, {n: latest[n] for n in design.outputs.values()})
    for key in sorted(depths, key=lambda k: -depths[k] * widths[k]):
        into, out = graph.fifos[key]
        # Beats that come in as late and leave as early as they can are in it in any case.
        low, high = _least(latest[into], times[out], graph.interval), depths[key]
        probe = low
        while low < high:
            found = solver.earliest({**depths, key: probe}, latest, times, {into})
            if found is None:
                low = probe + 1
            else:
                high, depths[key] = probe, probe
                best = found
            probe = (low + high) // 2
        if depths[key] < design.depths[key]:
            times = best
    return depths


def _least(into: Ints, out: Ints, interval: int) -> int:
    """Returns the most beats that are in a FIFO at once."""
    if (into >= NEVER // 2).any():
        return 1
    samples = 2 + max(0, int(out.max() - into.min()) // interval)
    ramp = np.arange(samples, dtype=np.int64)[:, None] * interval
    return max(1, occupancy((into + ramp).reshape(-1), (out + ramp).reshape(-1) + 1))
