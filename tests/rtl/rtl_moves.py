"""The modules that move beats: their cycle-exact models, written from their headers, and cases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.rtl.rtl_case import Case, Signal, layer_ports
from tests.rtl.rtl_models import Beat, Expected, Model, Values, pack, split

# Nested loops, innermost first: (count, stride).
Loops = Sequence[tuple[int, int]]


def _places(first: int, loops: Loops) -> list[int]:
    places = [first]
    for count, stride in loops:
        places = [place + k * stride for k in range(count) for place in places]
    return places


def _level(step: int, loops: Loops) -> int:
    """Returns the innermost loop that does not end with this step."""
    for level, (count, _) in enumerate(loops):
        step, index = divmod(step, count)
        if index < count - 1:
            return level
    return len(loops)


def _words(values: Sequence[int], width: int) -> str:
    total = sum((v & ((1 << width) - 1)) << (k * width) for k, v in enumerate(values))
    return f"{len(values) * width}'h{total:x}"


def _walk_parameters(first: int, loops: Loops, period: int | None) -> dict[str, int | str]:
    """Distances by definition; with a period, less one and around its end."""
    places = _places(first, loops)
    moves = [0] * (len(loops) + 1)
    for step, place in enumerate(places):
        following = places[(step + 1) % len(places)]
        last = step == len(places) - 1
        distance = following - place
        if period is not None:
            distance += (period if last else 0) - 1
        moves[_level(step, loops)] = distance
    return {
        "First": first,
        "Levels": len(loops),
        "Counts": _words([count for count, _ in loops], 32),
        "Moves": _words(moves, 32),
    }


@dataclass
class Walk(Model):
    """chop_walk: `step` moves it."""

    moves: Sequence[int]
    loops: Loops
    step: int = 0

    def cycle(self, inputs: Values) -> Expected:
        level = _level(self.step, self.loops)
        out: Expected = {"last": level == len(self.loops), "move": self.moves[level]}
        total = len(_places(0, self.loops))
        self.step = (self.step + inputs["step"]) % total
        return out


@dataclass
class SetAddress(Model):
    """chop_set_address: the addresses of one round, `step` moves on."""

    addresses: Sequence[int]
    position: int = 0

    def cycle(self, inputs: Values) -> Expected:
        out: Expected = {"address": self.addresses[self.position]}
        self.position = (self.position + inputs["step"]) % len(self.addresses)
        return out


@dataclass
class Slice(Model):
    """chop_slice: beats at `kept` of every `period` pass, through a register."""

    function: Callable[[Beat], Beat]
    kept: Sequence[int]
    period: int
    position: int = 0
    held: Beat | None = None

    def cycle(self, inputs: Values) -> Expected:
        keep, free = self.position in self.kept, self.held is None or bool(inputs["y_ready"])
        ready = free or not keep
        out: Expected = {"x_ready": ready, "y_valid": self.held is not None, "y_data": self.held}
        if free:
            self.held = self.function(inputs["x_data"]) if keep and inputs["x_valid"] else None
        if ready and inputs["x_valid"]:
            self.position = (self.position + 1) % self.period
        return out


@dataclass
class Pad(Model):
    """chop_pad: of every `period` beats, those that are not at `places` are a constant."""

    function: Callable[[Beat], Beat]
    constant: Beat
    places: Sequence[int]
    period: int
    position: int = 0
    held: Beat | None = None

    def cycle(self, inputs: Values) -> Expected:
        fill, free = self.position not in self.places, self.held is None or bool(inputs["y_ready"])
        out: Expected = {
            "x_ready": free and not fill,
            "y_valid": self.held is not None,
            "y_data": self.held,
        }
        valid = inputs["x_valid"] or (fill and self.position > 0)
        if free:
            self.held = None
            if valid:
                self.held = self.constant if fill else self.function(inputs["x_data"])
                self.position = (self.position + 1) % self.period
        return out


@dataclass
class Reorder(Model):
    """chop_reorder: every block of `beats` beats is given as `places` says."""

    function: Callable[[Beat], Beat]
    beats: int
    places: Sequence[int]
    depth: int
    step: int = 0
    stored: list[Beat] = field(default_factory=list)
    held: Beat | None = None

    def cycle(self, inputs: Values) -> Expected:
        ready = len(self.stored) < self.depth
        out: Expected = {"x_ready": ready, "y_valid": self.held is not None, "y_data": self.held}
        if self.held is None or inputs["y_ready"]:
            self.held = self._read()
        if ready and inputs["x_valid"]:
            self.stored.append(inputs["x_data"])
        return out

    def _read(self) -> Beat | None:
        place, last = self.places[self.step], self.step == len(self.places) - 1
        if len(self.stored) <= (self.beats - 1 if last else place):
            return None
        given = self.function(self.stored[place])
        self.step += 1
        if last:
            self.step, self.stored = 0, self.stored[self.beats :]
        return given


@dataclass
class Concat(Model):
    """chop_concat with sources x0, x1, ...; functions make y's beats of theirs."""

    functions: Sequence[Callable[[Beat], Beat]]
    beats: Sequence[int]
    turn: int = 0
    beat: int = 0
    held: Beat | None = None

    def cycle(self, inputs: Values) -> Expected:
        free = self.held is None or bool(inputs["y_ready"])
        out: Expected = {"y_valid": self.held is not None, "y_data": self.held}
        out |= {f"x{k}_ready": free and k == self.turn for k in range(len(self.beats))}
        if free:
            self.held = None
            if inputs[f"x{self.turn}_valid"]:
                self.held = self.functions[self.turn](inputs[f"x{self.turn}_data"])
                self.beat += 1
                if self.beat == self.beats[self.turn]:
                    self.turn, self.beat = (self.turn + 1) % len(self.beats), 0
        return out


