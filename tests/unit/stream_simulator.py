"""A second meaning of docs/streams.md: the handshakes of a netlist, cycle by cycle, without data.

It knows nothing of chop/ops/timing.py or of the schedule: it counts beats with finite queues.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Protocol

from chop.schedule.netlist import Instance, Netlist

__all__ = ["simulate"]

Parameters = Mapping[str, int | str]


class _Module(Protocol):
    def valid(self, offered: Sequence[bool]) -> list[bool]: ...
    def ready(self, offered: Sequence[bool], wanted: Sequence[bool]) -> list[bool]: ...
    def tick(
        self, taken: Sequence[bool], given: Sequence[bool], offered: Sequence[bool]
    ) -> None: ...


class _Register:
    """An element-wise layer of one register; all inputs are joined."""

    def __init__(self, inputs: int = 1) -> None:
        self._inputs, self._full = inputs, False

    def valid(self, offered: Sequence[bool]) -> list[bool]:
        return [self._full]

    def ready(self, offered: Sequence[bool], wanted: Sequence[bool]) -> list[bool]:
        free = wanted[0] or not self._full
        return [free and (self._inputs == 1 or all(offered))] * self._inputs

    def tick(self, taken: Sequence[bool], given: Sequence[bool], offered: Sequence[bool]) -> None:
        self._full = taken[0] or (self._full and not given[0])


class _Pipeline:
    """Registers one behind the other, each of which takes when it is empty or its beat moves on."""

    def __init__(self, stages: int, inputs: int = 1) -> None:
        self._inputs, self._full = inputs, [False] * stages

    def valid(self, offered: Sequence[bool]) -> list[bool]:
        return [self._full[-1]]

    def ready(self, offered: Sequence[bool], wanted: Sequence[bool]) -> list[bool]:
        free = self._free(wanted[0])[0]
        return [free and (self._inputs == 1 or all(offered))] * self._inputs

    def tick(self, taken: Sequence[bool], given: Sequence[bool], offered: Sequence[bool]) -> None:
        free = self._free(given[0])
        before = [taken[0], *self._full[:-1]]
        self._full = [b if f else True for b, f in zip(before, free, strict=True)]

    def _free(self, wanted: bool) -> list[bool]:
        free = []
        for full in reversed(self._full):
            wanted = wanted or not full
            free.append(wanted)
        return free[::-1]


class _Reduce:
    """Stages that hold a beat each; only one that completes a result enters the last."""

    def __init__(self, p: Parameters) -> None:
        n = {key: int(value) for key, value in p.items() if isinstance(value, int)}
        levels = math.ceil(math.log2(n["Taps"]))
        stages = max(1, math.ceil(levels / n["LevelsPerStage"]))
        completes = [
            outer == n["OuterSteps"] - 1 and inner == n["InnerSteps"] - 1
            for outer in range(n["OuterSteps"])
            for _ in range(n["Groups"])
            for inner in range(n["InnerSteps"])
            for _ in range(n["Beats"])
        ]
        self._begin(stages, completes)

    def _begin(self, stages: int, completes: list[bool]) -> None:
        self._stages: list[bool | None] = [None] * stages
        self._result, self._beat, self._completes = False, 0, completes

    def valid(self, offered: Sequence[bool]) -> list[bool]:
        return [self._result]

    def ready(self, offered: Sequence[bool], wanted: Sequence[bool]) -> list[bool]:
        return [self._free(wanted[0])[0]]

    def tick(self, taken: Sequence[bool], given: Sequence[bool], offered: Sequence[bool]) -> None:
        free = self._free(given[0])
        last = self._stages[-1]
        arrives = bool(last) and (given[0] or not self._result)
        self._result = arrives or (self._result and not given[0])
        beat = self._completes[self._beat] if taken[0] else None
        self._beat = (self._beat + taken[0]) % len(self._completes)
        before = [beat, *self._stages[:-1]]
        self._stages = [
            b if f else held for b, f, held in zip(before, free, self._stages, strict=True)
        ]

    def _free(self, wanted: bool) -> list[bool]:
        """Whether each stage takes a beat, if the result is taken or is not."""
        found, behind = [], wanted or not self._result
        for number, held in reversed(list(enumerate(self._stages))):
            passes = held is None or behind
            if number == len(self._stages) - 1:
                passes = passes or held is False
            behind = passes
            found.append(passes)
        return found[::-1]


class _Bins(_Reduce):
    """One stage; a result is complete with the last position of its bin."""

    def __init__(self, p: Parameters) -> None:
        size, bins, beats = (int(p[key]) for key in ("Size", "Bins", "Beats"))
        ends = {math.ceil((i + 1) * size / bins) for i in range(bins)}
        self._begin(1, [position + 1 in ends for position in range(size) for _ in range(beats)])


class _Concat:
    def __init__(self, p: Parameters) -> None:
        self._beats, self._input, self._count, self._full = _words(p["Beats"]), 0, 0, False

    def valid(self, offered: Sequence[bool]) -> list[bool]:
        return [self._full]

    def ready(self, offered: Sequence[bool], wanted: Sequence[bool]) -> list[bool]:
        free = wanted[0] or not self._full
        return [free and self._input == number for number in range(len(self._beats))]

    def tick(self, taken: Sequence[bool], given: Sequence[bool], offered: Sequence[bool]) -> None:
        self._full = any(taken) or (self._full and not given[0])
        self._count += any(taken)
        if self._count == self._beats[self._input]:
            self._count, self._input = 0, (self._input + 1) % len(self._beats)


class _Reorder:
    def __init__(self, p: Parameters) -> None:
        counts, moves = _words(p["Counts"]), _words(p["Moves"])
        place, self._places = int(p["First"]), []
        for step in range(math.prod(counts)):
            self._places.append(place)
            level, rest = 0, step + 1
            while level < len(counts) and rest % counts[level] == 0:
                rest, level = rest // counts[level], level + 1
            place += moves[level]
        self._beats, self._depth = int(p["Beats"]), int(p["Depth"])
        self._places[-1] = self._beats - 1
        self._accepted = self._block = self._step = 0
        self._full = self._issues = False

    def valid(self, offered: Sequence[bool]) -> list[bool]:
        return [self._full]

    def ready(self, offered: Sequence[bool], wanted: Sequence[bool]) -> list[bool]:
        stored = self._accepted - self._block * self._beats
        self._issues = stored > self._places[self._step] and (wanted[0] or not self._full)
        return [stored < self._depth]

    def tick(self, taken: Sequence[bool], given: Sequence[bool], offered: Sequence[bool]) -> None:
        self._full = self._issues or (self._full and not given[0])
        self._accepted += taken[0]
        self._step += self._issues
        if self._step == len(self._places):
            self._step, self._block = 0, self._block + 1


class _Fifo:
    def __init__(self, depth: int) -> None:
        self._depth, self._count = depth, 0

    def valid(self, offered: Sequence[bool]) -> list[bool]:
        return [self._count > 0]

    def ready(self, offered: Sequence[bool], wanted: Sequence[bool]) -> list[bool]:
        return [self._count < self._depth]

    def tick(self, taken: Sequence[bool], given: Sequence[bool], offered: Sequence[bool]) -> None:
        self._count += int(taken[0]) - int(given[0])


class _Fork:
    def __init__(self, outputs: int) -> None:
        self._done = [False] * outputs

    def valid(self, offered: Sequence[bool]) -> list[bool]:
        return [offered[0] and not done for done in self._done]

    def ready(self, offered: Sequence[bool], wanted: Sequence[bool]) -> list[bool]:
        return [all(done or want for done, want in zip(self._done, wanted, strict=True))]

    def tick(self, taken: Sequence[bool], given: Sequence[bool], offered: Sequence[bool]) -> None:
        if taken[0]:
            self._done = [False] * len(self._done)
        else:
            self._done = [done or gave for done, gave in zip(self._done, given, strict=True)]


class _Narrow:
    def __init__(self, slices: int) -> None:
        self._slices, self._slice = slices, 0

    def valid(self, offered: Sequence[bool]) -> list[bool]:
        return [offered[0]]

    def ready(self, offered: Sequence[bool], wanted: Sequence[bool]) -> list[bool]:
        return [wanted[0] and self._slice == self._slices - 1]

    def tick(self, taken: Sequence[bool], given: Sequence[bool], offered: Sequence[bool]) -> None:
        self._slice = (self._slice + given[0]) % self._slices


class _Widen:
    def __init__(self, parts: int) -> None:
        self._parts, self._part, self._full = parts, 0, False

    def valid(self, offered: Sequence[bool]) -> list[bool]:
        return [self._full]

    def ready(self, offered: Sequence[bool], wanted: Sequence[bool]) -> list[bool]:
        return [wanted[0] or not self._full]

    def tick(self, taken: Sequence[bool], given: Sequence[bool], offered: Sequence[bool]) -> None:
        last = taken[0] and self._part == self._parts - 1
        self._part = (self._part + taken[0]) % self._parts
        self._full = last or (self._full and not given[0])


class _Stepper:
    """What issues at most one step a cycle; its input beats are numbered through all samples."""

    def __init__(self) -> None:
        self.accepted = self.stored = self.step = 0


class _Linear(_Stepper):
    def __init__(self, p: Parameters) -> None:
        super().__init__()
        self._beats = int(p["InFeatures"]) // int(p["InLanes"])
        self._groups = int(p["OutFeatures"]) // int(p["OutLanes"])
        self._stationary = str(p["InputStationary"]).endswith("1")
        levels = math.ceil(math.log2(int(p["InLanes"])))
        stages = math.ceil(levels / int(p["LevelsPerStage"]))
        self._latency = int(p["RomLatency"]) + int(p["ProductStages"]) + 1 + stages
        self._depth, self._credits = int(p["InDepth"]), int(p["OutDepth"])
        self._flight: deque[int] = deque()
        self._cycle = self._queue = self._held = 0
        self._issues = self._last_use = False

    def valid(self, offered: Sequence[bool]) -> list[bool]:
        """Issues this cycle's step too: it depends on registers only."""
        while self._flight and self._flight[0] <= self._cycle:
            self._flight.popleft()
            self._queue += 1
        vector, step = divmod(self.step, self._beats * self._groups)
        if self._stationary:
            beat, group = divmod(step, self._groups)
        else:
            group, beat = divmod(step, self._beats)
        completes = beat == self._beats - 1
        stored = vector * self._beats + beat < self.stored
        self._issues = stored and (not completes or self._credits > 0)
        self._completes = self._issues and completes
        self._last_use = self._issues and group == self._groups - 1
        return [self._queue > 0]

    def ready(self, offered: Sequence[bool], wanted: Sequence[bool]) -> list[bool]:
        return [self._held < self._depth or self._last_use]

    def tick(self, taken: Sequence[bool], given: Sequence[bool], offered: Sequence[bool]) -> None:
        if self._completes:
            self._flight.append(self._cycle + self._latency)
        self._credits += int(given[0]) - int(self._completes)
        self._queue -= given[0]
        self._held += int(taken[0]) - int(self._last_use)
        self.step += self._issues
        self.stored += taken[0]
        self._cycle += 1


