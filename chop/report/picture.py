"""The graph of a design as SVG: its units, its ports, and the streams between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

from chop.ir.manifest import InstanceEntry, LayerEntry, Manifest, StreamEntry
from chop.report.layout import Box, Point, draw_layers

__all__ = ["MEASURES", "Link", "draw_design", "layer_anchor", "links"]

# What nodes may be coloured by.
MEASURES = (
    ("cycles", "cycles"),
    ("luts", "LUTs"),
    ("ffs", "flip-flops"),
    ("dsps", "DSPs"),
    ("brams", "BRAMs"),
    ("multipliers", "multipliers"),
)
_NAME_WIDTH, _TEXT_WIDTH = 7.6, 6.6
_LINE, _PADDING = 16.0, 12.0
_LAYER_GAP = 34.0


@dataclass(frozen=True, slots=True)
class Link:
    """A stream from a unit or input to a unit or output, through the modules between them.

    `source` and `target` are names of layers or ports; `through` come in the order of the stream.
    """

    source: str
    target: str
    through: tuple[InstanceEntry, ...]
    to_port: bool = False

    @property
    def fifos(self) -> tuple[InstanceEntry, ...]:
        """The queues on the way."""
        return tuple(i for i in self.through if i.module == "chop_fifo")


def layer_anchor(node: str) -> str:
    """Returns the id of a layer's row."""
    return f"layer-{node}"


def links(manifest: Manifest) -> tuple[Link, ...]:
    """Returns every stream between layers and ports, in the order of their readers."""
    known = {instance.name: instance for instance in manifest.instances}
    layers = {layer.instance: layer.node for layer in manifest.layers}

    def trace(source: str) -> tuple[str, tuple[InstanceEntry, ...]]:
        through: list[InstanceEntry] = []
        while source in known and source not in layers:
            through.insert(0, known[source])
            source = known[source].sources[0]
        return layers.get(source, source), tuple(through)

    found = []
    for instance in manifest.instances:
        if instance.name in layers:
            for source in instance.sources:
                start, through = trace(source)
                found.append(Link(start, layers[instance.name], through))
    for output, driver in manifest.drivers.items():
        start, through = trace(driver)
        found.append(Link(start, output, through, to_port=True))
    return tuple(found)


def draw_design(manifest: Manifest) -> str:
    """Returns the graph; a node is a link to its row in the table of layers.

    A node's group has a CSS variable per measure: its share of the largest, 0..1.
    """
    inputs = {entry.name: entry for entry in manifest.inputs}
    # A port may have a layer's name.
    outputs = {_port_key(entry.name): entry for entry in manifest.outputs}
    layers = {layer.node: layer for layer in manifest.layers}
    texts = {
        **{_port_key(n, "in"): (n, f"input {_stream(e)}") for n, e in inputs.items()},
        **{n: (n, _summary(layer)) for n, layer in layers.items()},
        **{key: (e.name, f"output {_stream(e)}") for key, e in outputs.items()},
    }
    edges = {
        (
            link.source if link.source in layers else _port_key(link.source, "in"),
            _port_key(link.target) if link.to_port else link.target,
        ): link
        for link in links(manifest)
    }
    sizes = {key: _size(*text) for key, text in texts.items()}
    drawing = draw_layers(sizes, list(edges), _LAYER_GAP)
    largest = {
        key: max((getattr(layer, key) for layer in layers.values()), default=0)
        for key, _ in MEASURES
    }
    parts = [_edge(points, edges[edge], layers) for edge, points in drawing.routes.items()]
    for key, box in drawing.boxes.items():
        if key in layers:
            parts.append(_layer(layers[key], box, texts[key], largest, manifest))
        else:
            entry = outputs[key] if key in outputs else inputs[texts[key][0]]
            parts.append(_port(entry, box, texts[key]))
    parts += [_pills(points, edges[edge]) for edge, points in drawing.routes.items()]
    width, height = _n(drawing.width), _n(drawing.height)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="graph" data-by="luts" role="group" '
        f'aria-label="Graph of {escape(manifest.name)}" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}">' + "".join(parts) + "</svg>"
    )


def _port_key(name: str, side: str = "out") -> str:
    # No node's name has a colon.
    return f"{side}:{name}"


def _shape(sizes: tuple[int, ...]) -> str:
    return "\u00d7".join(map(str, sizes)) or "1"


def _format(entry: StreamEntry) -> str:
    return entry.format.text or str(entry.format.fixed())


def _stream(entry: StreamEntry) -> str:
    return f"{_shape(entry.shape)} {_format(entry)}"


def _lanes(layer: LayerEntry) -> str:
    if layer.multipliers:
        return f"{layer.in_lanes}\u00d7{layer.out_lanes} lanes"
    return f"{layer.out_lanes} lane{'s' if layer.out_lanes > 1 else ''}"


def _summary(layer: LayerEntry) -> str:
    return f"{layer.operator}, {_lanes(layer)}, {layer.cycles:,} cyc"


def _size(name: str, text: str) -> tuple[float, float]:
    width = max(len(name) * _NAME_WIDTH, len(text) * _TEXT_WIDTH) + 2 * _PADDING
    return width, 2 * _LINE + _PADDING


