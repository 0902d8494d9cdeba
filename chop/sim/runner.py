"""Runs a built simulation, and the command behind `make sim` in an emitted folder.

Stand-alone: an emitted folder holds a copy of this file, so it imports nothing of chop, and its
sibling modules by relative imports.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import re
import shutil
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .build import Build, RunnerError, build, execute, find_toolchain, lint, tail
from .report import Design, DesignReport, StreamReport, read_design_report, vector_beats

__all__ = [
    "RunFolders",
    "RunOptions",
    "check_roms",
    "count_samples",
    "deadlock_limit",
    "main",
    "run",
    "sources",
]

TEST_MODULE = "test_top"


@dataclasses.dataclass(frozen=True, slots=True)
class RunOptions:
    """How to run: the plusargs of hw/sim/chop_sim_pkg.sv, and what the host does around it.

    Attributes:
        stall: probability that a port stalls in a cycle, 0 <= stall < 1.
        seed: seed of the stalls and of the values that registers have before reset.
        limit: cycles without a handshake on any port that count as a deadlock.
        samples: samples to run; 0 runs all vectors.
    """

    limit: int
    stall: float = 0.0
    seed: int = 0
    samples: int = 0
    timeout_seconds: float = 3600.0

    def __post_init__(self) -> None:
        if not 0 <= self.stall < 1:
            raise RunnerError(
                f"stall probability must be at least 0 and below 1, got {self.stall}; use 0.3"
            )
        if not 0 <= self.seed < 1 << 32:
            raise RunnerError(f"seed must be a 32-bit unsigned integer, got {self.seed}; use 1")

    def plusargs(self, vectors: Path, results: Path) -> list[str]:
        return [
            f"+vectors={vectors}",
            f"+results={results}",
            f"+stall={min(round(self.stall * 2**32), 2**32 - 1)}",
            f"+seed={self.seed}",
            f"+samples={self.samples}",
            f"+limit={self.limit}",
            "+verilator+rand+reset+2",
            # Verilator's own seed has 31 bits and 0 means "choose one".
            f"+verilator+seed+{self.seed % (2**31 - 1) + 1}",
        ]


def deadlock_limit(design: Design, stall: float) -> int:
    """Returns a number of still cycles that no live design shows, by a margin of eight."""
    silent: int = design["predicted_latency_cycles"] + design["predicted_initiation_interval"]
    return min(2**31, 8 * silent + math.ceil(1000 / max(1 - stall, 1e-6)))


def sources(design: Design, directory: Path) -> list[Path]:
    """Returns what Verilator reads of an emitted folder: the RTL and the test bench."""
    return [
        *(directory / path for path in design["rtl"]),
        *sorted((directory / "tb").glob("*.sv")),
        directory / "tb" / "tb.vlt",
    ]


def check_roms(design: Design, directory: Path) -> None:
    """Raises RunnerError when a ROM file is missing, empty or has an X: $readmemh only warns."""
    for name in design["rom"]:
        path = directory / name
        if not path.exists():
            raise RunnerError(f"ROM file '{path}' is missing; emit the design again")
        words = re.sub(r"//.*", "", path.read_text(encoding="utf-8"))
        wrong = re.search(r"[^0-9a-fA-F_\s]", words)
        if wrong or not words.strip():
            what = f"holds {wrong.group()!r}" if wrong else "is empty"
            raise RunnerError(f"ROM file '{path}' {what}; it must hold hexadecimal words")


def count_samples(design: Design, vectors: Path, wanted: int = 0) -> int:
    """Returns how many samples a run has: what the ports' vectors hold, at most `wanted` if not 0.

    Raises RunnerError when vectors are missing or disagree.
    """
    counts: dict[str, float] = {}
    for stream in [*design["inputs"], *design["outputs"]]:
        path = vectors / f"{stream['name']}.hex"
        if not path.exists():
            raise RunnerError(f"vector file '{path}' is missing; emit the design with vectors")
        counts[stream["name"]] = vector_beats(path) * stream["lanes"] / math.prod(stream["shape"])
    different = set(counts.values())
    if len(different) != 1 or not all(count.is_integer() and count for count in different):
        shown = ", ".join(f"{name}: {count:g}" for name, count in counts.items())
        raise RunnerError(f"vectors must hold the same whole number of samples, got {shown}")
    count = int(different.pop())
    return min(count, wanted) if wanted else count


def _environment(test_folder: Path, results: Path) -> dict[str, str]:
    """Returns what a simulator with cocotb in it finds in its environment."""
    import cocotb_tools.config
    import find_libpython

    tools = find_toolchain()
    library = find_libpython.find_libpython()
    if library is None:
        raise RunnerError(
            "libpython not found: install Python's shared library (Debian: libpython3)"
        )
    return {
        **os.environ,
        "PATH": os.pathsep.join([os.environ.get("PATH", ""), str(tools.cocotb_libs)]),
        "PYTHONPATH": os.pathsep.join([str(test_folder), *filter(None, sys.path)]),
        "PYGPI_PYTHON_BIN": sys.executable,
        "GPI_USERS": ";".join([library, cocotb_tools.config.pygpi_entry_point()]),
        "COCOTB_TOPLEVEL": "tb",
        "COCOTB_TEST_MODULES": TEST_MODULE,
        "TOPLEVEL_LANG": "verilog",
        "COCOTB_RESULTS_FILE": str(results / "results.xml"),
        "COCOTB_REWRITE_ASSERTION_FILES": "",
        "COCOTB_TRUST_INERTIAL_WRITES": "1",
        "COCOTB_RANDOM_SEED": "0",
    }


def _run_test(
    command: Sequence[str],
    directory: Path,
    results: Path,
    timeout: float,
    environment: Mapping[str, str],
) -> bool:
    """Runs the simulation; returns whether its cocotb test passed."""
    status, log = execute(command, directory, timeout, environment)
    (results / "simulation.log").write_text(log, encoding="utf-8")
    complaint = re.search(r"^%(Error|Warning).*", log, re.MULTILINE)
    if complaint or status != 0:
        what = complaint.group() if complaint else f"exit status {status}"
        raise RunnerError(f"simulation failed: {what}", command, status, tail(log))
    path = results / "results.xml"
    cases = list(ElementTree.parse(path).iter("testcase")) if path.exists() else []
    if len(cases) != 1:
        raise RunnerError("the cocotb test did not run", command, status, tail(log))
    return cases[0].find("failure") is None and cases[0].find("error") is None


@dataclasses.dataclass(frozen=True, slots=True)
class RunFolders:
    """Where a simulation reads and writes.

    Attributes:
        directory: where it runs, so what ROM paths are relative to.
        vectors, results: of the streams; with several designs a subfolder for each design's top.
            `results` is emptied first.
        test: holds the cocotb test.
    """

    directory: Path
    vectors: Path
    results: Path
    test: Path


def run(
    built: Build, designs: Sequence[Design], folders: RunFolders, options: RunOptions
) -> tuple[list[DesignReport], float]:
    """Simulates and returns a report per design, and the seconds that it took.

    Raises RunnerError when the simulation did not come to an end of its own, or was not sound: a
    warning (a ROM that was not found), or a verdict of the cocotb test that is not the reports'.
    """
    vectors, results = folders.vectors, folders.results
    shutil.rmtree(results, ignore_errors=True)
    parts = [Path(design["top"]) if len(designs) > 1 else Path() for design in designs]
    for part in parts:
        (results / part).mkdir(parents=True, exist_ok=True)
    samples = [
        count_samples(design, vectors / part, options.samples)
        for design, part in zip(designs, parts, strict=True)
    ]
    waves = ["--trace", "--trace-file", str(results / "waves.vcd")] if built.waves else []
    command = [str(built.binary), *waves, *options.plusargs(vectors, results)]
    environment = _environment(folders.test, results)
    started = time.monotonic()
    passed = _run_test(command, folders.directory, results, options.timeout_seconds, environment)
    seconds = time.monotonic() - started
    reports = [
        read_design_report(design, vectors / part, results / part, count, built.check_streams)
        for design, part, count in zip(designs, parts, samples, strict=True)
    ]
    if passed != all(report.passed for report in reports):
        raise RunnerError(f"the cocotb test and the harness disagree; see {results}", command)
    return reports, seconds


def _cell(value: float | None, predicted: int | None = None) -> str:
    if value is None or math.isnan(value):
        return "-"
    text = f"{value:,.3f}".rstrip("0").rstrip(".")
    return text if predicted is None else f"{text} (predicted {predicted:,})"


def _stream_row(stream: StreamReport) -> list[str]:
    remark = stream.broken or (f"{stream.extra} beats too many" if stream.extra else "")
    if stream.wrong is not None:
        w = stream.wrong
        remark = f"sample {w.sample} element {w.element}: expected {w.expected}, got {w.actual}"
    compared = stream.role == "input" or stream.compared
    expected = f"{stream.expected_beats:,}" if compared else "-"
    return [
        *(stream.name, stream.node, stream.role, f"{stream.beats:,} / {expected}"),
        f"{stream.mismatches + stream.missing_elements:,}" if compared else "not compared",
        remark,
    ]


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "\n".join("  " + line.rstrip() for line in lines)


def summary(design: Design, report: DesignReport, options: RunOptions) -> str:
    """Returns the table that `make sim` prints; predictions hold without stalls only."""
    calm = options.stall == 0
    latency = report.first_output_cycle - report.first_input_cycle
    rows = [["stream", "node", "", "beats", "mismatches", ""]]
    rows += [_stream_row(stream) for stream in report.streams]
    facts = [
        ["samples", f"{len(report.sample_cycles):,} / {report.samples:,}"],
        ["mismatches", f"{report.mismatches:,}"],
        ["cycles", f"{report.cycles:,}"],
        [
            "interval",
            _cell(report.interval, design["predicted_initiation_interval"] if calm else None),
        ],
        [
            "latency",
            _cell(
                latency if report.first_output_cycle >= 0 else None,
                design["predicted_latency_cycles"] if calm else None,
            ),
        ],
    ]
    verdict = "PASS" if report.passed else "FAIL (deadlock)" if report.deadlock else "FAIL"
    return "\n".join(
        [
            f"{design['name']}: {verdict}",
            _table(facts),
            "",
            _table(rows),
            *(f"  {line}" for line in report.waiting),
        ]
    )


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Simulate or lint the design in this folder.")
    parser.add_argument("command", choices=["sim", "lint"])
    parser.add_argument("--folder", type=Path, default=Path.cwd())
    parser.add_argument("--stall", type=float, default=0.0, help="stall probability of every port")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=int, default=0, help="0: all that have vectors")
    parser.add_argument("--debug", type=int, default=0, help="1: check every internal stream")
    parser.add_argument("--waves", type=int, default=0, help="1: write tb/results/waves.vcd")
    parser.add_argument("--timeout", type=float, default=3600.0, help="seconds")
    return parser.parse_args(argv)


def _lint(design: Design, folder: Path) -> int:
    complaints = lint([folder / path for path in design["rtl"]], design["top"])
    print(complaints or f"{design['name']}: no warnings")
    return 1 if complaints else 0


def _simulate(design: Design, folder: Path, arguments: argparse.Namespace) -> int:
    vectors = folder / "tb" / "vectors"
    check_roms(design, folder)
    options = RunOptions(
        limit=deadlock_limit(design, arguments.stall),
        stall=arguments.stall,
        seed=arguments.seed,
        samples=arguments.samples,
        timeout_seconds=arguments.timeout,
    )
    samples = count_samples(design, vectors, arguments.samples)
    built = build(
        sources(design, folder),
        check_streams=bool(arguments.debug),
        waves=bool(arguments.waves),
        expected_cycles=samples * design["predicted_initiation_interval"],
    )
    folders = RunFolders(folder, vectors, folder / "tb" / "results", folder / "tb")
    (report,), seconds = run(built, [design], folders, options)
    print(summary(design, report, options))
    print(
        f"  built in {built.seconds:.1f} s, simulated in {seconds:.1f} s"
        f" ({report.cycles / seconds:,.0f} cycles/s)"
    )
    return 0 if report.passed else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Simulates or lints the folder; returns 0 when all is well, 1 when not, 2 for an error."""
    arguments = _arguments(argv)
    folder = arguments.folder.resolve()
    try:
        design: dict[str, Any] = json.loads((folder / "design.json").read_text(encoding="utf-8"))
        if arguments.command == "lint":
            return _lint(design, folder)
        return _simulate(design, folder, arguments)
    except FileNotFoundError as error:
        print(f"error: '{error.filename}' is missing", file=sys.stderr)
    except (RunnerError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        if isinstance(error, RunnerError) and error.tail:
            print(error.tail, file=sys.stderr)
    return 2
