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
        self._latency = int(p["RomLatency"]) + 2 + stages
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
            return _Register(2)
    raise AssertionError(f"no model of {instance.module}")


def _streams(instance: Instance) -> tuple[list[str], list[str]]:
    """Returns the signals of the streams taken and given, by their valid."""
    taken = [s for port, s in instance.connections if port.endswith("valid_i")]
    given = [s for port, s in instance.connections if port.endswith("valid_o")]
    if instance.module == "chop_fork":
        given = [f"{given[0]}[{i}]" for i in range(int(instance.parameters["Outputs"]))]
    return taken, given


def simulate(
    netlist: Netlist, beats: Mapping[str, int], interval: int, cycles: int
) -> dict[str, list[int]]:
    """Returns the cycles in which beats leave each output.

    Sample n is offered from n * interval on; `beats` are those of a sample at each input. Outputs
    are always taken.
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
