"""The sections on the design itself: what it is, where cycles and area go, what was measured."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from chop.ir.manifest import LayerEntry, Manifest
from chop.report.blocks import (
    BarRow,
    Bars,
    Cell,
    Column,
    Columns,
    Figure,
    Figures,
    Links,
    Note,
    Picture,
    Section,
    Table,
    count,
    percent,
)
from chop.report.inputs import Inputs, Report
from chop.report.numbers import accuracy
from chop.report.picture import MEASURES, draw_design, layer_anchor, links

__all__ = ["area", "cycles", "files", "layers", "measured", "overview", "queues", "structure"]

_RESOURCES = (("luts", "LUT"), ("ffs", "FF"), ("dsps", "DSP"), ("brams", "BRAM"))
# More bars than this, and the smallest become one.
_MOST_BARS, _MOST_CYCLES = 12, 28


def overview(inputs: Inputs) -> Section:
    """Returns the figures that matter, and whether the RTL does what the reference says."""
    m, report = inputs.manifest, inputs.report
    interval = m.predicted_initiation_interval
    items = [
        Figure("Interval", f"{interval:,}", "cycles per sample"),
        Figure("Latency", f"{m.predicted_latency_cycles:,}", "cycles to the first output"),
    ]
    synthesis = report.synthesis if report else None
    if synthesis and synthesis.fmax_mhz:
        rate = synthesis.fmax_mhz * 1e6 / interval
        items += [
            Figure("Clock", f"{synthesis.fmax_mhz:.1f} MHz", synthesis.target),
            Figure("Throughput", _rate(rate), "samples per second at that clock"),
        ]
    if report and report.accuracy:
        accuracy = report.accuracy
        points = 100 * (accuracy.integer_accuracy - accuracy.float_accuracy)
        items.append(
            Figure(
                "Accuracy",
                percent(accuracy.integer_accuracy),
                f"float {percent(accuracy.float_accuracy)} ({points:+.2f} points), "
                f"{accuracy.samples:,} samples",
            )
        )
    source = f"Yosys, {synthesis.target}" if synthesis else "estimated"
    for key, name in _RESOURCES:
        value = getattr(synthesis, key) if synthesis else _total(m.layers, key)
        share = value / synthesis.capacity[key] if synthesis else None
        items.append(
            Figure(
                name,
                f"{value:,}",
                f"{percent(share, 1)} of {synthesis.device}"
                if synthesis and share is not None
                else source,
            )
        )
    items.append(Figure("Multipliers", f"{m.multipliers:,}", f"{_macs(m):,} MACs a sample"))
    if report and report.numbers:
        totals = report.numbers.totals
        ratio = f"1/{totals.size_ratio:.1f} of fp32" if totals.size_ratio else ""
        items.append(Figure("Constants", _kib(totals.size_bits), ratio))
    shapes = ", ".join(f"{e.name} {_shape(e.shape)}" for e in m.inputs)
    results = ", ".join(f"{e.name} {_shape(e.shape)}" for e in m.outputs)
    lead = (
        f"{shapes} \u2192 {results}; {len(m.layers)} units, rounding {m.rounding}, "
        f"config {m.config_hash[:8]}, weights {m.weights_hash[:8]}."
    )
    return Section("overview", m.name, lead, (*_verdicts(inputs), Figures(tuple(items))))


def _verdicts(inputs: Inputs) -> list[Note]:
    report = inputs.report
    if report is None:
        text = (
            f"No report.json in {inputs.run}: accuracy, number formats and measurements are not "
            "here. 'chop transform' makes it."
        )
        return [Note(text)]
    if not report.describes(inputs.manifest):
        return [
            Note(
                f"{inputs.run / 'report.json'} was made from another version of this design: its "
                "layers differ. Run 'chop transform' for a report on this one.",
                "bad",
            )
        ]
    if not report.simulations:
        return [Note("The RTL was not simulated.")]
    wrong = sum(run.mismatches for run in report.simulations)
    elements = sum(run.elements for run in report.simulations)
    stuck = any(run.deadlock for run in report.simulations)
    if stuck or wrong:
        what = "stands still" if stuck else f"differs in {wrong:,} of {elements:,} outputs"
        first = next((r.first_mismatch for r in report.simulations if r.first_mismatch), "")
        return [Note(f"The RTL {what} from the integer reference. {first or ''}".strip(), "bad")]
    runs = len(report.simulations)
    return [
        Note(
            f"RTL equal to the integer reference: {elements:,} outputs in {runs} "
            f"simulation{'s' if runs > 1 else ''}, none differs.",
            "good",
        )
    ]


def structure(inputs: Inputs) -> Section:
    """Returns the graph, and beside it how busy every unit is."""
    m = inputs.manifest
    lead = (
        "Every box is hardware of its own, every arrow a stream. Point at one, or reach it with "
        "the Tab key, for its formats, shapes, lanes and cost; a click leads to its row below."
    )
    if not m.drivers:
        note = "This folder was emitted by an older version, which kept no record of the wiring."
        return Section("graph", "Graph", lead, (Note(note), cycles(m)))
    picture = Picture("Graph of the design", draw_design(m), MEASURES)
    return Section("graph", "Graph", lead, (Columns((picture, cycles(m)), wide_first=True),))


def cycles(manifest: Manifest) -> Bars:
    """Returns how much of the interval every unit is at work."""
    interval = manifest.predicted_initiation_interval
    most = max((layer.cycles for layer in manifest.layers), default=0)
    rows = []
    ordered = sorted(manifest.layers, key=lambda x: -x.cycles)
    for layer in ordered[:_MOST_CYCLES]:
        share = layer.cycles / interval
        rows.append(
            BarRow(
                layer.node,
                share,
                f"{layer.cycles:,}  {share:.0%}",
                "hot" if layer.cycles == most else "",
                f"#{layer_anchor(layer.node)}",
            )
        )
    if rest := ordered[_MOST_CYCLES:]:
        share = rest[0].cycles / interval
        rows.append(BarRow(f"{len(rest)} others", share, f"\u2264 {share:.0%} each", "", "#layers"))
    slowest = [layer.node for layer in manifest.layers if layer.cycles == most]
    note = f"Cycles per sample; the full width is the interval, {interval:,}. "
    if slowest:
        note += f"{_listed(slowest)} set{'s' if len(slowest) == 1 else ''} the pace"
        note += f" of {most:,}." if most != interval else "."
    else:
        note += "The ports set the pace."
    return Bars("Where the cycles go", tuple(rows), note)


def area(inputs: Inputs) -> Section:
    """Returns the units sorted by what they take, one list per resource."""
    m = inputs.manifest
    lists = []
    for key, name in _RESOURCES:
        total = _total(m.layers, key)
        taken = [(layer.node, getattr(layer, key), layer_anchor(layer.node)) for layer in m.layers]
        streams = sum(getattr(layer, f"stream_{key}", 0) for layer in m.layers)
        if streams:
            taken.append(("FIFOs, converters, forks", streams, "queues"))
        taken = sorted((entry for entry in taken if entry[1]), key=lambda entry: -entry[1])
        shown, rest = taken[:_MOST_BARS], taken[_MOST_BARS:]
        if rest:
            shown.append((f"{len(rest)} others", sum(value for _, value, _ in rest), "layers"))
        most = max((value for _, value, _ in shown), default=1)
        rows = tuple(
            BarRow(node, value / most, f"{value:,}  {value / total:.0%}", "", f"#{anchor}")
            for node, value, anchor in shown
        )
        lists.append(
            Bars(f"{name}: {total:,}", rows, "" if rows else f"The design takes no {name}.")
        )
    lead = (
        "The compiler's estimate of every unit, largest first. LUTs are counted as 4-input ones; "
        "the sum stands beside Yosys' count under Predicted and measured."
    )
    return Section("area", "Where the area goes", lead, (Columns(tuple(lists)),))


def layers(inputs: Inputs) -> Section:
    """Returns the table of all units, in the order of the data."""
    m = inputs.manifest
    interval = m.predicted_initiation_interval
    most = {key: max((getattr(x, key) for x in m.layers), default=0) or 1 for key, _ in _RESOURCES}
    columns = (
        *(Column("unit"), Column("operator"), Column("in"), Column("out")),
        Column("lanes", True, "elements per beat, in and out"),
        Column("cycles", True, "per sample; the bar is the share of the interval"),
        Column("first", True, "cycle of the first output, from the first input"),
        *(Column(name, True, "estimate") for _, name in _RESOURCES),
        *(Column("mult.", True, "multipliers"), Column("params", True), Column("MACs", True)),
    )
    rows = tuple(
        (
            Cell(layer.node),
            Cell(layer.operator),
            Cell(f"{_shape(layer.in_shape)} {layer.in_format}"),
            Cell(f"{_shape(layer.out_shape)} {layer.out_format}"),
            Cell(f"{layer.in_lanes}\u00d7{layer.out_lanes}", sort=layer.in_lanes * layer.out_lanes),
            _number(layer.cycles, layer.cycles / interval),
            _number(layer.first_output_cycle),
            *(_number(getattr(layer, k), getattr(layer, k) / most[k]) for k, _ in _RESOURCES),
            _number(layer.multipliers),
            _number(layer.parameters),
            _number(layer.macs),
        )
        for layer in m.layers
    )
    anchors = tuple(layer_anchor(layer.node) for layer in m.layers)
    table = Table("Units in the order of the data", columns, rows, anchors)
    lead = "A head sorts the table. LUT, FF, DSP and BRAM are the compiler's estimate."
    return Section("layers", "Units", lead, (table,))


def queues(inputs: Inputs) -> Section | None:
    """Returns the FIFOs between units and the buffers inside them; None where none is known."""
    rows = []
    for link in links(inputs.manifest):
        for fifo in link.fifos:
            depth, width = int(fifo.parameters["Depth"]), int(fifo.parameters["Width"])
            rows.append((f"{link.source} \u2192 {link.target}", "FIFO", depth, width))
    for instance in inputs.manifest.instances:
        values = instance.parameters
        for name, what in (("InDepth", "input buffer"), ("OutDepth", "output queue")):
            beats = values.get(name)
            if instance.node and isinstance(beats, int) and beats > 1:
                lanes, bits = _beat(values, name)
                rows.append((instance.node, what, beats, lanes * bits))
    if not rows:
        return None
    most = max(depth * width for _, _, depth, width in rows) or 1
    rows.sort(key=lambda row: -row[2] * row[3])
    cells = tuple(
        (
            Cell(place),
            Cell(what),
            _number(depth),
            _number(width),
            _number(depth * width, depth * width / most),
        )
        for place, what, depth, width in rows
    )
    columns = (
        *(Column("stream"), Column("queue"), Column("beats", True, "the most that it ever holds")),
        *(Column("bits a beat", True), Column("bits", True)),
    )
    lead = (
        "Depths are the most that a queue holds in a run at the interval: none is ever full, "
        "and none is deeper than it need be."
    )
    return Section("queues", "Queues", lead, (Table("Queues by size", columns, cells),))


def _beat(values: dict[str, int | str], name: str) -> tuple[int, int]:
    """Returns lanes and bits per lane of a unit's own buffer; 1 bit where it does not say."""
    side = "In" if name == "InDepth" else "Out"
    lanes = values.get(f"{side}Lanes", values.get("Lanes", 1))
    bits = values.get(f"{side}Width", 1)
    return (lanes if isinstance(lanes, int) else 1), (bits if isinstance(bits, int) else 1)


