"""One Verilator build of a test bench with every case in it, and its traces."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from chop.tools import run_tool
from tests.rtl.rtl_case import FILES, Case, Signal

HARNESS = tuple(
    Path(__file__).parent / "harness" / name
    for name in ("rtl_random.sv", "rtl_source.sv", "rtl_sink.sv")
)

# (cycles, stall probability of the sources, of the sinks, in 1/256). The first phase has no stalls.
PHASES = (
    (400, 0, 0),
    (300, 128, 0),
    (300, 0, 128),
    (400, 100, 100),
    (300, 230, 20),
    (300, 20, 230),
    (300, 200, 200),
)
# A reset in the middle of traffic ahead of these phases.
RESETS = (2, 4, 5)
RESET_CYCLES = 3


def _columns(case: Case) -> Iterator[tuple[str, int]]:
    for stream in (*case.sources, *case.sinks):
        yield f"{stream.name}_valid", 1
        yield f"{stream.name}_ready", 1
        yield f"{stream.name}_data", stream.bits
    for signal in (*case.randoms, *case.wires):
        yield signal.name, signal.bits


def _literal(value: int | str) -> str:
    if isinstance(value, int):
        return str(value)
    return value if "'" in value else f'"{value}"'


def _instance(
    module: str, name: str, parameters: Mapping[str, str], ports: Mapping[str, str]
) -> str:
    head = ", ".join(f".{k}({v})" for k, v in parameters.items())
    body = ", ".join(f".{k}({v})" for k, v in ports.items())
    return f"  {module} #({head}) {name} ({body});\n" if head else f"  {module} {name} ({body});\n"


def _source(stream: Signal) -> str:
    ports = {name: name for name in ("clk_i", "rst_ni")} | {
        "stall_i": "stall_sources",
        "valid_o": f"{stream.name}_valid",
        "ready_i": f"{stream.name}_ready",
        "data_o": f"{stream.name}_data",
    }
    parameters = {"Lanes": str(stream.lanes), "Width": str(stream.width)}
    return _instance("rtl_source", f"u_source_{stream.name}", parameters, ports)


def _sink(stream: Signal) -> str:
    ports = {name: name for name in ("clk_i", "rst_ni")} | {
        "stall_i": "stall_sinks",
        "ready_o": f"{stream.name}_ready",
    }
    return _instance("rtl_sink", f"u_sink_{stream.name}", {}, ports)


def _random(signal: Signal) -> str:
    lanes = "".join(
        f"    {signal.name}[{lane * signal.width} +: {signal.width}] <= "
        f"{signal.width}'(rtl_random::element({signal.width}));\n"
        for lane in range(signal.lanes)
    )
    return f"  always @(posedge clk_i) begin\n{lanes}  end\n"


def _bench_of(index: int, case: Case) -> str:
    columns = list(_columns(case))
    clock = {"clk_i": "clk_i"} if case.clocked else {}
    reset = {"rst_ni": "rst_ni"} if case.clocked and case.resettable else {}
    parameters = {name: _literal(value) for name, value in case.parameters.items()}
    return "".join(
        (
            f"// {case}\n",
            f"module case{index} (input logic clk_i, input logic rst_ni,\n",
            "  input int unsigned stall_sources, input int unsigned stall_sinks);\n",
            *(f"  logic [{bits - 1}:0] {name};\n" for name, bits in columns),
            *map(_source, case.sources),
            *map(_sink, case.sinks),
            *map(_random, case.randoms),
            _instance(case.module, "u_dut", parameters, {**clock, **reset, **case.ports}),
            f'  int file;\n  initial file = $fopen("case{index}.txt", "w");\n',
            '  always @(posedge clk_i) $fdisplay(file, "%h',
            " %h" * len(columns),
            '", rst_ni, ',
            ", ".join(name for name, _ in columns),
            ");\nendmodule\n",
        )
    )


_TOP = """\
module bench;
  logic clk_i = 0, rst_ni = 0;
  int unsigned stall_sources = 0, stall_sinks = 0;
  initial forever #5 clk_i = !clk_i;
{instances}
  task automatic phase(int unsigned cycles, int unsigned sources, int unsigned sinks, bit reset);
    if (reset) begin
      rst_ni <= 0;
      repeat ({reset_cycles}) @(posedge clk_i);
    end
    rst_ni <= 1;
    stall_sources <= sources;
    stall_sinks <= sinks;
    repeat (cycles) @(posedge clk_i);
  endtask
  initial begin
    @(posedge clk_i);
{phases}    $finish;
  end
endmodule
"""


def write_bench(cases: Sequence[Case]) -> str:
    """Returns the test bench of all cases."""
    instances = "".join(
        f"  case{index} u_case{index} (.clk_i, .rst_ni, .stall_sources, .stall_sinks);\n"
        for index in range(len(cases))
    )
    phases = "".join(
        f"    phase({cycles}, {sources}, {sinks}, {int(index == 0 or index in RESETS)});\n"
        for index, (cycles, sources, sinks) in enumerate(PHASES)
    )
    top = _TOP.format(instances=instances, phases=phases, reset_cycles=RESET_CYCLES)
    return "".join(_bench_of(index, case) for index, case in enumerate(cases)) + top


def build_bench(cases: Sequence[Case], cache: Path) -> Path:
    """Returns the executable of the bench, from the cache when nothing changed."""
    text = write_bench(cases)
    digest = hashlib.sha256(text.encode())
    for file in (*FILES, *HARNESS):
        digest.update(file.read_bytes())
    final = cache / digest.hexdigest()[:16]
    if not (final / "bench").exists():
        cache.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=cache))
        (work / "bench.sv").write_text(text, encoding="utf-8")
        argv = ["verilator", "--binary", "--timing", "-CFLAGS", "-std=c++20 -O0", "-Wno-fatal"]
        argv += ["-Wno-lint", "-Wno-style", "-j", "2", "--top-module", "bench", "-o", "../bench"]
        argv += [*map(str, (*FILES[:1], *HARNESS[:1], *FILES[1:], *HARNESS[1:])), "bench.sv"]
        make = {"MAKEFLAGS": "CFG_CXXFLAGS_PCH_I=-include AR=ar CXX=g++"}
        run_tool(argv, cwd=work, timeout=900, env=make)
        shutil.rmtree(work / "obj_dir")
        try:
            os.rename(work, final)
        except OSError:
            shutil.rmtree(work)  # Another process was faster.
    return final / "bench"


def run_bench(binary: Path, cases: Sequence[Case], seed: int, directory: Path) -> None:
    """Runs the bench; case k leaves its trace in case<k>.txt."""
    for case in cases:
        for name, text in case.roms.items():
            (directory / name).write_text(text, encoding="utf-8")
    done = run_tool([str(binary), f"+verilator+seed+{seed}"], cwd=directory, timeout=300)
    assert "not found" not in done.stdout + done.stderr, done.stdout + done.stderr


def read_trace(directory: Path, index: int, case: Case) -> Iterator[dict[str, int]]:
    """Yields every cycle's values; `rst_ni` is among them."""
    names = ["rst_ni", *(name for name, _ in _columns(case))]
    with (directory / f"case{index}.txt").open(encoding="utf-8") as lines:
        for line in lines:
            values = [int(word, 16) for word in line.split()]
            yield dict(zip(names, values, strict=True))
