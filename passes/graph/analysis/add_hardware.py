"""add_hardware_metadata: lanes, folding, buffers and the predicted cycles of every node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from chop.ir.graph import MaseGraph
from chop.ir.meta import Cost, Folding, HardwareMeta, update
from chop.ops.base import RomOptions
from chop.passes.contract import analysis_pass
from chop.schedule.budget import Budget, Scheduled, schedule
from chop.schedule.options import HardwareOptions
from chop.schedule.plan import Plan, UnitPlan
from chop.schedule.units import Dataflow, Unit, dataflow_of
from chop.synth.targets import find_target

__all__ = ["add_hardware_metadata_analysis_pass", "planned_metadata"]

_NO_HARDWARE = Folding(0, 0, 0, 0)


@analysis_pass("add_hardware_metadata", HardwareOptions, ("add_common_metadata",))
def add_hardware_metadata_analysis_pass(graph: MaseGraph, arguments: HardwareOptions) -> MaseGraph:
    """Schedules the design; `info["add_hardware_metadata"]` holds its interval, latency and cost.

    The cost is an estimate with queues and converters, and the budget stands beside it. Raises
    ConfigError when the options cannot be met, UnsupportedOpError for a node in floating point.
    """
    dataflow = dataflow_of(graph)
    rom, budget = RomOptions(style=arguments.rom_style), _budget(arguments)
    scheduled = schedule(dataflow, arguments, rom, budget)
    planned = planned_metadata(graph, dataflow, scheduled.plan)
    for node in graph.fx_graph.nodes:
        update(node, hardware=planned[node.name])
    graph.info["add_hardware_metadata"] = _report(scheduled, budget, arguments)
    return graph


def _budget(arguments: HardwareOptions) -> Budget:
    limits, who = {}, {}
    if arguments.device is not None:
        target = find_target(arguments.device)
        limits = asdict(target.capacity)
        who = dict.fromkeys(limits, f"device '{target.name}'")
    most = arguments.max_luts
    if most is not None and most <= limits.get("luts", most):
        limits["luts"], who["luts"] = most, "max_luts"
    return Budget(limits, who)


def planned_metadata(graph: MaseGraph, dataflow: Dataflow, plan: Plan) -> dict[str, HardwareMeta]:
    """Returns every node's hardware metadata according to the plan, by node name."""
    built: dict[str, list[HardwareMeta]] = {}
    for unit in dataflow.units:
        built.setdefault(unit.owner, []).append(_unit_metadata(unit, plan.units[unit.node]))
    found = {}
    for node in graph.fx_graph.nodes:
        if node.name in built:
            *stages, last = built[node.name]
            found[node.name] = replace(last, stages=tuple(stages))
        else:
            host = dataflow.hosts.get(node.name, node.name)
            found[node.name] = HardwareMeta(host, _NO_HARDWARE, 0, 0, 0, 0, Cost())
    return found


def _unit_metadata(unit: Unit, done: UnitPlan) -> HardwareMeta:
    build = done.build
    return HardwareMeta(
        unit.node,
        build.folding,
        build.in_depth,
        build.out_depth,
        done.fifo_depth,
        done.first_output_cycle,
        unit.op.cost(unit.site, build),
    )


def _report(scheduled: Scheduled, budget: Budget, arguments: HardwareOptions) -> Mapping[str, Any]:
    plan = scheduled.plan
    return {
        "initiation_interval": plan.initiation_interval,
        "latency_cycles": plan.latency_cycles,
        "multipliers": sum(u.build.folding.multipliers for u in plan.units.values()),
        "cost": asdict(scheduled.total),
        "budget": dict(budget.limits),
        "target_initiation_interval": arguments.target_initiation_interval,
        "rom_style": arguments.rom_style,
        "rounding": arguments.rounding,
    }
