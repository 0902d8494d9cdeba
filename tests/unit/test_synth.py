"""Targets, cell counts and scripts: what needs no tool."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from chop.errors import ConfigError, DataError, VerifyError
from chop.ir.manifest import Manifest
from chop.synth.scripts import resources_command, route_command, shell_command, write_scripts
from chop.synth.synthesize import SynthesisReport, synthesize_design
from chop.synth.targets import TARGETS, Family, Resources, count_resources, find_target

_DESIGN = Path(__file__).parents[1] / "e2e" / "synthesis_design"


def _design(folder: Path) -> Path:
    shutil.copytree(_DESIGN, folder / "design")
    return folder / "design"


@pytest.mark.parametrize(
    ("family", "cells", "expected"),
    [
        (
            "ecp5",
            {
                "LUT4": 10, "CCU2C": 3, "TRELLIS_DPR16X4": 2, "PFUMX": 7, "L6MUX21": 5,
                "TRELLIS_FF": 4, "MULT18X18D": 2, "DP16KD": 1, "PDPW16KD": 1, "$scopeinfo": 9,
            },
            Resources(luts=28, ffs=4, dsps=2, brams=2),
        ),
        (
            "ice40",
            {
                "SB_LUT4": 5, "SB_CARRY": 9, "SB_DFF": 1, "SB_DFFESR": 2, "SB_MAC16": 3,
                "SB_RAM40_4K": 4, "SB_RAM40_4KNR": 1,
            },
            Resources(luts=5, ffs=3, dsps=3, brams=5),
        ),
        (
            "gowin",
            {
                "LUT1": 1, "LUT4": 2, "ALU": 4, "INV": 1, "RAM16SDP4": 2, "MUX2_LUT5": 8,
                "DFFRE": 5, "MULT9X9": 3, "MULT18X18": 2, "MULT36X36": 1, "SPX9": 1, "pROM": 1,
                "DPX9B": 1, "IBUF": 3, "OBUF": 2, "GND": 1, "VCC": 1,
            },
            Resources(luts=24, ffs=5, dsps=15, brams=3),
        ),
        (
            "xc7",
            {
                "LUT1": 1, "LUT6": 2, "LUT6_2": 1, "INV": 1, "SRL16E": 1, "SRLC32E": 1,
                "RAM32M": 3, "RAM64X1D": 1, "CARRY4": 6, "MUXF7": 2, "MUXF8": 1, "FDRE": 4,
                "FDSE": 1, "DSP48E1": 2, "RAMB18E1": 1, "RAMB36E1": 2, "BUFG": 1,
            },
            Resources(luts=21, ffs=5, dsps=2, brams=5),
        ),
        ("xcup", {"RAM32M16": 2, "RAM64M8": 1, "DSP48E2": 1, "RAMB36E2": 1, "CARRY8": 3},
         Resources(luts=24, dsps=1, brams=2)),
    ],
)  # fmt: skip
def test_counts_cells_as_the_vendor_does(
    family: Family, cells: dict[str, int], expected: Resources
) -> None:
    assert count_resources(family, cells) == expected


@pytest.mark.parametrize("cell", ["$_DLATCH_P_", "DSP48E1", "LUT5"])
def test_a_cell_that_would_go_uncounted_is_an_error(cell: str) -> None:
    with pytest.raises(VerifyError) as caught:
        count_resources("ecp5", {"LUT4": 1, cell: 1})
    assert str(caught.value) == (
        f"family 'ecp5': Yosys left a cell '{cell}' that no resource is counted for; "
        "add it to chop/synth/targets.py"
    )


def test_targets_say_how_they_route_or_why_not() -> None:
    assert list(TARGETS) == [
        "ecp5-25k", "ecp5-45k", "ecp5-85k", "ice40-up5k", "gowin-gw1n9", "xc7", "xcup",
        "ecp5-85k-nodsp", "xcup-nodsp",
    ]  # fmt: skip
    for name, target in TARGETS.items():
        assert find_target(name) is target
        assert bool(target.router) != bool(target.no_router)
        assert bool(route_command(target)) == bool(target.router)
        assert bool(shell_command(target)) == bool(target.router and target.router.pins)
        assert resources_command(target)[-1] == f"synth/{name}.ys"


def test_an_unknown_target() -> None:
    with pytest.raises(ConfigError) as caught:
        find_target("ecp5-80k")
    assert str(caught.value) == "unknown target 'ecp5-80k'; did you mean 'ecp5-85k'?"


def test_scripts_are_byte_stable_and_hold_no_absolute_path(tmp_path: Path) -> None:
    folders = [_design(tmp_path / name) for name in ("one", "two")]
    manifest = Manifest.load(folders[0])
    names = [write_scripts(manifest, folder) for folder in folders]
    assert names[0] == names[1]
    assert len(set(names[0])) == len(names[0])
    written = sorted(p.relative_to(folders[0]).as_posix() for p in folders[0].glob("synth/**/*"))
    assert written == sorted(names[0])
    for name in names[0]:
        text = (folders[0] / name).read_bytes()
        assert text == (folders[1] / name).read_bytes()
        assert text.endswith(b"\n")
        assert not re.search(rb"(?<![\w.$)}*])/(?:tmp|work|home|usr|root)\b", text)


def test_the_pin_shell_connects_every_port_once(tmp_path: Path) -> None:
    design = _design(tmp_path)
    write_scripts(Manifest.load(design), design)
    shell = (design / "synth/chop_pin_shell.sv").read_text(encoding="utf-8")
    top = (design / "rtl/top.sv").read_text(encoding="utf-8")
    ports = re.findall(r"(\w+_(?:i|o|ni))\b", top[: top.index(");")])
    instance = shell[shell.index(" u_design (") : shell.index("  always_ff")]
    assert sorted(re.findall(r"\.(\w+) \(", instance)) == sorted(ports)
    slices = re.findall(r"\((inputs_q|outputs)\[(\d+):(\d+)\]\)", instance)
    for vector, width in (("inputs_q", 34), ("outputs", 26)):
        bits = [b for v, h, low in slices if v == vector for b in range(int(low), int(h) + 1)]
        assert bits == list(range(width))


def test_vivado_script_runs_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs the Tcl with Vivado's commands recorded: files, part and clock as they reach it."""
    design = _design(tmp_path)
    write_scripts(Manifest.load(design), design)
    monkeypatch.chdir(design)
    # A Python may come without Tcl; .ci/run installs it where it can.
    tcl = pytest.importorskip("tkinter", reason="this Python has no Tcl").Tcl()
    vivado = (
        "read_verilog", "read_mem", "read_xdc", "synth_design", "opt_design", "place_design",
        "phys_opt_design", "route_design", "report_utilization", "report_timing_summary",
        "write_checkpoint",
    )  # fmt: skip
    calls: list[tuple[str, ...]] = []
    for command in vivado:
        tcl.createcommand(command, lambda *a, c=command: calls.append((c, *a)))
    tcl.eval("set argv {xc7a100tcsg324-1 8.0}")
    tcl.evalfile("synth/vivado.tcl")
    assert tuple(call[0] for call in calls) == vivado
    by_name = {call[0]: call[1:] for call in calls}
    manifest = Manifest.load(design)
    assert tuple(tcl.splitlist(by_name["read_verilog"][1])) == manifest.rtl
    assert tuple(tcl.splitlist(by_name["read_mem"][0])) == manifest.rom
    assert by_name["synth_design"][:4] == ("-top", "top", "-part", "xc7a100tcsg324-1")
    clock = Path("synth/results/vivado/clock.xdc").read_text(encoding="utf-8")
    assert clock == "create_clock -name clk_i -period 8.0 [get_ports clk_i]\n"


def test_utilisation_is_a_share_of_the_device() -> None:
    capacity = Resources(luts=100, ffs=200, dsps=4, brams=5)
    report = SynthesisReport("t", "d", 25, 10, 4, 0, capacity, None, "", None, 1.0)
    assert report.utilisation == {"luts": 0.25, "ffs": 0.05, "dsps": 1.0, "brams": 0.0}
    without = replace(report, capacity=replace(capacity, dsps=0), dsps=0)
    assert (without.utilisation["dsps"], without.fits) == (0.0, True)
    assert not replace(without, dsps=1).fits


def test_a_folder_that_is_not_a_whole_design(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        synthesize_design(tmp_path, "ecp5-25k")
    assert str(caught.value) == (
        f"no design in '{tmp_path}': design.json is missing; emit one with 'chop emit'"
    )
    design = _design(tmp_path)
    missing = design / "rom/fc1_weight.mem"
    missing.unlink()
    with pytest.raises(DataError) as caught:
        synthesize_design(design, "ecp5-25k")
    assert str(caught.value) == f"design 'tiny': '{missing}' is missing; emit again"
