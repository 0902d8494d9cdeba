"""What a scheduled design costs: every unit, and the streams that it reads."""

from __future__ import annotations

from chop.ir.meta import Cost
from chop.ops.accumulate import ram_luts
from chop.schedule.pacing import edge_between
from chop.schedule.plan import Plan
from chop.schedule.units import Dataflow

__all__ = ["unit_costs"]


def unit_costs(dataflow: Dataflow, plan: Plan) -> dict[str, Cost]:
    """Returns an estimate for every unit, with the FIFOs, converters and forks beside it.

    Counts 4-input LUTs, as the operators' own estimates do.
    """
    found = {}
    for unit in dataflow.units:
        done = plan.units[unit.node]
        build = done.build
        cost = unit.op.cost(unit.site, build)
        for source, depth in zip(unit.sources, done.in_fifo_depths, strict=True):
            lanes = _lanes(dataflow, plan, source)
            element = dataflow.stream_type(source).stream_width
            wanted = build.folding.in_lanes
            cost += _fifo(depth, wanted * element) + _converters(lanes, wanted, element)
        made = build.folding.out_lanes * unit.site.output.stream_width
        cost += _fifo(done.fifo_depth, made)
        branches = dataflow.readers(unit.node)
        if branches > 1:
            # Of every branch, whether it took the beat.
            cost += Cost(2 * branches, branches)
        found[unit.node] = cost
    return found


def _lanes(dataflow: Dataflow, plan: Plan, stream: str) -> int:
    if stream in dataflow.inputs:
        return plan.input_lanes[stream]
    return plan.units[stream].build.folding.out_lanes


def _fifo(depth: int, width: int) -> Cost:
    """One beat is a register; more lie in a distributed memory with two addresses and a count."""
    if depth == 0:
        return Cost()
    if depth == 1:
        return Cost(2, width + 1)
    index = depth.bit_length()
    return Cost(ram_luts(depth, width) + 6 * index, 3 * index)


def _converters(lanes: int, wanted: int, element: int) -> Cost:
    edge = edge_between(lanes, wanted)
    middle = lanes // edge.narrow * element
    cost = Cost()
    if edge.narrow > 1:
        # A 4-input LUT chooses one of two.
        cost += Cost(middle * (edge.narrow - 1) + 2 * edge.narrow.bit_length(), 4)
    if edge.widen > 1:
        cost += Cost(2 * edge.widen.bit_length() + 2, wanted * element + edge.widen.bit_length())
    return cost