def _walk(*loops: tuple[int, int]) -> Case:
    moves = [11 * (k + 1) for k in range(len(loops) + 1)]
    return Case(
        "chop_walk",
        {
            "Levels": len(loops),
            "Width": 6,
            "Counts": _words([count for count, _ in loops], 32),
            "Moves": _words(moves, 32),
        },
        lambda: Walk(moves, loops),
        {"step_i": "step", "last_o": "last", "move_o": "move"},
        randoms=(Signal("step"),),
        wires=(Signal("last"), Signal("move", 1, 6)),
    )


def _set_address(words: int, sets: int, vectors: int, runs: int) -> Case:
    addresses = [
        run % sets * words + word
        for run in range(runs)
        for _ in range(vectors)
        for word in range(words)
    ]
    return Case(
        "chop_set_address",
        {"Words": words, "Sets": sets, "RunVectors": vectors, "Runs": runs},
        lambda: SetAddress(addresses),
        {"step_i": "step", "address_o": "address"},
        randoms=(Signal("step"),),
        wires=(Signal("address", 1, max(1, (words * sets - 1).bit_length())),),
    )


def _lanes(width: int, lanes: int, lane_map: Sequence[int]) -> Callable[[Beat], Beat]:
    return lambda beat: pack([split(beat, lanes, width, False)[k] for k in lane_map], width)


def _slice(
    first: int, loops: Loops, period: int, in_lanes: int = 1, lane_map: Sequence[int] = (0,)
) -> Case:
    width, places = 5, _places(first, loops)
    walk = _walk_parameters(first, loops, period)
    params: dict[str, int | str] = {
        "ElementWidth": width,
        "InLanes": in_lanes,
        "OutLanes": len(lane_map),
        "LaneMap": _words(lane_map, 32),
        "GapWidth": period.bit_length(),
        **walk,
    }
    x, y = Signal("x", in_lanes, width), Signal("y", len(lane_map), width)
    function = _lanes(width, in_lanes, lane_map)
    return Case(
        "chop_slice", params, lambda: Slice(function, places, period), layer_ports(), (x,), (y,)
    )


def _pad(
    first: int, loops: Loops, period: int, signed: bool = True, shift: int = 0, value: int = -3
) -> Case:
    lanes, width, out_width, places = 2, 4, 8, _places(first, loops)
    params: dict[str, int | str] = {
        "Lanes": lanes,
        "InWidth": width,
        "InSigned": int(signed),
        "ShiftLeft": shift,
        "OutWidth": out_width,
        "PadValue": f"64'h{value & ((1 << 64) - 1):x}",
        "OutBeats": period,
        "GapWidth": period.bit_length(),
        **_walk_parameters(first, loops, period),
    }

    def function(beat: Beat) -> Beat:
        return pack([v << shift for v in split(beat, lanes, width, signed)], out_width)

    constant = pack([value] * lanes, out_width)
    x, y = Signal("x", lanes, width), Signal("y", lanes, out_width)
    return Case(
        "chop_pad",
        params,
        lambda: Pad(function, constant, places, period),
        layer_ports(),
        (x,),
        (y,),
    )


