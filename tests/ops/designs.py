"""Designs that the generic tests build: a network, random number formats, random foldings."""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from chop.errors import UnsupportedOpError
from chop.formats.rounding import Floats, Ints
from chop.ir.graph import MaseGraph
from chop.ir.manifest import Manifest
from chop.ir.meta import Folding, common_of, hardware_of, update
from chop.ir.words import stream_words
from chop.ops.annotate import run_in_integers
from chop.ops.base import RomOptions
from chop.passes.graph.analysis.add_hardware import add_hardware_metadata_analysis_pass
from chop.passes.graph.analysis.add_metadata import add_common_metadata_analysis_pass
from chop.passes.graph.analysis.init_metadata import init_metadata_analysis_pass
from chop.passes.graph.transforms import (
    emit_bram_transform_pass,
    emit_internal_rtl_transform_pass,
    emit_verilog_tb_transform_pass,
    emit_verilog_top_transform_pass,
    quantize_transform_pass,
)
from chop.schedule.matching import stream_beats
from chop.schedule.plan import UnevenError, ideal_interval, interval_of, make_plan, port_lanes
from chop.schedule.units import Dataflow, Unit, dataflow_of
from chop.sim.simulate import BatchCase, SimulationRun

ROUNDINGS = ("half_up", "floor", "half_even")
ROM_STYLES = ("auto", "logic", "distributed", "block")
EMIT_PASSES = (
    emit_verilog_top_transform_pass,
    emit_internal_rtl_transform_pass,
    emit_bram_transform_pass,
    emit_verilog_tb_transform_pass,
)
# What operators refuse of formats drawn at random: bounds between levels, tables of many bits,
# indices with a fraction, thirds in too many bits.
_REDRAWN = (
    "a bound must be a multiple of",
    "give it a data_in_width of at most",
    "reads indices",
    "no exact requantiser",
    "joins tensors of the scales",
    "is no multiple of a step of its input",
)
# How many of the layers that can be are built without multipliers.
_ADDER_GRAPHS = 0.3
_LEAST_SAMPLES, _MOST_SAMPLES, _CYCLES = 12, 96, 2400


@dataclass(frozen=True, slots=True)
class Formats:
    """From what the random number formats are drawn."""

    widths: tuple[int, int] = (1, 12)
    # The weight of the most significant bit, as an exponent of two.
    whole: tuple[int, int] = (-4, 5)


@dataclass(frozen=True, slots=True, eq=False)
class Design:
    """An emitted design, its inputs as real numbers and all that the reference says of it."""

    label: str
    graph: MaseGraph
    manifest: Manifest
    directory: Path
    inputs: Mapping[str, Floats]
    integers: Mapping[str, Ints]

    def batch_case(self) -> BatchCase:
        m = self.manifest
        streams = stream_words(self.graph, (*m.inputs, *m.outputs, *m.streams), self.integers)
        inputs = {s.name: streams.pop(s.name) for s in m.inputs}
        return BatchCase(self.directory, inputs, streams)


def annotated(model: nn.Module, inputs: Sequence[torch.Tensor]) -> MaseGraph:
    """Returns the captured model with its common metadata."""
    graph = init_metadata_analysis_pass(MaseGraph(model))
    dummy_in = dict(zip(graph.placeholders, inputs, strict=True))
    return add_common_metadata_analysis_pass(graph, {"dummy_in": dummy_in})


def example_batch(
    rng: random.Random, shapes: Sequence[tuple[int, ...]], samples: int
) -> tuple[torch.Tensor, ...]:
    """Returns normal values with some outliers, so that formats saturate now and then."""
    generator = torch.Generator().manual_seed(rng.randrange(1 << 31))
    return tuple(
        torch.randn((samples, *shape), generator=generator) * 2.0 ** rng.randint(-1, 2)
        for shape in shapes
    )


def random_format(rng: random.Random, drawn: Formats, prefix: str) -> dict[str, Any]:
    width = rng.randint(*drawn.widths)
    frac = width - 1 - rng.randint(*drawn.whole)
    config: dict[str, Any] = {f"{prefix}_width": width, f"{prefix}_frac_width": frac}
    if prefix.startswith("data"):
        config[f"{prefix}_signed"] = rng.choice((True, True, False, "auto"))
        if rng.random() < 0.2:
            config[f"{prefix}_frac_width"] = "auto"
    return config