def measured(inputs: Inputs) -> Section | None:
    """Returns predictions beside measurements; None where nothing was measured."""
    m, report = inputs.manifest, inputs.report
    if report is None or not (report.simulations or report.synthesis):
        return None
    rows = [
        _compared("interval, cycles", m.predicted_initiation_interval, value, what)
        for value, what in _runs(report, "initiation_interval")
    ]
    rows += [
        _compared("first output, cycles", m.predicted_latency_cycles, value, what)
        for value, what in _runs(report, "latency_cycles")
    ]
    blocks: list[Table | Bars] = []
    if report.synthesis:
        for key, name in _RESOURCES:
            found = getattr(report.synthesis, key)
            rows.append(_compared(name, _total(m.layers, key), found, report.synthesis.target))
    columns = (
        *(Column("quantity"), Column("predicted", True), Column("measured", True)),
        *(Column("difference", True), Column("by")),
    )
    blocks.append(Table("Predicted and measured", columns, tuple(rows)))
    rates = accuracy(inputs)
    blocks += [rates] if rates else []
    blocks += [_device(report)] if report.synthesis else []
    lead = (
        f"Cycles are predicted exactly; stalls, which the simulation makes on purpose, may only "
        f"delay. The shortest interval that the multipliers allow is "
        f"{m.ideal_initiation_interval:,} cycles."
    )
    return Section("measured", "Predicted and measured", lead, (Columns(tuple(blocks)),))


