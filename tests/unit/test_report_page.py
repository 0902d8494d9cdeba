"""The page about a design: whole, self-contained, and true to its files."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import pytest
import torch
from torch import nn

import chop
from chop.cli.main import main
from chop.ir.manifest import Manifest
from chop.report.inputs import read_inputs
from chop.report.page import render_page
from chop.report.picture import links
from chop.report.search import importance
from tests.unit.report_fixture import (
    Element,
    make_compression,
    make_design,
    parse,
    write_study,
)


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_design(tmp_path_factory.mktemp("page"))


@pytest.fixture
def copy(build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the design and its run, with a study; it is the working directory."""
    shutil.copytree(build.parent.parent, tmp_path / "job")
    monkeypatch.chdir(tmp_path / "job")
    folder = Path("build/residual").absolute()
    write_study(folder)
    return folder


def _page(build: Path) -> str:
    run = build.parent.parent / "runs" / build.name
    return render_page(read_inputs(build, run), run / "report.html")


def _rows(root: Element, title: str) -> list[list[str]]:
    for figure in (e for e in root.all() if e.tag == "figure"):
        if figure.children[0].shown() == title:
            return [
                [cell.shown() for cell in row.children]
                for row in figure.all()
                if row.tag == "tr" and row.children[0].attributes.get("scope") == "row"
            ]
    raise AssertionError(f"no table '{title}'")