def random_weights(rng: random.Random) -> dict[str, Any]:
    """Returns the configuration of weights that are no fixed-point numbers."""
    found: dict[str, Any] = rng.choice(
        (
            {"format": "binary", "scale": 1.0, "width": None},
            {"format": "ternary", "scale": 1.0, "width": None},
            {"format": "log", "width": rng.randint(2, 4)},
            {"format": "minifloat_ieee", "width": rng.randint(4, 8), "exponent_width": 2},
            {"format": "minifloat_denorm", "width": rng.randint(5, 8), "exponent_width": 3},
            {"format": "fp8_e4m3", "width": None},
            {"format": "mxint", "width": rng.randint(2, 8), "block_size": rng.choice((2, 4, 8))},
        )
    )
    return {f"weight_{key}": value for key, value in found.items()}


def random_quantize(rng: random.Random, graph: MaseGraph, drawn: Formats) -> dict[str, Any]:
    """Returns arguments of `quantize`: an entry of random formats for some operators, a default."""

    def layer() -> dict[str, Any]:
        config = {"name": "integer"}
        for prefix in ("data_in", "weight", "bias"):
            config |= random_format(rng, drawn, prefix)
        if rng.random() < 0.4:
            config |= random_weights(rng)
            del config["weight_frac_width"]
        if rng.random() < 0.6:
            config |= random_format(rng, drawn, "data_out")
        return {"config": config}

    found = {common_of(n).operator for n in graph.fx_graph.nodes if common_of(n).carries_data}
    entries = {name: layer() for name in sorted(found - {"input"}) if rng.random() < 0.7}
    rounding = rng.choice(ROUNDINGS)
    return {"by": "type", "default": layer(), "rounding": rounding, **entries}


def quantised(rng: random.Random, graph: MaseGraph, drawn: Formats) -> MaseGraph:
    """Returns the graph in random formats; those that an operator refuses are drawn again."""
    for _ in range(60):
        arguments = random_quantize(rng, graph, drawn)
        try:
            return quantize_transform_pass(graph, arguments)
        except UnsupportedOpError as error:
            if not any(text in str(error) for text in _REDRAWN):
                raise
    raise AssertionError("no random format suits every operator; widen `Formats`")


def random_foldings(
    rng: random.Random,
    units: Sequence[Unit],
    most_cycles: int = 600,
    adder_graphs: float = _ADDER_GRAPHS,
) -> dict[str, Folding]:
    """Returns any of the valid foldings for every unit, both orders of a linear layer included.

    `adder_graphs` is the share of layers that are to be graphs of additions, where they can.
    """
    found = {}
    for unit in units:
        every = [f for f in unit.op.foldings(unit.site) if f.cycles <= most_cycles]
        if rng.random() < adder_graphs:
            graphs = unit.op.adder_foldings(unit.site)
            every = [f for f in graphs if f.cycles <= most_cycles] or every
        found[unit.node] = rng.choice(every)
    return found


def scheduled(
    rng: random.Random,
    graph: MaseGraph,
    ideal: bool = False,
    adder_graphs: float = _ADDER_GRAPHS,
) -> MaseGraph:
    """Returns the graph with random foldings, of which the samples do not take turns.

    With `ideal`, such that no stream and no layer without multipliers is slower than the others.
    """
    rom_style = rng.choice(ROM_STYLES)
    graph = add_hardware_metadata_analysis_pass(graph, {"rom_style": rom_style})
    dataflow = dataflow_of(graph)
    for _ in range(50):
        foldings = random_foldings(rng, dataflow.units, adder_graphs=adder_graphs)
        if ideal and not keeping_up(rng, dataflow, foldings):
            continue
        try:
            make_plan(dataflow, foldings, RomOptions(rom_style))
        except UnevenError:
            continue
        for node in graph.fx_graph.nodes:
            names = [unit.node for unit in dataflow.units if unit.owner == node.name]
            if names:
                meta = hardware_of(node)
                *stages, last = (
                    replace(part, folding=foldings[name])
                    for name, part in zip(names, (*meta.stages, meta), strict=True)
                )
                update(node, hardware=replace(last, stages=tuple(stages)))
        return graph
    raise AssertionError("no random foldings keep up with one another; draw more often")


