"""report_graph: rows as data, as a file and as a table."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from chop.errors import ConfigError
from chop.ir.graph import MaseGraph
from chop.ir.meta import hardware_of
from chop.passes.graph.analysis import (
    add_common_metadata_analysis_pass,
    add_hardware_metadata_analysis_pass,
    init_metadata_analysis_pass,
    report_graph_analysis_pass,
)
from tests.passes.networks import Chain, batch, branches, chain, quantised, scheduled, seeded

LANES = {"lanes": {"fc1": [2, 4], "fc2": [1, 3]}}


def test_rows_have_everything_known() -> None:
    graph = add_hardware_metadata_analysis_pass(quantised(chain()), LANES)
    report_graph_analysis_pass(graph)
    report = graph.info["report_graph"]
    rows = {row["node"]: row for row in report["rows"]}
    assert list(rows) == ["x", "x_cast", "fc1", "act", "fc2_data_in", "fc2", "output"]
    node = next(n for n in graph.fx_graph.nodes if n.name == "fc1")
    cost = hardware_of(node).cost
    assert rows["fc1"] == {
        "node": "fc1",
        "op": "linear",
        "in_shape": "6",
        "in_format": "s8.4",
        "weight_format": "s8.6",
        "bias_format": "s8.4",
        "out_shape": "4",
        "out_format": "s15.10",
        "parameters": 28,
        "macs": 24,
        "bit_operations": 1536,
        "host": "",
        "in_lanes": 2,
        "out_lanes": 4,
        "multipliers": 8,
        "cycles": 3,
        "first_output_cycle": hardware_of(node).first_output_cycle,
        "luts": cost.luts,
        "ffs": cost.ffs,
        "dsps": cost.dsps,
        "brams": cost.brams,
    }
    assert rows["fc2_data_in"]["host"] == "act"
    assert rows["fc2_data_in"]["cycles"] == ""
    totals = report["totals"]
    assert (totals["parameters"], totals["macs"]) == (28 + 15, 24 + 12)
    assert (totals["bit_operations"], totals["multipliers"]) == (64 * 36, 11)
    for what in ("luts", "ffs", "dsps", "brams"):
        assert totals[what] == sum(row[what] for row in rows.values() if row[what] != "")
    assert totals["luts"] > cost.luts > 0


def test_what_is_not_known_yet_is_a_dash() -> None:
    graph = init_metadata_analysis_pass(MaseGraph(seeded(Chain)))
    add_common_metadata_analysis_pass(graph, {"dummy_in": {"x": batch(5, 6)}})
    report_graph_analysis_pass(graph)
    (_, row, *_) = graph.info["report_graph"]["rows"]
    known = ("node", "op", "in_shape", "in_format", "out_shape", "out_format")
    assert [row[key] for key in known] == ["fc1", "linear", "6", "float", "4", "float"]
    formats = ("weight_format", "bias_format")
    assert [row[key] for key in formats] == ["", ""]
    assert {v for k, v in row.items() if k not in known + formats} == {"-"}
    assert set(graph.info["report_graph"]["totals"].values()) == {"-"}


def test_files_have_every_row(tmp_path: Path) -> None:
    graph = scheduled(branches())
    report_graph_analysis_pass(graph, {"file": tmp_path / "deep" / "r.csv"})
    report_graph_analysis_pass(graph, {"file": tmp_path / "r.json"})
    report = graph.info["report_graph"]
    assert json.loads((tmp_path / "r.json").read_text(encoding="utf-8")) == report
    with (tmp_path / "deep" / "r.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [{k: str(v) for k, v in row.items()} for row in report["rows"]]
    assert rows[-1]["in_shape"] == "4, 8, 8"
    assert rows[-1]["in_format"].count(", ") == 2
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["r.csv", "r.json"]


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        report_graph_analysis_pass(chain(), {"file": tmp_path / "r.xlsx"})
    assert (
        str(caught.value)
        == f"pass 'report_graph': 'file' must end in .csv or .json, got '{tmp_path}/r.xlsx'"
    )
    assert list(tmp_path.iterdir()) == []


def printed(graph: MaseGraph, columns: int, capsys: pytest.CaptureFixture[str]) -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(columns))
        report_graph_analysis_pass(graph, {"show": True})
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_nothing_is_printed_unasked(capsys: pytest.CaptureFixture[str]) -> None:
    report_graph_analysis_pass(scheduled(chain()))
    assert capsys.readouterr().out == ""


def test_a_float_graph_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(chain(), 100, capsys) == [
        "",
        "Chain",
        "node    op      in       weight  out      params  MACs  bit-ops",
        "───────────────────────────────────────────────────────────────",
        "x       input                    6 float       0     0        0",
        "fc1     linear  6 float          4 float      28    24   24,576",
        "act     relu    4 float          4 float       0     0        0",
        "fc2     linear  4 float          3 float      15    12   12,288",
        "output  output  3 float                        0     0        0",
        "",
        "total                                         43    36   36,864",
        "",
        "lanes, cycles, resources: -  (run add_hardware_metadata_analysis_pass for them)",
        "",
    ]


def test_a_page_gets_two_tables_and_a_wide_terminal_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    graph = add_hardware_metadata_analysis_pass(quantised(chain()), LANES)
    lines = printed(graph, 100, capsys)
    assert max(map(len, lines)) <= 100
    second = lines.index("Chain: hardware (resources are estimates)")
    assert lines[second + 1].split() == [
        *("node", "lanes", "multipliers", "cycles", "first", "LUT", "FF", "DSP", "BRAM")
    ]
    shown = [line.split()[0] for line in lines[second + 3 :] if line]
    assert shown == ["x_cast", "fc1", "act", "fc2_data_in", "fc2", "total"]
    assert "fc2_data_in  in act" in lines
    wide = printed(graph, 200, capsys)
    assert wide[1] == "Chain (resources are estimates)"
    (fc1,) = [line for line in wide if line.startswith("fc1 ")]
    assert fc1.split()[:15] == [
        *("fc1", "linear", "6", "s8.4", "s8.6", "4", "s15.10", "28", "24", "1,536"),
        *("2", "to", "4", "8", "3"),
    ]


def test_each_output_has_its_own_line(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(branches(), 100, capsys)
    at = next(i for i, line in enumerate(lines) if line.startswith("output"))
    cells = [line[18:].strip() for line in lines[at : at + 3]]
    assert [cell[:7] for cell in cells] == ["4 float", "8 float", "8 float"]