def test_the_page_is_one_whole_file(copy: Path) -> None:
    text = _page(copy)
    root = parse(text)
    assert {e.tag for e in root.all()} & {"link", "iframe", "img", "object", "embed"} == {"link"}
    for element in root.all():
        for name in ("src", "href", "action", "srcset"):
            value = element.attributes.get(name) or ""
            assert ":" not in value or value == "data:,", value
    assert re.findall(r"url\(|@import|\bfetch\(|XMLHttpRequest|import\(", text) == []
    assert set(re.findall(r"https?://[^\"'\s<]*", text)) == {"http://www.w3.org/2000/svg"}
    ids = [e.attributes["id"] for e in root.all() if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    inner = [e.attributes["href"] or "" for e in root.all() if "href" in e.attributes]
    assert {h[1:] for h in inner if h.startswith("#")} <= set(ids)
    assert text == _page(copy)


def test_every_unit_and_port_is_in_the_graph(build: Path) -> None:
    m = Manifest.load(build)
    root = parse(_page(build))
    shown = [e.attributes["data-node"] for e in root.all() if "data-node" in e.attributes]
    ports = [entry.name for entry in (*m.inputs, *m.outputs)]
    assert sorted(map(str, shown)) == sorted([*ports, *(layer.node for layer in m.layers)])
    tips = {
        e.parent.attributes.get("data-node"): e.shown().split("\n")
        for e in root.all()
        if e.tag == "title" and e.parent is not None
    }
    for layer in m.layers:
        tip = tips[layer.node]
        assert f"lanes: {layer.in_lanes} in, {layer.out_lanes} out" in tip
        cost = f"{layer.luts:,} LUT, {layer.ffs:,} FF, {layer.dsps:,} DSP, {layer.brams:,} BRAM"
        assert f"cost: {cost}" in tip
        assert any(line.startswith("out: ") and layer.out_format in line for line in tip)


def test_the_graph_has_the_design_s_streams_and_queues(build: Path) -> None:
    m = Manifest.load(build)
    found = {(link.source, link.target) for link in links(m)}
    nodes = {layer.node for layer in m.layers}
    assert {target for _, target in found} == nodes | {entry.name for entry in m.outputs}
    (join,) = (layer.node for layer in m.layers if layer.operator == "tensor_add")
    assert len([1 for _, target in found if target == join]) == 2
    fifos = [fifo for link in links(m) for fifo in link.fifos]
    assert {fifo.name for fifo in fifos} == {i.name for i in m.instances if i.module == "chop_fifo"}
    assert fifos
    rows = _rows(parse(_page(build)), "Queues by size")
    depths = sorted(row[2] for row in rows if row[1] == "FIFO")
    assert depths == sorted(f"{fifo.parameters['Depth']:,}" for fifo in fifos)


class _Clash(nn.Module):
    """A layer by the name that a port has, two inputs, and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.y0, self.z = nn.Linear(4, 4), nn.Linear(6, 4)

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        first = self.y0(x)
        return first, torch.relu(first + self.z(z))


@pytest.mark.parametrize(
    ("model", "widths", "nodes"),
    [
        (nn.Flatten(), [(2, 3)], ["x", "y"]),
        (_Clash(), [(4,), (6,)], ["add", "relu", "x", "y0", "y0_out", "y1", "z", "z_1"]),
    ],
    ids=["wires", "clash"],
)
def test_odd_designs_have_a_page(
    model: nn.Module, widths: list[tuple[int, ...]], nodes: list[str], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(8, *width) for width in widths]
    build = tmp_path / "build/odd"
    example = [x[:1] for x in inputs]
    compiled = chop.compile(model, example, calibration_inputs=inputs, out_dir=build)
    root = parse(render_page(read_inputs(build, tmp_path), tmp_path / "page.html"))
    shown = [str(e.attributes["data-node"]) for e in root.all() if "data-node" in e.attributes]
    ports = {entry.name for entry in compiled.manifest.inputs}
    assert sorted("x" if n in ports and n == "input_1" else n for n in shown) == nodes
    arrows = [e for e in root.all() if "edge" in (e.attributes.get("class") or "").split()]
    assert len(arrows) == len(links(compiled.manifest))


def test_the_tables_say_what_the_files_say(build: Path) -> None:
    m = Manifest.load(build)
    root = parse(_page(build))
    rows = {row[0]: row for row in _rows(root, "Units in the order of the data")}
    assert list(rows) == [layer.node for layer in m.layers]
    for layer in m.layers:
        numbers = (
            *(layer.cycles, layer.first_output_cycle, layer.luts, layer.ffs, layer.dsps),
            *(layer.brams, layer.multipliers, layer.parameters, layer.macs),
        )
        assert rows[layer.node][5:] == [f"{n:,}" if n else "\u2013" for n in numbers]
    report = json.loads((build.parent.parent / "runs/residual/report.json").read_text())
    noise = {row[0]: row[4] for row in _rows(root, "Number formats, node by node")}
    for row in report["numbers"]["rows"]:
        expected = "\u2013" if row["sqnr_db"] is None else f"{row['sqnr_db']:.1f}"
        assert noise[row["node"]] == expected
    compared = _rows(root, "Predicted and measured")
    assert compared[0][1:4] == [f"{m.predicted_initiation_interval}", "16", "0"]
    shown = root.shown()
    assert "93.75 %" in shown
    assert "RTL equal to the integer reference: 512 outputs in 2 simulations" in shown


def test_links_lead_to_the_files(copy: Path) -> None:
    output = Path("elsewhere/deep/page.html").absolute()
    output.parent.mkdir(parents=True)
    text = render_page(read_inputs(copy, Path("runs/residual")), output)
    files = [
        e.attributes["href"] or ""
        for e in parse(text).all()
        if e.tag == "a" and not (e.attributes["href"] or "").startswith("#")
    ]
    m = Manifest.load(copy)
    assert len(files) >= 2 + len(m.rtl) + len(m.rom) + len(m.testbench)
    for address in files:
        assert (output.parent / unquote(address)).is_file(), address


def test_what_users_name_is_escaped(copy: Path) -> None:
    text = _page(copy)
    assert "<width>" not in text
    assert "study &amp; &lt;more&gt;" in text
    assert text.count("</script>") == 1


@pytest.mark.parametrize("objectives", [1, 2])
def test_a_study_is_shown(copy: Path, objectives: int) -> None:
    study = json.loads(write_study(copy, objectives=objectives).read_text())
    if objectives == 1:
        for trial in study["trials"]:
            trial["intermediate"] = [0.5, 0.6, 0.8]
        Path("runs/residual/search.json").write_text(json.dumps(study))
    root = parse(_page(copy))
    assert ("Training inside the trials" in root.shown()) == (objectives == 1)
    circles = [
        e for e in root.all() if e.tag == "circle" and "mark" in (e.attributes["class"] or "")
    ]
    tips = {(e.children[0].shown() if e.children else "").split("\n")[0] for e in circles}
    for trial in study["trials"]:
        name = f"trial {trial['number']}"
        assert ({name, f"{name} (infeasible)"} & tips != set()) == (trial["state"] == "complete")
    assert "37 complete" in root.shown()


def test_an_infeasible_study_says_so(copy: Path) -> None:
    write_study(copy, feasible=False)
    shown = parse(_page(copy)).shown()
    assert "No trial kept every constraint. Trial 0 misses them least" in shown


def test_compression_is_shown(copy: Path) -> None:
    Path("runs/residual/compression.json").write_text(json.dumps(make_compression()))
    root = parse(_page(copy))
    stages = {row[0]: row[1:] for row in _rows(root, "Stage by stage")}
    assert stages["prune"] == ["94.00 %", "1,000", "100", "500", "8.0"]
    assert stages["code"] == ["94.50 %", "1,000", "100", "125", "32.0"]
    (tensor,) = _rows(root, "Tensor by tensor, after the last stage")
    assert tensor[-3:] == ["74", "125", "32.0"]


def test_importance_is_the_planted_one(copy: Path) -> None:
    study = read_inputs(copy, Path("runs/residual")).study
    assert study is not None
    done = [trial for trial in study.trials if trial.values]
    (first, share), (second, rest) = importance(study, done, 1)
    assert (first, second) == ("fc1.<width>", "fc2.<width>")
    assert share > 0.95 > 0.3 > rest


def test_a_report_of_another_design_is_pointed_out(copy: Path) -> None:
    path = Path("runs/residual/report.json")
    report = json.loads(path.read_text())
    report["layers"][0]["cycles"] += 1
    path.write_text(json.dumps(report))
    shown = parse(_page(copy)).shown()
    assert "was made from another version of this design" in shown
    assert "RTL equal" not in shown


def test_mismatches_are_not_hidden(copy: Path) -> None:
    path = Path("runs/residual/report.json")
    report = json.loads(path.read_text())
    report["simulations"][1]["mismatches"] = 3
    path.write_text(json.dumps(report))
    shown = parse(_page(copy)).shown()
    assert "The RTL differs in 3 of 512 outputs from the integer reference." in shown


def test_a_design_without_a_run_has_a_page(copy: Path) -> None:
    shutil.rmtree("runs")
    assert main(["report", "build/residual"]) == 0
    shown = parse(Path("runs/residual/report.html").read_text()).shown()
    assert "No report.json in runs/residual" in shown


def test_the_command_writes_the_page(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "build/residual"]) == 0
    assert capsys.readouterr().out == "wrote runs/residual/report.html\n"
    assert Path("runs/residual/report.html").read_text() == _page(copy)
    assert main(["report", "build/residual", "--output", "x/y.html", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"file": "x/y.html"}
    assert Path("x/y.html").is_file()


@pytest.mark.parametrize(
    ("file", "text", "line"),
    [
        (
            "build/residual/design.json",
            "{",
            "'build/residual/design.json' is not a design manifest",
        ),
        ("runs/residual/report.json", "{", "'runs/residual/report.json' is malformed: "),
        (
            "runs/residual/report.json",
            '{"accuracy": 3}',
            "report.json' is malformed at 'accuracy': ",
        ),
        (
            "runs/residual/search.json",
            '{"name": "x"}',
            "search.json' is malformed at 'objectives': ",
        ),
        ("runs/residual/metrics.json", "[]", "metrics.json' is malformed: "),
        ("runs/residual/compression.json", "[1]", "compression.json' is malformed: "),
        ("runs/residual/compression.json", "{}", "compression.json' is malformed at 'file': "),
    ],
)
def test_malformed_files_are_one_line(
    copy: Path, file: str, text: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(file).write_text(text)
    assert main(["report", "build/residual"]) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not Path("runs/residual/report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["gone"], "error: no folder 'gone'; emit a design with 'chop emit', or name its folder\n"),
        (
            ["runs"],
            "error: no design in 'runs': design.json is missing; emit one with 'chop emit'\n",
        ),
        (
            ["build/residual", "--run", "gone"],
            "error: no folder 'gone'; name that of a run, such as runs/<name>\n",
        ),
        (
            ["build/residual", "-o", "runs"],
            "error: 'runs' is a folder; name a file, such as 'runs/report.html'\n",
        ),
    ],
)
def test_missing_places_are_one_line(
    copy: Path, arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", *arguments]) == 2
    assert capsys.readouterr().err == line