def keeping_up(rng: random.Random, dataflow: Dataflow, foldings: dict[str, Folding]) -> bool:
    """Draws the foldings again that lose cycles; returns whether none is left that does."""
    for _ in range(40 * len(foldings)):
        ports = port_lanes(dataflow, foldings)
        ideal = ideal_interval(dataflow, foldings, ports)
        if interval_of(dataflow, foldings, ports) == ideal:
            return True
        slow = {unit.node for unit in dataflow.units if foldings[unit.node].cycles > ideal}
        for unit in dataflow.units:
            for source in unit.sources:
                lanes = foldings[source].out_lanes if source in foldings else ports[source]
                elements = dataflow.stream_type(source).elements
                if stream_beats(elements, lanes, foldings[unit.node].in_lanes) > ideal:
                    slow |= {unit.node, source} - set(ports)
        # An input with too few lanes: its readers have fewer still.
        chosen = dataflow.unit(rng.choice(sorted(slow or foldings)))
        foldings.update(random_foldings(rng, [chosen]))
    return False


def emitted(
    label: str,
    graph: MaseGraph,
    directory: Path,
    top: str,
    rng: random.Random,
    shapes: Sequence[tuple[int, ...]],
) -> Design:
    """Writes a scheduled graph and returns it with random inputs and their reference.

    There are enough samples for the design to show its steady interval: until every queue is full,
    a branch may run ahead of the slowest one.
    """
    arguments = {"project_dir": directory, "top_name": top, "name": top}
    for emit in EMIT_PASSES:
        graph = emit(graph, arguments)
    manifest = Manifest.load(directory)
    interval = manifest.predicted_initiation_interval
    samples = min(_MOST_SAMPLES, max(_LEAST_SAMPLES, _CYCLES // interval))
    batch = example_batch(rng, shapes, samples)
    inputs = {name: x.double().numpy() for name, x in zip(graph.placeholders, batch, strict=True)}
    return Design(label, graph, manifest, directory, inputs, run_in_integers(graph, inputs))


def fake_outputs(design: Design) -> tuple[Floats, ...]:
    """Returns what the fake-quantised network computes in float64."""
    model = copy.deepcopy(design.graph.model).double().eval()
    with torch.no_grad():
        result = model(*(torch.from_numpy(x) for x in design.inputs.values()))
    results = result if isinstance(result, (tuple, list)) else (result,)
    return tuple(r.numpy() for r in results)


def reference_outputs(design: Design) -> tuple[Floats, ...]:
    """Returns the outputs of the integer reference as real numbers."""
    return tuple(s.format.from_integers(design.integers[s.node]) for s in design.manifest.outputs)


def out_of_range(design: Design) -> list[str]:
    """Returns the nodes whose integers leave the bounds that `infer` gave."""
    found = []
    for node in design.graph.fx_graph.nodes:
        common = common_of(node)
        if node.name not in design.integers or common.output.format is None:
            continue
        values, type = design.integers[node.name], common.output
        inside = values.min() >= type.low and values.max() <= type.high
        if not inside or type.low < type.fixed.low or type.high > type.fixed.high:
            found.append(f"{node.name}: {values.min()}..{values.max()} in {type.low}..{type.high}")
    return found


def _repeats(distances: Ints, interval: int) -> bool:
    """Whether the distances repeat, and are `interval` on average over what repeats.

    Mostly they are all equal; where branches of different depth end in ports, some are early and
    the next as much later.
    """
    return any(
        np.array_equal(distances[period:], distances[:-period])
        and distances[:period].sum() == period * interval
        for period in range(1, len(distances) // 2 + 1)
    )


def timing_faults(design: Design, run: SimulationRun) -> list[str]:
    """Returns what differs between the predicted and the measured cycles of an unstalled run."""
    m = design.manifest
    faults = []
    latency = run.first_output_cycle - run.first_input_cycle
    if latency != m.predicted_latency_cycles:
        faults.append(f"latency: predicted {m.predicted_latency_cycles}, measured {latency}")
    steady = np.diff(run.sample_cycles)[-len(run.sample_cycles) // 2 :]
    if not _repeats(steady, m.predicted_initiation_interval):
        faults.append(
            f"interval: predicted {m.predicted_initiation_interval}, measured {steady.tolist()}"
        )
    return [f"{design.label} ({design.directory}): {fault}" for fault in faults]
