"""What a simulation saw: reads the files that the harness in hw/sim wrote.

Stand-alone: an emitted folder holds a copy of this file, so it imports nothing of chop. A design is
the parsed design.json (see chop/ir/manifest.py).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

__all__ = [
    "DesignReport",
    "StreamReport",
    "WrongElement",
    "read_design_report",
    "steady_interval",
    "vector_beats",
]

Design = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class WrongElement:
    """The first element of a stream that is not the expected one."""

    sample: int
    element: int
    expected: int
    actual: int


@dataclasses.dataclass(frozen=True, slots=True)
class StreamReport:
    """One stream of a finished simulation; beats and mismatches are over all samples.

    Attributes:
        role: "input", "output" or "internal".
        compared: whether there was a vector file to compare with.
        extra: beats after the last expected one.
        valid, ready: the handshake signals at the end.
        broken: how and when the stream broke the valid/ready protocol, or "".
        first_cycle: of the first beat: when it was taken, of an input when it was offered.
        sample_cycles: the cycle of each sample's last beat; empty for an input.
    """

    name: str
    node: str
    role: str
    lanes: int
    beats_per_sample: int
    expected_beats: int
    beats: int
    compared: bool
    mismatches: int
    extra: int
    valid: bool
    ready: bool
    first_cycle: int | None
    last_cycle: int | None
    broken: str
    wrong: WrongElement | None
    sample_cycles: tuple[int, ...]

    @property
    def missing_elements(self) -> int:
        """Elements that never came."""
        return max(0, self.expected_beats - self.beats) * self.lanes

    @property
    def passed(self) -> bool:
        """Whether every expected beat came, no other, all equal and by the protocol.

        An internal stream without vectors is not compared; an output always is.
        """
        blind = self.role == "output" and not self.compared
        return not (blind or self.missing_elements or self.mismatches or self.extra or self.broken)

    @property
    def waiting(self) -> str:
        """Who waits for whom, for a stream with beats to come."""
        state = {
            (True, True): "is moving",
            (True, False): "is valid and waits for ready",
            (False, True): "is ready and waits for valid",
            (False, False): "is neither valid nor ready",
        }[self.valid, self.ready]
        sample, beat = divmod(self.beats, self.beats_per_sample)
        where = f"{self.role} stream '{self.name}' (node '{self.node}')"
        return f"{where} {state} in sample {sample}, beat {beat}"


@dataclasses.dataclass(frozen=True, slots=True)
class DesignReport:
    """All streams of a design, in the order inputs, internal streams, outputs.

    Internal streams stand in the order of the manifest, producers first, so the first stream with a
    wrong element is where the trouble starts.
    """

    top: str
    samples: int
    streams: tuple[StreamReport, ...]

    def _of(self, role: str) -> list[StreamReport]:
        return [stream for stream in self.streams if stream.role == role]

    @property
    def deadlock(self) -> bool:
        """Whether the harness gave up waiting for a beat."""
        return any(stream.missing_elements for stream in self.streams)

    @property
    def passed(self) -> bool:
        """Whether every stream passed."""
        return all(stream.passed for stream in self.streams)

    @property
    def mismatches(self) -> int:
        """Elements that differ or never came, on all streams that are compared."""
        return sum(s.mismatches + s.missing_elements for s in self.streams if s.role != "input")

    @property
    def first_wrong(self) -> StreamReport | None:
        """The first stream, producers first, with an element that differs."""
        return next((stream for stream in self.streams if stream.wrong is not None), None)

    @property
    def waiting(self) -> tuple[str, ...]:
        """A line for every stream with beats to come."""
        return tuple(stream.waiting for stream in self.streams if stream.missing_elements)

    @property
    def first_input_cycle(self) -> int:
        """The cycle, since reset, in which an input first offers a beat; -1 when none does."""
        return min(
            (s.first_cycle for s in self._of("input") if s.first_cycle is not None), default=-1
        )

    @property
    def first_output_cycle(self) -> int:
        """The cycle of the first beat out of the design; -1 when there was none."""
        return min(
            (s.first_cycle for s in self._of("output") if s.first_cycle is not None), default=-1
        )

    @property
    def sample_cycles(self) -> tuple[int, ...]:
        """The cycle in which a sample's last output beat was taken, for every complete sample."""
        columns = zip(*(stream.sample_cycles for stream in self._of("output")), strict=False)
        return tuple(max(column) for column in columns)

    @property
    def cycles(self) -> int:
        """Cycles from reset to the last beat on any stream, that one included."""
        last = [s.last_cycle for s in self.streams if s.last_cycle is not None]
        return max(last) + 1 if last else 0

    @property
    def interval(self) -> float:
        """Cycles between samples at the outputs once the queues are full."""
        return steady_interval(self.sample_cycles)