def _layer(
    layer: LayerEntry,
    box: Box,
    text: tuple[str, str],
    largest: Mapping[str, int],
    manifest: Manifest,
) -> str:
    interval = manifest.predicted_initiation_interval
    tip = (
        f"{layer.node}  ({layer.operator})",
        f"in: {_shape(layer.in_shape)} {layer.in_format}",
        f"out: {_shape(layer.out_shape)} {layer.out_format}",
        f"lanes: {layer.in_lanes} in, {layer.out_lanes} out",
        f"multipliers: {layer.multipliers:,}" if layer.multipliers else "",
        f"cycles: {layer.cycles:,} of {interval:,} ({layer.cycles / interval:.0%})",
        f"first output: cycle {layer.first_output_cycle:,}",
        f"cost: {layer.luts:,} LUT, {layer.ffs:,} FF, {layer.dsps:,} DSP, {layer.brams:,} BRAM",
        f"streams: {layer.stream_luts:,} LUT, {layer.stream_ffs:,} FF"
        if layer.stream_luts or layer.stream_ffs
        else "",
        f"parameters: {layer.parameters:,}" if layer.parameters else "",
        f"MACs: {layer.macs:,}" if layer.macs else "",
        f"module: {layer.module}",
    )
    heat = "".join(f"--{key}:{_share(getattr(layer, key), largest[key])};" for key, _ in MEASURES)
    slow = " slowest" if layer.cycles == largest["cycles"] and layer.cycles else ""
    return (
        f'<a class="node mark{slow}" href="#{escape(layer_anchor(layer.node))}" style="{heat}" '
        f'data-node="{escape(layer.node)}">{_title(tip)}{_box(box, text)}</a>'
    )


def _port(entry: StreamEntry, box: Box, text: tuple[str, str]) -> str:
    tip = (
        f"{entry.name}",
        f"shape: {_shape(entry.shape)}",
        f"format: {_format(entry)}",
        f"beats: {entry.beats:,} of {entry.lanes} lanes, {entry.data_width} bits",
    )
    return (
        f'<g class="port mark" data-node="{escape(entry.name)}">{_title(tip)}{_box(box, text)}</g>'
    )


def _box(box: Box, text: tuple[str, str]) -> str:
    x, y, middle = _n(box.x), _n(box.y), _n(box.x + box.width / 2)
    name, summary = text
    return (
        f'<rect x="{x}" y="{y}" width="{_n(box.width)}" height="{_n(box.height)}" rx="5"/>'
        f'<text class="n" x="{middle}" y="{_n(box.y + 18)}">{escape(name)}</text>'
        f'<text class="t" x="{middle}" y="{_n(box.y + 35)}">{escape(summary)}</text>'
    )


def _edge(points: tuple[Point, ...], link: Link, layers: Mapping[str, LayerEntry]) -> str:
    """A curve that leaves and enters boxes vertically; an arrow's head at its end."""
    (x, y), *rest = points
    path = f"M{_n(x)} {_n(y)}"
    for to_x, to_y in rest:
        middle = _n((y + to_y) / 2)
        curve = f"C{_n(x)} {middle} {_n(to_x)} {middle} {_n(to_x)} {_n(to_y)}"
        path += f"V{_n(to_y)}" if to_x == x else curve
        x, y = to_x, to_y
    head = f"M{_n(x - 3.5)} {_n(y - 6)}L{_n(x)} {_n(y)}L{_n(x + 3.5)} {_n(y - 6)}"
    made = layers.get(link.source)
    tip = (
        f"{link.source} \u2192 {link.target}",
        f"format: {made.out_format}, {_shape(made.out_shape)}" if made else "",
        *(_module(instance) for instance in link.through),
    )
    return (
        f'<g class="edge mark">{_title(tip)}<path class="hit" d="{path}"/><path d="{path}"/>'
        f'<path d="{head}"/></g>'
    )


def _module(instance: InstanceEntry) -> str:
    values = instance.parameters
    if instance.module == "chop_fifo":
        return f"FIFO: {values.get('Depth')} beats of {values.get('Width')} bits"
    if instance.module == "chop_width_converter":
        return f"lanes: {values.get('InLanes')} to {values.get('OutLanes')}"
    if instance.module == "chop_fork":
        return f"fork: {values.get('Outputs')} readers"
    return f"{instance.module.removeprefix('chop_')}: {instance.name}"


def _pills(points: tuple[Point, ...], link: Link) -> str:
    """Returns the depth of the queues, written on the last stretch of the stream."""
    if not link.fifos:
        return ""
    text = "+".join(str(fifo.parameters.get("Depth")) for fifo in link.fifos)
    (from_x, from_y), (to_x, to_y) = points[-2:]
    x, y = (from_x + to_x) / 2, max((from_y + to_y) / 2, to_y - _LAYER_GAP / 2)
    width = _TEXT_WIDTH * (len(text) + 5) + 8
    return (
        f'<g class="pill"><rect x="{_n(x - width / 2)}" y="{_n(y - 8)}" width="{_n(width)}" '
        f'height="16" rx="8"/><text x="{_n(x)}" y="{_n(y + 4)}">FIFO {escape(text)}</text></g>'
    )


def _share(value: int, largest: int) -> str:
    return f"{value / largest:.3f}" if largest else "0"


def _title(lines: tuple[str, ...]) -> str:
    return f"<title>{escape(chr(10).join(line for line in lines if line))}</title>"


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