def _runs(report: Report, name: str) -> list[tuple[float, str]]:
    return [
        (
            getattr(run, name),
            f"RTL, stalls {run.stall_probability:g}" if run.stall_probability else "RTL, no stalls",
        )
        for run in report.simulations
    ]


def _compared(name: str, predicted: float, found: float, what: str) -> tuple[Cell, ...]:
    difference = "0" if found == predicted else "-"
    if predicted and found != predicted:
        difference = f"{100 * (found - predicted) / predicted:+.1f} %"
    text = f"{found:,.2f}".rstrip("0").rstrip(".") if found % 1 else f"{found:,.0f}"
    tone = "good" if found == predicted else ""
    return (
        Cell(name),
        _number(round(predicted)),
        Cell(text, sort=found),
        Cell(difference, tone=tone),
        Cell(what),
    )


def _device(report: Report) -> Bars:
    synthesis = report.synthesis
    assert synthesis is not None, "asked by the caller"
    rows = []
    for key, name in _RESOURCES:
        used, there = getattr(synthesis, key), synthesis.capacity.get(key, 0)
        share = used / there if there else 0.0
        tone = "bad" if share > 1 else ""
        rows.append(BarRow(name, min(share, 1.0), f"{used:,} of {there:,}  {share:.1%}", tone))
    note = synthesis.fmax_note
    if synthesis.fmax_mhz:
        note = f"{synthesis.fmax_mhz:.1f} MHz: {note}. Slowest path: {synthesis.critical_path}."
    return Bars(f"{synthesis.device} ({synthesis.target})", tuple(rows), note)


