"""Simulates emitted folders and compares every beat with what the compiler says it computes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chop.errors import SimulationError, ToolError
from chop.formats.rounding import Ints
from chop.ir.manifest import Manifest, StreamEntry
from chop.ir.stream import hex_to_beats
from chop.sim.build import Build, RunnerError, build
from chop.sim.report import DesignReport, steady_interval
from chop.sim.runner import RunFolders, RunOptions, check_roms, deadlock_limit, run, sources
from chop.sim.testbench import write_batch_testbench, write_vectors

__all__ = [
    "BatchCase",
    "Mismatch",
    "SimulationOptions",
    "SimulationRun",
    "simulate_batch",
    "simulate_design",
]

# Of a batch's simulation: a process may usually have 1024. It bounds the memory of a build as well.
_MAX_OPEN_FILES = 400


@dataclass(frozen=True, slots=True)
class SimulationOptions:
    """How to simulate.

    Attributes:
        stall_probability: per cycle and port, independent, at least 0 and below 1; 0 never stalls.
        seed: of the stalls and of what registers hold before reset, an unsigned 32-bit integer.
        check_streams: compare every internal stream too; needs its expected values.
        waves: write <directory>/tb/results/waves.vcd.
    """

    stall_probability: float = 0.0
    seed: int = 0
    check_streams: bool = False
    waves: bool = False
    timeout_seconds: float = 3600.0


@dataclass(frozen=True, slots=True)
class Mismatch:
    """An element that is not the expected one; `element` counts in stream order."""

    stream: str
    node: str
    sample: int
    element: int
    expected: int
    actual: int

    def __str__(self) -> str:
        return (
            f"node '{self.node}', stream '{self.stream}', sample {self.sample}, "
            f"element {self.element}: expected {self.expected}, got {self.actual}"
        )


@dataclass(frozen=True, slots=True)
class SimulationRun:
    """What the RTL did. Cycles count from reset; NaN-free: -1 stands for "never".

    Attributes:
        outputs: stream name to the integers [samples, elements], in stream order, that the RTL
            gave; after a deadlock only the complete samples.
        mismatches: elements that differ from the expected ones or never came.
        first_mismatch: on the first stream, producers first, that has an element that differs.
        cycles: from reset to the last beat on any port, that one included.
        first_input_cycle, first_output_cycle: when the first beat was offered, and came out.
        sample_cycles: [samples] when each sample's last output beat was taken.
        deadlock: the design stood still with beats to come.
        waiting: a line for every stream with beats to come: who waits for whom.
        build_seconds, run_seconds: wall-clock time; in a batch they are the batch's.
    """

    outputs: Mapping[str, Ints]
    mismatches: int
    first_mismatch: Mismatch | None
    cycles: int
    first_input_cycle: int
    first_output_cycle: int
    sample_cycles: Ints
    deadlock: bool
    waiting: tuple[str, ...]
    build_seconds: float
    run_seconds: float

    @property
    def initiation_interval(self) -> float:
        """Cycles between samples once the queues are full; NaN for fewer than two samples."""
        return steady_interval(self.sample_cycles.tolist())

    @property
    def passed(self) -> bool:
        """Whether every element came and is the expected one."""
        return self.mismatches == 0 and not self.deadlock


@dataclass(frozen=True, slots=True)
class BatchCase:
    """A design of a batch: its emitted folder, and values as for `simulate_design`."""

    directory: Path
    inputs: Mapping[str, Ints]
    expected: Mapping[str, Ints]


@contextmanager
def _runner_errors() -> Iterator[None]:
    """Turns the stand-alone runner's errors into ours: a tool's failure, or an unsound folder."""
    try:
        yield
    except RunnerError as error:
        if error.command:
            raise ToolError(str(error), error.command, error.returncode, error.tail) from error
        tail = f"\n{error.tail}" if error.tail else ""
        raise SimulationError(f"{error}{tail}") from error


def _check_values(manifest: Manifest, case: BatchCase, check_streams: bool) -> int:
    """Returns the number of samples; SimulationError when a stream has no values, or too few."""
    needed = [(s, case.inputs, "input") for s in manifest.inputs]
    needed += [(s, case.expected, "expected") for s in manifest.outputs]
    needed += [(s, case.expected, "expected") for s in manifest.streams if check_streams]
    counts = {}
    for stream, values, kind in needed:
        if stream.name not in values:
            raise SimulationError(
                f"design '{manifest.name}': stream '{stream.name}' has no {kind} values; "
                f"got {kind} values of {', '.join(values) or 'nothing'}"
            )
        counts[stream.name] = len(values[stream.name])
    if len(set(counts.values())) != 1 or 0 in counts.values():
        raise SimulationError(
            f"design '{manifest.name}': every stream must have the same number of samples, "
            f"at least one, got {counts}"
        )
    return next(iter(counts.values()))


def _write_case(
    manifest: Manifest, case: BatchCase, directory: Path, folder: str, check_streams: bool
) -> None:
    wanted = [*manifest.outputs, *(manifest.streams if check_streams else ())]
    values = {s.name: case.inputs[s.name] for s in manifest.inputs}
    values |= {s.name: case.expected[s.name] for s in wanted}
    write_vectors(manifest, directory, values, folder)


def _captured(stream: StreamEntry, results: Path, samples: int) -> Ints:
    """Returns what a sink wrote, as [complete samples, elements]."""
    text = (results / f"{stream.name}.hex").read_text(encoding="utf-8")
    if not text:
        # A deadlock before the first beat.
        return np.zeros((0, stream.elements), np.int64)
    try:
        beats = hex_to_beats(text, stream.lanes, stream.format.width, stream.format.signed)
    except ValueError as error:
        raise SimulationError(f"stream '{stream.name}' carries an unknown value (X)") from error
    complete = min(samples, len(beats) // stream.beats)
    return beats[: complete * stream.beats].reshape(complete, stream.elements)


def _first_mismatch(report: DesignReport) -> Mismatch | None:
    stream = report.first_wrong
    if stream is None or stream.wrong is None:
        return None
    w = stream.wrong
    return Mismatch(stream.name, stream.node, w.sample, w.element, w.expected, w.actual)


def _check_sound(manifest: Manifest, report: DesignReport) -> None:
    """Raises SimulationError for what is worse than a wrong value: a broken stream contract."""
    for stream in report.streams:
        where = f"design '{manifest.name}': stream '{stream.name}' (node '{stream.node}')"
        if stream.role != "input" and not stream.compared:
            raise SimulationError(f"{where} was not compared: its vectors could not be opened")
        if stream.broken:
            raise SimulationError(f"{where} breaks the stream protocol: {stream.broken}")
        if stream.extra:
            raise SimulationError(
                f"{where} gave {stream.extra} beats more than the {stream.expected_beats} expected"
            )


def _finish(
    manifest: Manifest,
    case: BatchCase,
    report: DesignReport,
    results: Path,
    seconds: tuple[float, float],
) -> SimulationRun:
    """Reads the outputs back and compares them once more, here and by other means."""
    _check_sound(manifest, report)
    outputs = {s.name: _captured(s, results, report.samples) for s in manifest.outputs}
    for stream in report.streams:
        if stream.role == "output" and not stream.missing_elements:
            different = int((outputs[stream.name] != case.expected[stream.name]).sum())
            if different != stream.mismatches:
                raise SimulationError(
                    f"design '{manifest.name}': stream '{stream.name}' has {different} wrong "
                    f"elements in its file, but the test bench counted {stream.mismatches}"
                )
    return SimulationRun(
        outputs=outputs,
        mismatches=report.mismatches,
        first_mismatch=_first_mismatch(report),
        cycles=report.cycles,
        first_input_cycle=report.first_input_cycle,
        first_output_cycle=report.first_output_cycle,
        sample_cycles=np.array(report.sample_cycles, np.int64),
        deadlock=report.deadlock,
        waiting=report.waiting,
        build_seconds=seconds[0],
        run_seconds=seconds[1],
    )


def _run_options(manifests: Sequence[Manifest], options: SimulationOptions) -> RunOptions:
    stall = options.stall_probability
    return RunOptions(
        stall=stall,
        seed=options.seed,
        limit=max(deadlock_limit(m.model_dump(), stall) for m in manifests),
        timeout_seconds=options.timeout_seconds,
    )


def simulate_design(
    directory: Path,
    inputs: Mapping[str, Ints],
    expected: Mapping[str, Ints],
    options: SimulationOptions | None = None,
) -> SimulationRun:
    """Simulates an emitted folder, as it stands, on all samples.

    Args:
        inputs: stream name to integers [samples, elements] in stream order, for every input.
        expected: the same for every output, and with `check_streams` every internal stream.

    Values that differ, beats that never come and deadlocks are results. Raises SimulationError when
    values do not fit the design, a ROM is missing or a stream breaks its contract (a beat
    withdrawn, a beat too many), ToolError when a tool fails or takes too long.
    """
    options = options or SimulationOptions()
    manifest = Manifest.load(directory)
    design = manifest.model_dump()
    case = BatchCase(directory, inputs, expected)
    samples = _check_values(manifest, case, options.check_streams)
    directory = directory.resolve()
    with _runner_errors(), tempfile.TemporaryDirectory(prefix="chop_sim_") as name:
        work = Path(name)
        run_options = _run_options([manifest], options)
        check_roms(design, directory)
        _write_case(manifest, case, work, "vectors", options.check_streams)
        built = build(
            sources(design, directory),
            check_streams=options.check_streams,
            waves=options.waves,
            expected_cycles=samples * manifest.predicted_initiation_interval,
        )
        folders = RunFolders(directory, work / "vectors", work / "results", directory / "tb")
        (report,), seconds = run(built, [design], folders, run_options)
        if options.waves:
            kept = directory / "tb" / "results"
            kept.mkdir(exist_ok=True)
            shutil.copy(folders.results / "waves.vcd", kept)
        return _finish(manifest, case, report, folders.results, (built.seconds, seconds))


def _gather_sources(manifests: Sequence[Manifest], cases: Sequence[BatchCase]) -> list[Path]:
    """Returns the RTL of all designs, library files once; files of a name must be the same."""
    found: dict[str, Path] = {}
    for manifest, case in zip(manifests, cases, strict=True):
        for relative in manifest.rtl:
            path = case.directory / relative
            other = found.setdefault(path.name, path)
            if other != path and other.read_bytes() != path.read_bytes():
                raise SimulationError(
                    f"'{other}' and '{path}' differ; files of a name must be the same in a batch"
                )
    return list(found.values())


def _gather_roms(manifests: Sequence[Manifest], cases: Sequence[BatchCase], work: Path) -> None:
    """Copies the ROMs of all designs to where the simulation runs."""
    for manifest, case in zip(manifests, cases, strict=True):
        check_roms(manifest.model_dump(), case.directory)
        for relative in manifest.rom:
            target = work / relative
            if target.exists():
                raise SimulationError(
                    f"ROM file '{relative}' of design '{manifest.name}' has the name of another "
                    "design's in the batch; rename one"
                )
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(case.directory / relative, target)


def _build_batch(
    manifests: Sequence[Manifest], cases: Sequence[BatchCase], work: Path, check_streams: bool
) -> Build:
    bench = write_batch_testbench(manifests, work)
    # Every design is clocked until the slowest is done, but most of them stand still by then.
    cycles = sum(
        len(case.inputs[manifest.inputs[0].name]) * manifest.predicted_initiation_interval
        for manifest, case in zip(manifests, cases, strict=True)
    )
    rtl = _gather_sources(manifests, cases)
    return build([*rtl, *bench], check_streams=check_streams, expected_cycles=cycles)


def _simulate_build(
    manifests: Sequence[Manifest], cases: Sequence[BatchCase], options: SimulationOptions
) -> list[SimulationRun]:
    if len(cases) == 1:
        only = cases[0]
        return [simulate_design(only.directory, only.inputs, only.expected, options)]
    with _runner_errors(), tempfile.TemporaryDirectory(prefix="chop_sim_") as name:
        work = Path(name)
        run_options = _run_options(manifests, options)
        _gather_roms(manifests, cases, work)
        for manifest, case in zip(manifests, cases, strict=True):
            folder = f"vectors/{manifest.top}"
            _write_case(manifest, case, work, folder, options.check_streams)
        built = _build_batch(manifests, cases, work, options.check_streams)
        designs = [manifest.model_dump() for manifest in manifests]
        folders = RunFolders(work, work / "vectors", work / "results", work / "tb")
        reports, seconds = run(built, designs, folders, run_options)
        return [
            _finish(m, case, report, work / "results" / m.top, (built.seconds, seconds))
            for m, case, report in zip(manifests, cases, reports, strict=True)
        ]


def _open_files(manifest: Manifest) -> int:
    """How many files the test bench of a design keeps open."""
    return len(manifest.inputs) + 2 * len(manifest.outputs) + len(manifest.streams)


def simulate_batch(
    cases: Sequence[BatchCase], options: SimulationOptions | None = None
) -> list[SimulationRun]:
    """Simulates many small designs in one build and one run; returns their runs in order.

    Every design needs a `top` and ROM file names of its own. Each is driven, checked and given up
    on by itself, as in `simulate_design`, with the same stalls. Waves are not written. Batches too
    large for one process are split.
    """
    options = options or SimulationOptions()
    manifests = [Manifest.load(case.directory) for case in cases]
    for manifest, case in zip(manifests, cases, strict=True):
        _check_values(manifest, case, options.check_streams)
    runs: list[SimulationRun] = []
    start = files = 0
    for index, manifest in enumerate(manifests):
        files += _open_files(manifest)
        if index + 1 == len(cases) or files > _MAX_OPEN_FILES:
            chunk = slice(start, index + 1)
            runs += _simulate_build(manifests[chunk], cases[chunk], options)
            start, files = index + 1, 0
    return runs