def steady_interval(sample_cycles: Sequence[int]) -> float:
    """Returns the mean distance of samples once the queues are full; NaN for fewer than two.

    That is the mean over one period where the second half of the run is periodic (the branches of a
    graph may finish turn and turn about), else, under stalls, over that half.
    """
    distances = [after - before for before, after in pairwise(sample_cycles)]
    steady = distances[len(distances) // 2 :]
    for period in range(1, len(steady) // 2 + 1):
        if steady[period:] == steady[:-period]:
            return sum(steady[:period]) / period
    return sum(steady) / len(steady) if steady else math.nan


def vector_beats(path: Path) -> int:
    """Returns how many beats a vector file holds: its lines, which all have the same length."""
    with path.open("rb") as file:
        line = len(file.readline())
    size = path.stat().st_size
    if line == 0:
        return 0
    if size % line:
        raise ValueError(f"'{path}': lines differ in length; write the vectors again")
    return size // line


def _element(beat: str, lane: int, width: int, signed: bool) -> int:
    value = int(beat, 16) >> (lane * width) & ((1 << width) - 1)
    return value - (1 << width) if signed and value >> (width - 1) else value


def _wrong(words: list[str], stream: Mapping[str, Any], beats_per_sample: int) -> WrongElement:
    """Returns the first element that differs between two beats: number, expected, actual."""
    lanes, width, signed = stream["lanes"], stream["format"]["width"], stream["format"]["signed"]
    sample, position = divmod(int(words[0]), beats_per_sample)
    for lane in range(lanes):
        expected, actual = (_element(beat, lane, width, signed) for beat in words[1:])
        if expected != actual:
            return WrongElement(sample, position * lanes + lane, expected, actual)
    raise ValueError(f"stream '{stream['name']}': beats {words[1:]} do not differ")


def _read_fields(path: Path) -> tuple[dict[str, list[str]], list[int]]:
    """Returns the "key value ..." lines of a harness report, and the values of its samples."""
    fields, sample_cycles = {}, []
    for line in path.read_text(encoding="utf-8").splitlines():
        key, *words = line.split()
        if key == "sample":
            sample_cycles.append(int(words[0]))
        else:
            fields[key] = words
    return fields, sample_cycles


def _read_stream(
    stream: Mapping[str, Any], role: str, vectors: Path, results: Path, samples: int
) -> StreamReport:
    fields, sample_cycles = _read_fields(results / f"{stream['name']}.txt")

    def number(key: str) -> int | None:
        return int(fields[key][0]) if key in fields else None

    beats_per_sample = math.prod(stream["shape"]) // stream["lanes"]
    path = vectors / f"{stream['name']}.hex"
    limit = samples * beats_per_sample
    broken = fields.get("broken")
    return StreamReport(
        name=stream["name"],
        node=stream["node"],
        role=role,
        lanes=stream["lanes"],
        beats_per_sample=beats_per_sample,
        expected_beats=min(limit, vector_beats(path)) if path.exists() else 0,
        beats=int(fields["beats"][0]),
        compared=role != "input" and bool(number("compared")),
        mismatches=number("mismatches") or 0,
        extra=number("extra") or 0,
        valid=bool(number("valid")),
        ready=bool(number("ready")),
        first_cycle=number("first"),
        last_cycle=number("last"),
        broken=_HOW[broken[0]].format(cycle=broken[1]) if broken else "",
        wrong=_wrong(fields["mismatch"], stream, beats_per_sample)
        if "mismatch" in fields
        else None,
        sample_cycles=tuple(sample_cycles),
    )


_HOW = {
    "valid": "valid falls before the handshake in cycle {cycle}",
    "data": "data changes before the handshake in cycle {cycle}",
}


def read_design_report(
    design: Design, vectors: Path, results: Path, samples: int, check_streams: bool
) -> DesignReport:
    """Returns what became of `samples` samples; OSError when the simulation left no report."""
    groups = [("input", design["inputs"])]
    if check_streams:
        groups.append(("internal", design["streams"]))
    groups.append(("output", design["outputs"]))
    streams = tuple(
        _read_stream(stream, role, vectors, results, samples)
        for role, group in groups
        for stream in group
    )
    return DesignReport(design["top"], samples, streams)
