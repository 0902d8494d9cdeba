"""What an emitted folder is made from: netlist, manifest and the text of the top."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import jinja2

from chop.ir.graph import MaseGraph
from chop.ir.manifest import InstanceEntry, LayerEntry, Manifest
from chop.ir.meta import Cost, common_of, meta_of
from chop.ops.base import RomOptions
from chop.passes.graph.analysis.add_hardware import add_hardware_metadata_analysis_pass
from chop.schedule.costs import unit_costs
from chop.schedule.netlist import Netlist, build_netlist
from chop.schedule.plan import Plan, ideal_interval, make_plan
from chop.schedule.units import Unit, dataflow_of, foldings_of

__all__ = ["Design", "design_of", "generated_sources", "library_sources"]

_LIBRARY = ("arith", "layers", "memory", "stream")
_COLUMNS = ("node", "operator", "in", "out", "lanes", "cycles", "first", "multipliers")


@dataclass(frozen=True, slots=True)
class Design:
    """A scheduled graph, ready to be written."""

    netlist: Netlist
    manifest: Manifest

    def top_text(self) -> str:
        """Returns the SystemVerilog of the top module."""
        m = self.manifest
        chain = " -> ".join(
            ["x".join(map(str, m.inputs[0].shape))]
            + ["x".join(map(str, layer.out_shape)) for layer in m.layers if layer.macs]
        )
        title = f"{m.name}: {chain}, {m.multipliers} multipliers"
        summary = (
            f"A sample every {m.predicted_initiation_interval} cycles; the first output "
            f"{m.predicted_latency_cycles} cycles after the first input."
        )
        values = {
            "net": self.netlist,
            "title": title,
            "table": _table(m.layers),
            "summary": summary,
            "config_hash": m.config_hash,
            "weights_hash": m.weights_hash,
        }
        return _render("top.sv.j2", values)


def design_of(graph: MaseGraph, name: str, top: str, config_hash: str) -> Design:
    """Returns the design of a graph; one that has no schedule gets the default one."""
    # Not by the history: a transform after that pass has dropped its metadata.
    if any(meta_of(node).hardware is None for node in graph.fx_graph.nodes):
        graph = add_hardware_metadata_analysis_pass(graph, None)
    report = graph.info["add_hardware_metadata"]
    dataflow = dataflow_of(graph)
    foldings = foldings_of(graph, dataflow)
    # ROM files of several designs in one simulation must not collide.
    rom = RomOptions(report["rom_style"], prefix="" if top == "top" else f"{top}_")
    plan = make_plan(dataflow, foldings, rom)
    netlist = build_netlist(dataflow, plan, top)
    names = {instance.node: instance.name for instance in netlist.instances}
    costs = unit_costs(dataflow, plan)
    layers = tuple(
        _layer(unit, names[unit.node], plan, costs[unit.node]) for unit in dataflow.units
    )
    instances, drivers = _wiring(netlist)
    manifest = Manifest(
        name=name,
        top=top,
        rounding=report["rounding"],
        inputs=netlist.inputs,
        outputs=netlist.outputs,
        streams=netlist.streams,
        layers=layers,
        instances=instances,
        drivers=drivers,
        multipliers=report["multipliers"],
        ideal_initiation_interval=ideal_interval(
            dataflow, foldings, plan.input_lanes, report["target_initiation_interval"]
        ),
        predicted_initiation_interval=plan.initiation_interval,
        predicted_latency_cycles=plan.latency_cycles,
        rtl=(
            f"rtl/{top}.sv",
            *(f"rtl/{source.module}.sv" for source in netlist.sources),
            *(f"rtl/{path.name}" for path in library_sources(netlist)),
        ),
        testbench=(),
        rom=tuple(memory.file for memory in netlist.memories),
        config_hash=config_hash,
        weights_hash=_weights_hash(graph),
    )
    return Design(netlist, manifest)


def generated_sources(netlist: Netlist) -> dict[str, str]:
    """Returns the text of the modules that are written for this design alone, by name."""
    return {s.module: _render(s.template, s.values) for s in netlist.sources}


def library_sources(netlist: Netlist) -> list[Path]:
    """Returns the files of the library that the design instantiates, packages first."""
    root = Path(str(files("chop.hw")))
    known = {path.stem: path for folder in _LIBRARY for path in (root / folder).glob("*.sv")}
    own = {source.module for source in netlist.sources}
    wanted = sorted({instance.module for instance in netlist.instances} - own)
    for text in generated_sources(netlist).values():
        wanted += sorted(w for w in set(re.findall(r"\bchop_\w+ #", text)) if w[:-2] in known)
    wanted = [word.removesuffix(" #") for word in wanted]
    found: set[str] = set()
    while wanted:
        word = wanted.pop()
        if word not in found:
            found.add(word)
            text = re.sub(r"//[^\n]*", "", known[word].read_text(encoding="utf-8"))
            wanted += [w for w in re.findall(r"\bchop_\w+", text) if w in known]
    return [known[word] for word in sorted(found, key=lambda w: (not w.endswith("_pkg"), w))]


def _render(template: str, values: Mapping[str, object]) -> str:
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    text = (files("chop.hw") / "templates" / template).read_text(encoding="utf-8")
    return environment.from_string(text).render(values)


def _wiring(netlist: Netlist) -> tuple[tuple[InstanceEntry, ...], dict[str, str]]:
    """Returns the instances with what each of them reads, and what drives every output port."""
    makers = {f"{entry.signal}_data_i": entry.name for entry in netlist.inputs}
    for instance in netlist.instances:
        for port, expression in instance.connections:
            if port.endswith("data_o"):
                makers[expression] = instance.name
    entries = tuple(
        InstanceEntry(
            name=instance.name,
            module=instance.module,
            node=instance.node,
            parameters=dict(instance.parameters),
            sources=tuple(
                makers[signal]
                for port, expression in instance.connections
                if port.endswith("data_i")
                for signal in reversed(expression.strip("{}").split(", "))
            ),
        )
        for instance in netlist.instances
    )
    assigned = dict(netlist.assigns)
    drivers = {}
    for entry in netlist.outputs:
        port = f"{entry.signal}_data_o"
        drivers[entry.name] = makers[assigned.get(port, port)]
    return entries, drivers


def _layer(unit: Unit, instance: str, plan: Plan, whole: Cost) -> LayerEntry:
    done = plan.units[unit.node]
    folding, site = done.build.folding, unit.site
    cost = unit.op.cost(site, done.build)
    return LayerEntry(
        node=unit.node,
        instance=instance,
        operator=unit.op.name,
        module=unit.op.bind(site, done.build).module,
        in_shape=site.inputs[0].shape,
        in_format=str(site.inputs[0].fixed),
        out_shape=site.output.shape,
        out_format=str(site.output.fixed),
        in_lanes=folding.in_lanes,
        out_lanes=folding.out_lanes,
        cycles=folding.cycles,
        first_output_cycle=done.first_output_cycle,
        multipliers=folding.multipliers,
        parameters=sum(p.values.size for p in site.parameters.values()),
        macs=unit.op.macs(site.attributes, site.exact),
        luts=cost.luts,
        ffs=cost.ffs,
        dsps=cost.dsps,
        brams=cost.brams,
        stream_luts=whole.luts - cost.luts,
        stream_ffs=whole.ffs - cost.ffs,
    )


def _weights_hash(graph: MaseGraph) -> str:
    digest = hashlib.sha256()
    for node in graph.fx_graph.nodes:
        for name, parameter in sorted(common_of(node).parameters.items()):
            digest.update(f"{node.name}.{name}:{parameter.format}".encode())
            digest.update(parameter.values.tobytes())
    return digest.hexdigest()[:16]


def _table(layers: tuple[LayerEntry, ...]) -> list[str]:
    rows = [_COLUMNS]
    for layer in layers:
        shapes = ("x".join(map(str, shape)) for shape in (layer.in_shape, layer.out_shape))
        ins, outs = shapes
        rows.append(
            (
                layer.node,
                layer.operator,
                f"{ins} {layer.in_format}",
                f"{outs} {layer.out_format}",
                f"{layer.in_lanes} x {layer.out_lanes}" if layer.macs else str(layer.out_lanes),
                str(layer.cycles),
                str(layer.first_output_cycle),
                str(layer.multipliers or "-"),
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
    return [
        "  ".join(
            cell.ljust(width) if i < 5 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
