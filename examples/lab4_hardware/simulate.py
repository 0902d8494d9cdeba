"""Builds and runs the cocotb test of fc_layer for one shape, with cocotb's own runner.

python examples/lab4_hardware/simulate.py            # the layer as it is
python examples/lab4_hardware/simulate.py 8 2        # with other lanes
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cocotb_tools.runner import get_runner

from chop.formats.rounding import Ints
from chop.tools import find_tool

LAB = Path(__file__).parent
IN_FEATURES, OUT_FEATURES = 16, 16


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run said: the tests that failed, the first message, and cycles per vector."""

    failed: tuple[str, ...]
    message: str
    cycles: float | None


def constants(seed: int = 0) -> tuple[Ints, Ints]:
    """Returns W [16, 16] of 8 bits and b [16] of 16 bits; the ends of the range among them."""
    rng = np.random.default_rng(seed)
    weight = rng.integers(-128, 128, (OUT_FEATURES, IN_FEATURES))
    weight[0], weight[1] = -128, 127
    return weight, rng.integers(-(1 << 15), 1 << 15, OUT_FEATURES)


def write_constants(folder: Path, in_lanes: int, out_lanes: int) -> None:
    """Writes W and b as the layer reads them: a word per block of out_lanes by in_lanes."""
    weight, bias = constants()
    blocks = weight.reshape(OUT_FEATURES // out_lanes, out_lanes, -1, in_lanes).transpose(
        0, 2, 1, 3
    )
    words = [
        "".join(f"{int(v) & 0xFF:02x}" for v in reversed(block.ravel()))
        for block in blocks.reshape(-1, out_lanes, in_lanes)
    ]
    (folder / "weights.mem").write_text("\n".join(words) + "\n")
    (folder / "biases.mem").write_text("".join(f"{int(b) & 0xFFFF:04x}\n" for b in bias))
    np.savez(folder / "layer.npz", weight=weight, bias=bias)


def simulate(source: Path, in_lanes: int, out_lanes: int, folder: Path) -> Outcome:
    """Builds the source with Verilator in `folder` and runs the tests of test_fc_layer.py."""
    write_constants(folder, in_lanes, out_lanes)
    verilator = find_tool("verilator").parent
    os.environ["PATH"] = os.pathsep.join((str(verilator), os.environ["PATH"]))
    if (verilator.parent / "include").is_dir():
        os.environ["VERILATOR_ROOT"] = str(verilator.parent)
    log = folder / "run.log"
    with contextlib.redirect_stdout(io.StringIO()):
        runner = get_runner("verilator")
        runner.build(
            sources=[source],
            hdl_toplevel="fc_layer",
            parameters={"InLanes": in_lanes, "OutLanes": out_lanes},
            build_args=["-Wno-fatal", "-CFLAGS", "-O0"],
            build_dir=folder / "build",
            log_file=folder / "build.log",
        )
        with contextlib.suppress(SystemExit):
            runner.test(
                test_module="test_fc_layer",
                hdl_toplevel="fc_layer",
                build_dir=folder / "build",
                test_dir=folder,
                results_xml=str(folder / "results.xml"),
                extra_env={"PYTHONPATH": str(LAB)},
                log_file=log,
            )
    return _outcome(log.read_text(encoding="utf-8"), folder / "results.xml")


def _outcome(log: str, results: Path) -> Outcome:
    cases = list(ElementTree.parse(results).iter("testcase"))
    assert len(cases) == 2, f"the simulation ended early: {log[-2000:]}"
    found = [(case.attrib["name"], case.find("failure")) for case in cases]
    failed = [(name, failure) for name, failure in found if failure is not None]
    cycles = re.search(r"CYCLES ([\d.]+)", log)
    message = failed[0][1].attrib.get("message", "").split("\n")[0] if failed else ""
    return Outcome(tuple(name for name, _ in failed), message, float(cycles[1]) if cycles else None)


if __name__ == "__main__":
    lanes = [int(word) for word in sys.argv[1:3]] or [4, 4]
    with tempfile.TemporaryDirectory() as place:
        outcome = simulate(LAB / "fc_layer.sv", lanes[0], lanes[1], Path(place))
    if outcome.failed:
        sys.exit(f"failed: {', '.join(outcome.failed)}: {outcome.message}")
    print(f"all outputs equal; {outcome.cycles:g} cycles per vector")