def _reorder(
    beats: int,
    first: int,
    loops: Loops,
    depth: int,
    in_lanes: int = 1,
    lane_map: Sequence[int] = (0,),
) -> Case:
    width, places = 5, _places(first, loops)
    params: dict[str, int | str] = {
        "ElementWidth": width,
        "InLanes": in_lanes,
        "OutLanes": len(lane_map),
        "LaneMap": _words(lane_map, 32),
        "Beats": beats,
        "Depth": depth,
        **_walk_parameters(first, loops, None),
    }
    x, y = Signal("x", in_lanes, width), Signal("y", len(lane_map), width)
    function = _lanes(width, in_lanes, lane_map)
    return Case(
        "chop_reorder",
        params,
        lambda: Reorder(function, beats, places, depth),
        layer_ports(),
        (x,),
        (y,),
    )


def _concat(inputs: Sequence[tuple[int, bool, int, int]], out_width: int, lanes: int) -> Case:
    """Width, signedness, left shift and beats of every input."""
    names = [f"x{k}" for k in reversed(range(len(inputs)))]
    starts = [sum(width for width, _, _, _ in inputs[:k]) for k in range(len(inputs))]

    def one(width: int, signed: bool, shift: int) -> Callable[[Beat], Beat]:
        return lambda beat: pack([v << shift for v in split(beat, lanes, width, signed)], out_width)

    functions = [one(*given[:3]) for given in inputs]
    beats = [given[3] for given in inputs]
    params: dict[str, int | str] = {
        "Inputs": len(inputs),
        "Lanes": lanes,
        "Widths": _words([given[0] for given in inputs], 16),
        "Shifts": _words([given[2] for given in inputs], 16),
        "Starts": _words(starts, 32),
        "Signed": f"{len(inputs)}'b{''.join(str(int(given[1])) for given in reversed(inputs))}",
        "Beats": _words(beats, 32),
        "InWidth": sum(given[0] for given in inputs),
        "OutWidth": out_width,
    }
    ports = {
        "x_data_i": "{" + ", ".join(f"{n}_data" for n in names) + "}",
        "x_valid_i": "{" + ", ".join(f"{n}_valid" for n in names) + "}",
        "x_ready_o": "{" + ", ".join(f"{n}_ready" for n in names) + "}",
        **layer_ports(""),
    }
    sources = tuple(Signal(f"x{k}", lanes, given[0]) for k, given in enumerate(inputs))
    return Case(
        "chop_concat",
        params,
        lambda: Concat(functions, beats),
        ports,
        sources,
        (Signal("y", lanes, out_width),),
    )


CASES = (
    _walk((3, 1)),
    _walk((1, 1), (2, 1)),
    _walk((2, 1), (3, 5), (2, 9)),
    _set_address(3, 2, 1, 2),
    _set_address(5, 1, 1, 1),
    _set_address(3, 2, 4, 2),
    _set_address(4, 3, 2, 5),
    _set_address(2, 3, 1, 4),
    _set_address(1, 2, 3, 3),
    _slice(0, [(3, 1)], 3, 3, (2, 0)),
    _slice(1, [(2, 1)], 4),
    _slice(0, [(2, 2), (3, 6)], 18, 2, (1,)),
    _slice(5, [(1, 0)], 6, 2, (0, 1)),
    _pad(0, [(4, 1)], 6),
    _pad(2, [(2, 1), (3, 5)], 16, shift=2, value=77),
    _pad(3, [(1, 0)], 4, signed=False, value=0),
    _pad(1, [(3, 2)], 6, signed=False, shift=3),
    _reorder(4, 3, [(4, -1)], 4),
    _reorder(6, 0, [(2, 3), (3, 1)], 12, 2, (1, 0)),
    _reorder(1, 0, [(3, 0)], 2),
    _reorder(3, 0, [(2, 0), (3, 1), (2, 0)], 5),
    # The last beat of a block is not given: it is free with the block all the same.
    _reorder(5, 2, [(2, -2), (2, 1)], 7, 2, (1,)),
    _concat([(5, True, 0, 2), (3, False, 1, 3)], 6, 2),
    _concat([(4, True, 2, 1), (4, False, 0, 1), (2, True, 1, 2), (6, True, 0, 4)], 7, 1),
    _concat([(4, True, 0, 3)], 4, 2),
)