def files(inputs: Inputs, output: Path) -> Section:
    """Returns links to the emitted files, relative to the page."""
    m = inputs.manifest
    groups = (
        ("Design", ("design.json", *(n for n in ("graph.pt",) if (inputs.build / n).is_file()))),
        ("RTL", m.rtl),
        ("Constants", m.rom),
        ("Test bench", m.testbench),
        (
            "Synthesis",
            tuple(
                sorted(
                    f"synth/{p.name}" for p in (inputs.build / "synth").glob("*.*") if p.is_file()
                )
            ),
        ),
    )
    run = tuple(sorted(path.name for path in inputs.run.glob("*.json")))
    found = [
        (title, tuple((name, _address(inputs.build / name, output)) for name in names))
        for title, names in groups
        if names
    ]
    if run:
        found.append(("Run", tuple((n, _address(inputs.run / n, output)) for n in run)))
    lead = (
        f"The links lead to {_address(inputs.build, output)}, seen from the folder of this page, "
        "and hold as long as both stay where they are."
    )
    return Section("files", "Files", lead, (Links(tuple(found)),))


def _address(path: Path, output: Path) -> str:
    from urllib.parse import quote

    return quote(Path(os.path.relpath(path.resolve(), output.resolve().parent)).as_posix())


def _number(value: int, share: float | None = None) -> Cell:
    return Cell(f"{value:,}" if value else "\u2013", share if value else None, value)


def _total(layers: Sequence[LayerEntry], key: str) -> int:
    return sum(getattr(x, key) + getattr(x, f"stream_{key}", 0) for x in layers)


def _macs(manifest: Manifest) -> int:
    return sum(layer.macs for layer in manifest.layers)


def _shape(sizes: tuple[int, ...]) -> str:
    return "\u00d7".join(map(str, sizes)) or "1"


def _kib(bits: int) -> str:
    return f"{bits / 8192:,.1f} KiB"


def _rate(rate: float) -> str:
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if rate >= limit:
            return f"{rate / limit:.3g} {unit}"
    return count(rate)


def _listed(names: Sequence[str]) -> str:
    if len(names) > 4:
        return f"{', '.join(names[:3])} and {len(names) - 3} others"
    *first, last = names or ["nothing"]
    return f"{', '.join(first)} and {last}" if first else last
