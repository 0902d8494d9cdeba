"""plot_graph: the graph as an SVG picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from torch import fx

from chop.errors import ConfigError
from chop.ir.files import write_text
from chop.ir.graph import MaseGraph
from chop.ir.meta import HardwareMeta, common_of, meta_of
from chop.ops.registry import operator
from chop.passes.contract import PassArguments, analysis_pass
from chop.report.layout import Box, Drawing, Point, draw_layers

__all__ = ["plot_graph_analysis_pass"]

# Width of a character of the two text sizes: no font that a browser may take is wider on average.
_NAME_WIDTH, _TEXT_WIDTH = 7.9, 6.7
_LINE, _PADDING, _SWATCH = 16.0, 10.0, 12.0
_LEGEND = 30.0

# Kind -> fill, border. Boxes bring their own background, so that their text reads on any page.
_KINDS: Mapping[str, tuple[str, str]] = {
    "input": ("#d9f2e3", "#2f9e63"),
    "multiplies": ("#dbe7ff", "#3b6fd4"),
    "element-wise": ("#fff0cf", "#c98a0b"),
    "moves data": ("#ece6fa", "#7c5cc4"),
    "constant": ("#eceff2", "#7a8692"),
    "output": ("#ffdfe0", "#cf4a50"),
}
# Readable on white and on black alike.
_LINE_COLOUR = "#7d8794"

_STYLE = (
    "text{font-family:Inter,'Segoe UI',Roboto,Helvetica,Arial,sans-serif;fill:#1c2128}"
    ".n{font-size:13px;font-weight:600}.t{font-size:11.5px;fill:#3d4651}"
    f".l{{font-size:11.5px;fill:{_LINE_COLOUR}}}"
    f".e{{fill:none;stroke:{_LINE_COLOUR};stroke-width:1.5}}"
)


class PlotArguments(PassArguments):
    """`file`: the .svg file to write."""

    file: Path


@dataclass(frozen=True, slots=True)
class _Label:
    """What a box says; `kind` colours it, `dashed` marks a value in floating point."""

    kind: str
    name: str
    lines: tuple[str, ...]
    dashed: bool

    @property
    def size(self) -> tuple[float, float]:
        widths = [len(self.name) * _NAME_WIDTH, *(len(t) * _TEXT_WIDTH for t in self.lines)]
        height = _LINE * (1 + len(self.lines)) + _PADDING
        return max(widths) + 2 * _PADDING, height


@analysis_pass("plot_graph", PlotArguments, ("add_common_metadata",))
def plot_graph_analysis_pass(graph: MaseGraph, arguments: PlotArguments) -> MaseGraph:
    """Draws a box per node, coloured by what it does, and an edge per tensor.

    A box has the node's name, operator, shape and format, and once they are known its lanes and
    cycles per sample. The same graph gives the same bytes. `info["plot_graph"]` counts nodes, edges
    and layers. Raises ConfigError for a file that is not .svg.
    """
    if arguments.file.suffix.lower() != ".svg":
        raise ConfigError(f"pass 'plot_graph': 'file' must end in .svg, got '{arguments.file}'")
    labels = {node.name: _label(node) for node in graph.fx_graph.nodes}
    edges = [(source.name, n.name) for n in graph.fx_graph.nodes for source in n.all_input_nodes]
    drawing = draw_layers({name: label.size for name, label in labels.items()}, edges)
    write_text(arguments.file, _svg(type(graph.model).__name__, labels, drawing))
    layers = len({box.y for box in drawing.boxes.values()})
    graph.info["plot_graph"] = {
        "nodes": len(labels),
        "edges": len(drawing.routes),
        "layers": layers,
    }
    return graph


def _label(node: fx.Node) -> _Label:
    meta, common = meta_of(node), common_of(node)
    if not common.carries_data:
        kind = "output" if common.operator == "output" else "constant"
        text = common.operator if common.operator != node.name else ""
        return _Label(kind, node.name, (text,) if text else (), False)
    shape = "x".join(map(str, common.output.shape)) or "1"
    lines = [common.operator, f"{shape}  {common.output.format or 'float'}"]
    for name, parameter in common.parameters.items():
        lines[0] += f"  {name} {parameter.format}"
    if meta.hardware is not None:
        lines += _hardware(node.name, meta.hardware)
    return _Label(_kind(node), node.name, tuple(lines), common.output.format is None)


def _kind(node: fx.Node) -> str:
    common = common_of(node)
    if common.operator == "input":
        return "input"
    op = operator(common.operator)
    if op.is_layout:
        return "moves data"
    return "multiplies" if op.macs(common.attributes, common.output) else "element-wise"


def _hardware(name: str, meta: HardwareMeta) -> list[str]:
    folding = meta.folding
    if meta.host != name:
        return [f"done in {meta.host}"]
    if folding.cycles == 0:
        return []
    lanes = f"{folding.in_lanes} to {folding.out_lanes} lanes"
    if folding.multipliers == 0:
        lanes = f"{folding.out_lanes} lane{'s' if folding.out_lanes > 1 else ''}"
    return [f"{lanes}, {folding.cycles:,} cycle{'s' if folding.cycles > 1 else ''}"]


def _svg(title: str, labels: Mapping[str, _Label], drawing: Drawing) -> str:
    used = [kind for kind in _KINDS if any(label.kind == kind for label in labels.values())]
    legend = _legend(used)
    width = max(drawing.width, legend[1])
    height = drawing.height + _LEGEND
    shift = (width - drawing.width) / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_number(width)}" '
        f'height="{_number(height)}" viewBox="0 0 {_number(width)} {_number(height)}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{_STYLE}</style>",
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0.5L7.5 4L0 7.5Z" '
        f'fill="{_LINE_COLOUR}"/></marker></defs>',
        legend[0],
        f'<g transform="translate({_number(shift)} {_number(_LEGEND)})">',
        *(_edge(points) for points in drawing.routes.values()),
        *(_box(labels[name], box) for name, box in drawing.boxes.items()),
        "</g>",
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _legend(kinds: list[str]) -> tuple[str, float]:
    """Returns the legend and its width."""
    parts, x = [], 16.0
    for kind in kinds:
        fill, border = _KINDS[kind]
        parts.append(
            f'<rect x="{_number(x)}" y="12" width="{_number(_SWATCH)}" height="{_number(_SWATCH)}" '
            f'rx="3" fill="{fill}" stroke="{border}"/>'
            f'<text class="l" x="{_number(x + _SWATCH + 6)}" y="22">{escape(kind)}</text>'
        )
        x += _SWATCH + 6 + len(kind) * _TEXT_WIDTH + 14
    return "\n".join(parts), x


def _edge(points: tuple[Point, ...]) -> str:
    """A curve that leaves and enters boxes vertically, and runs straight beside them."""
    (x, y), *rest = points
    path = [f"M{_number(x)} {_number(y)}"]
    for to_x, to_y in rest:
        if to_x == x:
            path.append(f"L{_number(to_x)} {_number(to_y)}")
        else:
            middle = _number((y + to_y) / 2)
            path.append(
                f"C{_number(x)} {middle} {_number(to_x)} {middle} {_number(to_x)} {_number(to_y)}"
            )
        x, y = to_x, to_y
    return f'<path class="e" marker-end="url(#arrow)" d="{"".join(path)}"/>'


def _box(label: _Label, box: Box) -> str:
    fill, border = _KINDS[label.kind]
    dash = ' stroke-dasharray="5 3"' if label.dashed else ""
    middle = _number(box.x + box.width / 2)
    parts = [
        f'<rect x="{_number(box.x)}" y="{_number(box.y)}" width="{_number(box.width)}" '
        f'height="{_number(box.height)}" rx="6" fill="{fill}" stroke="{border}" '
        f'stroke-width="1.5"{dash}/>'
    ]
    for i, text in enumerate((label.name, *label.lines)):
        y = _number(box.y + _PADDING / 2 + _LINE * i + 12)
        kind = "t" if i else "n"
        parts.append(
            f'<text class="{kind}" x="{middle}" y="{y}" text-anchor="middle" '
            f'xml:space="preserve">{escape(text)}</text>'
        )
    return "".join(parts)


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
