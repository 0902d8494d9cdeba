"""plot_graph: the SVG as XML, and its layout as geometry."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from torch import nn

from chop.errors import ConfigError
from chop.ir.graph import MaseGraph
from chop.passes.graph.analysis import plot_graph_analysis_pass
from chop.report.layout import Drawing, draw_layers
from tests.passes.networks import annotated, batch, branches, chain, scheduled

SVG = "{http://www.w3.org/2000/svg}"


def plotted(graph: MaseGraph, place: Path) -> tuple[ElementTree.Element, list[str]]:
    plot_graph_analysis_pass(graph, {"file": place / "plot.svg"})
    root = ElementTree.fromstring((place / "plot.svg").read_text(encoding="utf-8"))
    (group,) = root.findall(f"{SVG}g")
    return root, [text.text or "" for text in group.iter(f"{SVG}text")]


def test_every_node_has_a_box_with_what_is_known(tmp_path: Path) -> None:
    root, texts = plotted(chain(), tmp_path)
    assert texts == [
        *("x", "input", "6  float"),
        *("fc1", "linear", "4  float"),
        *("act", "relu", "4  float"),
        *("fc2", "linear", "3  float"),
        "output",
    ]
    (group,) = root.findall(f"{SVG}g")
    dashed = [rect.get("stroke-dasharray") for rect in group.iter(f"{SVG}rect")]
    assert dashed == ["5 3"] * 4 + [None]
    assert root.findtext(f"{SVG}title") == "Chain"


def test_formats_and_folding_are_shown_once_known(tmp_path: Path) -> None:
    graph = scheduled(chain())
    root, texts = plotted(graph, tmp_path)
    at = texts.index("fc1")
    assert texts[at : at + 4] == [
        "fc1",
        "linear  weight s8.6  bias s8.4",
        "4  s15.10",
        "6 to 4 lanes, 1 cycle",
    ]
    assert "done in act" in texts
    assert "4 lanes, 1 cycle" in texts
    legend = [text.text for text in root.findall(f"{SVG}text")]
    assert legend == ["input", "multiplies", "element-wise", "output"]
    assert graph.info["plot_graph"] == {"nodes": 7, "edges": 6, "layers": 7}


def test_names_are_escaped(tmp_path: Path) -> None:
    graph = chain()
    type(graph.model).__name__ = "<b>&co"
    next(n for n in graph.fx_graph.nodes if n.name == "act").name = "a<\"&'>"
    root, texts = plotted(graph, tmp_path)
    assert "a<\"&'>" in texts
    assert root.findtext(f"{SVG}title") == "<b>&co"


def test_the_same_graph_gives_the_same_bytes(tmp_path: Path) -> None:
    pictures = []
    for name in ("a.svg", "b.svg"):
        plot_graph_analysis_pass(scheduled(branches()), {"file": tmp_path / name})
        pictures.append((tmp_path / name).read_bytes())
    assert pictures[0] == pictures[1]


def test_only_svg_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        plot_graph_analysis_pass(chain(), {"file": tmp_path / "plot.png"})
    assert (
        str(caught.value)
        == f"pass 'plot_graph': 'file' must end in .svg, got '{tmp_path}/plot.png'"
    )


class Wide(nn.Module):
    """One tensor read by five layers of different depth: long edges beside boxes."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(6))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = torch.relu(x)
        results = [y]
        for i, layer in enumerate(self.layers):
            y = layer(y)
            results.append(torch.relu(y) if i % 2 else y)
        return tuple(results)


def check_geometry(drawing: Drawing) -> None:
    """No two boxes overlap, all lie in the picture, and every edge goes down."""
    boxes = list(drawing.boxes.items())
    for i, (a, box) in enumerate(boxes):
        assert box.x >= 0
        assert box.y >= 0
        assert box.x + box.width <= drawing.width
        assert box.y + box.height <= drawing.height
        for b, other in boxes[i + 1 :]:
            apart = (
                box.x + box.width < other.x
                or other.x + other.width < box.x
                or box.y + box.height < other.y
                or other.y + other.height < box.y
            )
            assert apart, (a, b)
    for (a, b), points in drawing.routes.items():
        assert all(y < to_y or x == to_x for (x, y), (to_x, to_y) in pairwise(points))
        for name, box in boxes:
            if name in (a, b):
                continue
            # A route runs straight beside boxes, and turns only between the layers.
            for (x, y), (to_x, to_y) in pairwise(points):
                if x == to_x and y < box.y + box.height and to_y > box.y:
                    assert not box.x < x < box.x + box.width, (a, b, name)


@pytest.mark.parametrize(
    "graph", [annotated(Wide(), batch(3, 4)), scheduled(branches())], ids=["wide", "branches"]
)
def test_boxes_do_not_overlap_and_edges_pass_beside_them(graph: MaseGraph) -> None:
    sizes = {n.name: (40.0 + 20 * len(n.name), 50.0) for n in graph.fx_graph.nodes}
    edges = [(s.name, n.name) for n in graph.fx_graph.nodes for s in n.all_input_nodes]
    drawing = draw_layers(sizes, edges)
    assert set(drawing.routes) == set(edges)
    check_geometry(drawing)


def test_a_chain_is_a_straight_line() -> None:
    sizes = {name: (60.0 + 10 * i, 40.0) for i, name in enumerate("abcde")}
    drawing = draw_layers(sizes, list(pairwise("abcde")))
    check_geometry(drawing)
    assert {round(box.x + box.width / 2, 6) for box in drawing.boxes.values()} == {
        drawing.width / 2
    }


def test_crossings_are_removed() -> None:
    """a-d, b-c given in the crossing order."""
    sizes = dict.fromkeys("abcd", (40.0, 30.0))
    drawing = draw_layers(sizes, [("a", "d"), ("b", "c")])
    check_geometry(drawing)
    boxes = drawing.boxes
    assert (boxes["a"].x < boxes["b"].x) == (boxes["d"].x < boxes["c"].x)


def test_a_node_alone_is_drawn() -> None:
    drawing = draw_layers({"a": (40.0, 30.0)}, [])
    check_geometry(drawing)
    assert (drawing.width, drawing.height) == (72.0, 62.0)