class _Window(_Stepper):
    """By taps: a step is one tap and one channel beat, (kh, kw, beat)."""

    def __init__(self, p: Parameters) -> None:
        super().__init__()
        n = {key: int(value) for key, value in p.items() if isinstance(value, int)}
        beats = n["Channels"] // n["Lanes"]
        self._frame = n["Height"] * n["Width"] * beats
        self._depth, self._full = n["Depth"], False
        # Of every step of a frame: the beat that it waits for, and V.
        self._waits: list[int] = []
        self._first: list[int] = []
        rows = -(-(n["Height"] + n["PadTop"]) // n["StrideHeight"])
        columns = -(-(n["Width"] + n["PadLeft"]) // n["StrideWidth"])
        first = 0
        for oh in range(n["OutHeight"]):
            for ow in range(n["OutWidth"]):
                top = oh * n["StrideHeight"] - n["PadTop"]
                left = ow * n["StrideWidth"] - n["PadLeft"]
                if oh < rows:
                    column = min(ow, columns - 1) * n["StrideWidth"] - n["PadLeft"]
                    first = (top * n["Width"] + column) * beats
                for kh in range(n["KernelHeight"]):
                    for kw in range(n["KernelWidth"]):
                        y, x = top + kh * n["DilationHeight"], left + kw * n["DilationWidth"]
                        inside = 0 <= y < n["Height"] and 0 <= x < n["Width"]
                        for beat in range(beats):
                            own = (y * n["Width"] + x) * beats + beat
                            self._waits.append(own if inside else -1)
                            self._first.append(first)
        self._waits[0] = max(self._waits[0], 0)

    def valid(self, offered: Sequence[bool]) -> list[bool]:
        return [self._full]

    def ready(self, offered: Sequence[bool], wanted: Sequence[bool]) -> list[bool]:
        frame, step = divmod(self.step, len(self._waits))
        own = self._waits[step]
        waits = own >= 0 and frame * self._frame + own >= self.stored
        self._issues = not waits and (wanted[0] or not self._full)
        return [self.stored < frame * self._frame + self._first[step] + self._depth]

    def tick(self, taken: Sequence[bool], given: Sequence[bool], offered: Sequence[bool]) -> None:
        self._full = self._issues or (self._full and not given[0])
        self.step += self._issues
        self.stored += taken[0]


def _module(instance: Instance) -> _Module:
    p = instance.parameters
    match instance.module:
        case "chop_linear":
            return _Linear(p)
        case "chop_window":
            assert not p["Parallel"]
            assert not p["ChannelOuter"]
            return _Window(p)
        case "chop_fifo":
            return _Fifo(int(p["Depth"]))
        case "chop_fork":
            return _Fork(int(p["Outputs"]))
        case "chop_width_converter":
            lanes, wanted = int(p["InLanes"]), int(p["OutLanes"])
            return _Narrow(lanes // wanted) if lanes > wanted else _Widen(wanted // lanes)
        case "chop_relu" | "chop_cast":
            return _Register()
        case "chop_add":
            assert "ABeats" not in p
            assert "BBeats" not in p
            return _Register(2)
        case "chop_channel_affine":
            return _Pipeline(3)
        case "chop_reduce" | "chop_bins":
            return _Reduce(p) if instance.module == "chop_reduce" else _Bins(p)
        case "chop_concat":
            return _Concat(p)
        case "chop_reorder":
            return _Reorder(p)
    raise AssertionError(f"no model of {instance.module}")


def _words(literal: int | str) -> list[int]:
    """Returns the signed words of 32 bits in a constant such as 64'h0000000100000002."""
    bits, digits = str(literal).split("'h")
    value = int(digits, 16)
    words = [(value >> shift) & 0xFFFFFFFF for shift in range(0, int(bits), 32)]
    return [word - (word >> 31 << 32) for word in words]


def _side_by_side(signals: str) -> list[str]:
    """Returns the signals in a concatenation, the lowest first."""
    return signals.strip("{}").split(", ")[::-1]


def _streams(instance: Instance) -> tuple[list[str], list[str]]:
    """Returns the signals of the streams taken and given, by their valid."""
    taken = [
        signal
        for port, signals in instance.connections
        if port.endswith("valid_i")
        for signal in _side_by_side(signals)
    ]
    given = [s for port, s in instance.connections if port.endswith("valid_o")]
    if instance.module == "chop_fork":
        given = [f"{given[0]}[{i}]" for i in range(int(instance.parameters["Outputs"]))]
    return taken, given


def simulate(
    netlist: Netlist,
    beats: Mapping[str, int],
    interval: int,
    cycles: int,
    expected: Mapping[str, list[int]] | None = None,
) -> dict[str, list[int]]:
    """Returns the cycles in which beats leave each output.

    Sample n is offered from n * interval on; `beats` are those of a sample at each input. Outputs
    are always taken. Ends with the first cycle that is not as expected.
    """
    alias = dict(netlist.assigns)
    outputs = {
        alias.get(f"{s.signal}_valid_o", f"{s.signal}_valid_o"): s.name for s in netlist.outputs
    }
    sources = {f"{s.signal}_valid_i": beats[s.name] for s in netlist.inputs}
    parts = [(_module(i), *_streams(i)) for i in netlist.instances]
    sent = dict.fromkeys(sources, 0)
    found: dict[str, list[int]] = {s.name: [] for s in netlist.outputs}
    parts = _in_order(parts, set(sources))
    due = {name: set(times) for name, times in (expected or {}).items()}
    for cycle in range(cycles):
        valid = {s: sent[s] // sources[s] * interval <= cycle for s in sources}
        ready = dict.fromkeys(outputs, True)
        for module, taken, given in parts:
            valid |= zip(given, module.valid([valid[s] for s in taken]), strict=True)
        for module, taken, given in reversed(parts):
            offered, wanted = [valid[s] for s in taken], [ready[s] for s in given]
            ready |= zip(taken, module.ready(offered, wanted), strict=True)
        moves = {s for s in valid if valid[s] and ready[s]}
        for module, taken, given in parts:
            module.tick([s in moves for s in taken], [s in moves for s in given], [])
        for source in sources:
            sent[source] += source in moves
        for stream, name in outputs.items():
            if stream in moves:
                found[name].append(cycle)
        if any(
            (cycle in due[name]) != (stream in moves) for stream, name in outputs.items() if due
        ):
            return found
    return found


def _in_order(
    parts: list[tuple[_Module, list[str], list[str]]], known: set[str]
) -> list[tuple[_Module, list[str], list[str]]]:
    """Returns makers before readers."""
    ordered, rest = [], list(parts)
    while rest:
        ready = [part for part in rest if all(s in known for s in part[1])]
        assert ready, "a loop of streams"
        for part in ready:
            ordered.append(part)
            known |= set(part[2])
            rest.remove(part)
    return ordered
