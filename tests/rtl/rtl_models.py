"""Cycle-exact models of the modules in hw/, written from docs/streams.md and not from the RTL.

A model is asked once per clock cycle: it gets what the test bench drives in that cycle and returns
what the module must show in it (None: unspecified), then moves to the next cycle.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

Values = Mapping[str, int]
Expected = dict[str, int | None]
Beat = int


def split(beat: Beat, lanes: int, width: int, signed: bool) -> list[int]:
    """Returns the elements of a beat, lane 0 first."""
    values = [(beat >> (lane * width)) & ((1 << width) - 1) for lane in range(lanes)]
    return [v - (1 << width) if signed and v >> (width - 1) else v for v in values]


def pack(elements: Sequence[int], width: int) -> Beat:
    """Returns the beat of elements, wrapped to `width` bits each."""
    mask = (1 << width) - 1
    return sum((value & mask) << (lane * width) for lane, value in enumerate(elements))


def round_saturate(
    value: int, shift_right: int, shift_left: int, rounding: int, out_width: int, out_signed: bool
) -> int:
    """Returns saturate(round(value * 2^(shift_left - shift_right))) by definition."""
    value <<= shift_left
    whole, rest = divmod(value, 1 << shift_right)
    twice = 2 * rest - (1 << shift_right)
    if (
        shift_right
        and rounding != 1
        and (twice > 0 or (twice == 0 and (rounding == 0 or whole % 2 == 1)))
    ):
        whole += 1
    low, high = (-(1 << (out_width - 1)), (1 << (out_width - 1)) - 1)
    if not out_signed:
        low, high = 0, (1 << out_width) - 1
    return min(max(whole, low), high)


class Model(ABC):
    """A module, cycle by cycle."""

    @abstractmethod
    def cycle(self, inputs: Values) -> Expected:
        """Returns the outputs of this cycle and advances by one clock edge."""


@dataclass
class Register(Model):
    """One register behind a function: chop_stream_register and the element-wise layers."""

    function: Callable[..., Beat]
    sources: tuple[str, ...] = ("x",)
    held: Beat | None = None

    def cycle(self, inputs: Values) -> Expected:
        free = self.held is None or bool(inputs["y_ready"])
        valid = all(inputs[f"{name}_valid"] for name in self.sources)
        ready = free and (valid or len(self.sources) == 1)
        out: Expected = {"y_valid": self.held is not None, "y_data": self.held}
        out |= {f"{name}_ready": ready for name in self.sources}
        if free:
            data = (inputs[f"{name}_data"] for name in self.sources)
            self.held = self.function(*data) if valid else None
        return out


@dataclass
class Queue(Model):
    """chop_fifo; of depth 2, chop_spill_register."""

    depth: int
    beats: deque[Beat] = field(default_factory=deque)

    def cycle(self, inputs: Values) -> Expected:
        ready, valid = len(self.beats) < self.depth, len(self.beats) > 0
        out: Expected = {
            "x_ready": ready,
            "y_valid": valid,
            "y_data": self.beats[0] if valid else None,
        }
        if valid and inputs["y_ready"]:
            self.beats.popleft()
        if ready and inputs["x_valid"]:
            self.beats.append(inputs["x_data"])
        return out


@dataclass
class Fork(Model):
    """chop_fork with sinks y0, y1, ..."""

    outputs: int
    done: set[int] = field(default_factory=set)

    def cycle(self, inputs: Values) -> Expected:
        branches = range(self.outputs)
        shown = {k for k in branches if inputs["x_valid"] and k not in self.done}
        ready = all(k in self.done or inputs[f"y{k}_ready"] for k in branches)
        out: Expected = {"x_ready": ready, "data": inputs["x_data"] if shown else None}
        for k in branches:
            out[f"y{k}_valid"] = k in shown
        self.done |= {k for k in shown if inputs[f"y{k}_ready"]}
        if inputs["x_valid"] and ready:
            self.done = set()
        return out


@dataclass
class Join(Model):
    """chop_join with sources x0, x1, ..."""

    inputs: int

    def cycle(self, inputs: Values) -> Expected:
        valid = all(inputs[f"x{k}_valid"] for k in range(self.inputs))
        ready = valid and bool(inputs["y_ready"])
        out: Expected = {"y_valid": valid}
        return out | {f"x{k}_ready": ready for k in range(self.inputs)}


@dataclass
class Narrow(Model):
    """chop_width_converter to fewer lanes, or to as many."""

    slices: int
    width: int
    index: int = 0

    def cycle(self, inputs: Values) -> Expected:
        last = self.index == self.slices - 1
        data = (inputs["x_data"] >> (self.index * self.width)) & ((1 << self.width) - 1)
        valid = bool(inputs["x_valid"])
        out: Expected = {
            "x_ready": bool(inputs["y_ready"]) and last,
            "y_valid": valid,
            "y_data": data if valid else None,
        }
        if valid and inputs["y_ready"]:
            self.index = 0 if last else self.index + 1
        return out


@dataclass
class Widen(Model):
    """chop_width_converter to more lanes."""

    beats: int
    width: int
    parts: list[Beat] = field(default_factory=list)

    def cycle(self, inputs: Values) -> Expected:
        valid = len(self.parts) == self.beats
        ready = not valid or bool(inputs["y_ready"])
        data = pack(self.parts, self.width) if valid else None
        if valid and inputs["y_ready"]:
            self.parts = []
        if ready and inputs["x_valid"]:
            self.parts.append(inputs["x_data"])
        return {"x_ready": ready, "y_valid": valid, "y_data": data}


@dataclass
class Replay(Model):
    """chop_replay_buffer; a sink `y` (y_valid: step_valid_o) takes a step where it is ready."""

    beats: int
    repeats: int
    depth: int
    slots: deque[Beat] = field(default_factory=deque)
    beat: int = 0
    repeat: int = 0
    stepped: Beat | None = None

    def cycle(self, inputs: Values) -> Expected:
        last_repeat, last_beat = self.repeat == self.repeats - 1, self.beat == self.beats - 1
        slot = 0 if last_repeat else self.beat
        valid = slot < len(self.slots)
        step = valid and bool(inputs["y_ready"])
        ready = len(self.slots) < self.depth or (step and last_repeat)
        out: Expected = {
            "x_ready": ready,
            "y_valid": valid,
            "y_data": self.stepped,
            "beat_first": self.beat == 0,
            "beat_last": last_beat,
            "repeat_last": last_repeat,
        }
        self.stepped = self.slots[slot] if step else None
        if step:
            if last_repeat:
                self.slots.popleft()
            self.beat = 0 if last_beat else self.beat + 1
            if last_beat:
                self.repeat = 0 if last_repeat else self.repeat + 1
        if ready and inputs["x_valid"]:
            self.slots.append(inputs["x_data"])
        return out


@dataclass(frozen=True)
class LinearShape:
    """What chop_linear is asked to compute; weight [out][in], bias [out] or None.

    `numbers` gives the numbers of a beat, lane 0 first.
    """

    weight: Sequence[Sequence[int]]
    bias: Sequence[int] | None
    in_lanes: int
    out_lanes: int
    numbers: Callable[[Beat], Sequence[int]]
    out_width: int
    product_shift: int
    input_stationary: bool
    in_depth: int
    out_depth: int
    latency: int


@dataclass
class Linear(Model):
    """chop_linear: issue rules, credits and latency of docs/streams.md; sums from the matrix."""

    shape: LinearShape
    now: int = 0
    slots: deque[Beat] = field(default_factory=deque)
    sample: dict[int, Beat] = field(default_factory=dict)
    outer: int = 0
    inner: int = 0
    credits: int = -1
    queue: deque[tuple[int, Beat]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.credits = self.shape.out_depth

    def _output(self, group: int) -> Beat:
        s = self.shape
        x = [value for k in sorted(self.sample) for value in s.numbers(self.sample[k])]
        rows = range(group * s.out_lanes, (group + 1) * s.out_lanes)
        sums = [
            (sum(w * v for w, v in zip(s.weight[row], x, strict=True)) << s.product_shift)
            + (s.bias[row] if s.bias else 0)
            for row in rows
        ]
        return pack(sums, s.out_width)

    def _issue(self, beat: int, group: int, slot: int, last_use: bool, completes: bool) -> None:
        in_beats = len(self.shape.weight[0]) // self.shape.in_lanes
        out_beats = len(self.shape.weight) // self.shape.out_lanes
        self.sample[beat] = self.slots[slot]
        if last_use:
            self.slots.popleft()
        if completes:
            self.credits -= 1
            self.queue.append((self.now + self.shape.latency, self._output(group)))
        inner_count = out_beats if self.shape.input_stationary else in_beats
        outer_count = in_beats if self.shape.input_stationary else out_beats
        self.inner += 1
        if self.inner == inner_count:
            self.inner, self.outer = 0, (self.outer + 1) % outer_count
            if self.outer == 0:
                self.sample = {}

    def cycle(self, inputs: Values) -> Expected:
        s = self.shape
        in_beats, out_beats = len(s.weight[0]) // s.in_lanes, len(s.weight) // s.out_lanes
        beat, group = (self.outer, self.inner) if s.input_stationary else (self.inner, self.outer)
        last_use, completes = group == out_beats - 1, beat == in_beats - 1
        slot = 0 if s.input_stationary or last_use else beat
        issues = slot < len(self.slots) and (not completes or self.credits > 0)
        ready = len(self.slots) < s.in_depth or (issues and last_use)
        valid = bool(self.queue) and self.queue[0][0] <= self.now
        out: Expected = {
            "x_ready": ready,
            "y_valid": valid,
            "y_data": self.queue[0][1] if valid else None,
        }
        if issues:
            self._issue(beat, group, slot, last_use, completes)
        if valid and inputs["y_ready"]:
            self.queue.popleft()
            self.credits += 1
        if ready and inputs["x_valid"]:
            self.slots.append(inputs["x_data"])
        self.now += 1
        return out


@dataclass
class Digits(Model):
    """chop_adder_shell: a step for every digit of a beat, a result `latency` after the last one."""

    function: Callable[[Beat], Beat]
    digits: int
    in_depth: int
    out_depth: int
    latency: int
    now: int = 0
    digit: int = 0
    credits: int = -1
    slots: deque[Beat] = field(default_factory=deque)
    queue: deque[tuple[int, Beat]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.credits = self.out_depth

    def cycle(self, inputs: Values) -> Expected:
        last = self.digit == self.digits - 1
        steps = bool(self.slots) and (not last or self.credits > 0)
        ready = len(self.slots) < self.in_depth or (steps and last)
        valid = bool(self.queue) and self.queue[0][0] <= self.now
        out: Expected = {
            "x_ready": ready,
            "y_valid": valid,
            "y_data": self.queue[0][1] if valid else None,
        }
        if steps:
            self.digit = 0 if last else self.digit + 1
        if steps and last:
            self.credits -= 1
            self.queue.append((self.now + self.latency, self.function(self.slots.popleft())))
        if valid and inputs["y_ready"]:
            self.queue.popleft()
            self.credits += 1
        if ready and inputs["x_valid"]:
            self.slots.append(inputs["x_data"])
        self.now += 1
        return out


@dataclass
class Elastic(Model):
    """Elastic stages, three in chop_channel_affine; `function(position, beat)` is the result."""

    function: Callable[[int, Beat], Beat]
    positions: int
    position: int = 0
    stages: list[Beat | None] = field(default_factory=lambda: [None, None, None])

    def cycle(self, inputs: Values) -> Expected:
        ready = bool(inputs["y_ready"])
        out: Expected = {"y_valid": self.stages[-1] is not None, "y_data": self.stages[-1]}
        for k in reversed(range(len(self.stages))):
            ready = ready or self.stages[k] is None
            if ready:
                self.stages[k] = self.stages[k - 1] if k else None
                if k:
                    self.stages[k - 1] = None
        # A stage that passed its beat on is free for the one before it in the same cycle.
        out["x_ready"] = ready
        if ready and inputs["x_valid"]:
            self.stages[0] = self.function(self.position, inputs["x_data"])
            self.position = (self.position + 1) % self.positions
        return out


@dataclass
class Blocks(Model):
    """chop_mxint_cast; `function` gives the results of the beats of a block."""

    function: Callable[[Sequence[Beat]], Sequence[Beat]]
    block_beats: int
    row_beats: int
    operand: Beat | None = None
    # Beats of the block that is not complete, results of those that are, and how many are left.
    open: list[Beat] = field(default_factory=list)
    results: deque[Beat] = field(default_factory=deque)
    lengths: deque[int] = field(default_factory=deque)
    row: int = 0
    shift: Beat | None = None
    out: Beat | None = None

    def cycle(self, inputs: Values) -> Expected:
        space = len(self.results) + len(self.open) <= self.block_beats and len(self.lengths) < 4
        take = space or self.operand is None
        result_ready = bool(inputs["y_ready"]) or self.out is None
        shift_ready = result_ready or self.shift is None
        pop = shift_ready and bool(self.results)
        expected: Expected = {
            "x_ready": take,
            "y_valid": self.out is not None,
            "y_data": self.out,
        }
        if result_ready:
            self.out = self.shift
        if shift_ready:
            self.shift = self._pop() if pop else None
        if space and self.operand is not None:
            self._push(self.operand)
        if take:
            self.operand = inputs["x_data"] if inputs["x_valid"] else None
        return expected

    def _pop(self) -> Beat:
        self.lengths[0] -= 1
        if self.lengths[0] == 0:
            self.lengths.popleft()
        return self.results.popleft()

    def _push(self, beat: Beat) -> None:
        self.open.append(beat)
        self.row = (self.row + 1) % self.row_beats
        if self.row == 0 or len(self.open) == self.block_beats:
            self.results += self.function(self.open)
            self.lengths.append(len(self.open))
            self.open = []


@dataclass
class Delay(Model):
    """A free-running function of `x` after a number of cycles: trees and combinational modules."""

    function: Callable[[int], int]
    latency: int
    history: deque[int | None] = field(default_factory=deque)

    def cycle(self, inputs: Values) -> Expected:
        self.history.append(self.function(inputs["x"]))
        if len(self.history) <= self.latency:
            return {"y": None}
        return {"y": self.history.popleft()}


@dataclass
class Rom(Model):
    """chop_rom: unspecified after an address past the end."""

    words: Sequence[int]
    latency: int
    first: int | None = None
    second: int | None = None

    def cycle(self, inputs: Values) -> Expected:
        if len(self.words) == 1:
            return {"y": self.words[0]}
        out: Expected = {"y": self.first if self.latency == 1 else self.second}
        self.second = self.first
        if inputs["en"]:
            address = inputs["address"]
            self.first = self.words[address] if address < len(self.words) else None
        return out


@dataclass
class Ram(Model):
    """chop_ram: a read in the cycle of a write to its address returns the old word."""

    depth: int
    words: dict[int, int] = field(default_factory=dict)
    read: int | None = None

    def cycle(self, inputs: Values) -> Expected:
        out: Expected = {"y": self.read}
        if inputs["read"]:
            self.read = self.words.get(inputs["read_address"])
        if inputs["write"] and inputs["write_address"] < self.depth:
            self.words[inputs["write_address"]] = inputs["write_data"]
        return out
