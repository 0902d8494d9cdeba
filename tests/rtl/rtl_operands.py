"""Cases of the layers of two operands, and of what repeats a smaller one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tests.rtl.rtl_case import RANDOM, Case, Signal, layer_ports, rom_file
from tests.rtl.rtl_models import Beat, Expected, Model, Replay, Values, pack, round_saturate, split


@dataclass
class Repeat(Model):
    """chop_repeat: a replay buffer and the register behind it; `spread` repeats lane by lane."""

    beats: int
    repeats: int
    depth: int
    lanes: int
    width: int
    spread: bool
    held: bool = False
    word: Beat = 0
    steps: int = 0
    buffer: Replay = field(init=False)

    def __post_init__(self) -> None:
        self.buffer = Replay(self.beats, self.repeats, self.depth)

    def shown(self) -> Beat:
        if not self.spread:
            return self.word
        hold = self.repeats // self.lanes
        lane = (self.steps - 1) // hold % self.lanes
        element = (self.word >> (lane * self.width)) & ((1 << self.width) - 1)
        return pack([element] * self.lanes, self.width)

    def cycle(self, inputs: Values) -> Expected:
        out: Expected = {"y_valid": self.held, "y_data": self.shown() if self.held else None}
        free = not self.held or bool(inputs["y_ready"])
        inner = self.buffer.cycle({**inputs, "y_ready": int(free)})
        step = free and bool(inner["y_valid"])
        if step:
            assert self.buffer.stepped is not None
            self.word, self.steps = self.buffer.stepped, self.steps + 1
        if free:
            self.held = step
        return out | {"x_ready": inner["x_ready"]}


@dataclass
class Pair(Model):
    """Two streams joined, a smaller operand repeated, and elastic stages behind a function.

    Without stages it is chop_operands.
    """

    function: Callable[[Beat, Beat], Beat]
    stages: list[Beat | None]
    repeated: tuple[Repeat | None, Repeat | None]

    def cycle(self, inputs: Values) -> Expected:
        ready = bool(inputs["y_ready"])
        out: Expected = {}
        if self.stages:
            out = {"y_valid": self.stages[-1] is not None, "y_data": self.stages[-1]}
        for k in reversed(range(len(self.stages))):
            ready = ready or self.stages[k] is None
            if ready:
                self.stages[k] = self.stages[k - 1] if k else None
                if k:
                    self.stages[k - 1] = None
        names = ("a", "b")
        valids = [
            bool(inputs[f"{name}_valid"]) if own is None else own.held
            for name, own in zip(names, self.repeated, strict=True)
        ]
        beats = [
            inputs[f"{name}_data"] if own is None else own.shown()
            for name, own in zip(names, self.repeated, strict=True)
        ]
        take = all(valids) and ready
        if not self.stages:
            data = self.function(*beats) if all(valids) else None
            out |= {"y_valid": all(valids), "y_data": data}
        for name, own in zip(names, self.repeated, strict=True):
            if own is None:
                out[f"{name}_ready"] = take
                continue
            seen = {"x_valid": inputs[f"{name}_valid"], "x_data": inputs[f"{name}_data"]}
            out[f"{name}_ready"] = own.cycle({**seen, "y_ready": int(take)})["x_ready"]
        if take and self.stages:
            self.stages[0] = self.function(*beats)
        return out


@dataclass
class Largest(Model):
    """chop_argmax: a register behind the largest of a beat, then the result's."""

    lanes: int
    size: int
    numbers: Callable[[Beat], list[int]]
    held: Beat | None = None
    elements: list[int] = field(default_factory=list)
    result: int | None = None

    def cycle(self, inputs: Values) -> Expected:
        free = self.result is None or bool(inputs["y_ready"])
        last = len(self.elements) == self.size - self.lanes
        moves = not last or free
        out: Expected = {
            "x_ready": moves or self.held is None,
            "y_valid": self.result is not None,
            "y_data": self.result,
        }
        if free:
            self.result = None
        if self.held is not None and moves:
            self.elements += self.numbers(self.held)
            self.held = None
            if last:
                self.result = self.elements.index(max(self.elements))
                self.elements = []
        if out["x_ready"] and inputs["x_valid"]:
            self.held = inputs["x_data"]
        return out


@dataclass
class Looked(Model):
    """chop_embedding: a replay buffer of indices, the index, the word of the table."""

    words: list[Beat]
    beats: int
    depth: int
    index: int | None = None
    word: Beat | None = None
    reads: int = 0
    buffer: Replay = field(init=False)

    def __post_init__(self) -> None:
        self.buffer = Replay(1, self.beats, self.depth)

    def cycle(self, inputs: Values) -> Expected:
        out: Expected = {"y_valid": self.word is not None, "y_data": self.word}
        word_free = self.word is None or bool(inputs["y_ready"])
        index_free = self.index is None or word_free
        inner = self.buffer.cycle({**inputs, "y_ready": int(index_free)})
        if word_free:
            self.word = None
            if self.index is not None:
                self.word = self.words[self.index * self.beats + self.reads]
                self.reads = (self.reads + 1) % self.beats
                self.index = None
        if index_free and inner["y_valid"]:
            self.index = self.buffer.stepped
        return out | {"x_ready": inner["x_ready"]}


# Width, signedness, left shift of an operand; beats, repeats, spread, depth where it is repeated.
Operand = tuple[int, bool, int]
Repeats = tuple[int, int, bool, int]


def _repeat(lanes: int, width: int, repeats: Repeats) -> Case:
    beats, times, spread, depth = repeats
    ports = {port[2:]: signal for port, signal in layer_ports().items()}
    return Case(
        "chop_repeat",
        {
            "ElementWidth": width,
            "Lanes": lanes,
            "Beats": beats,
            "Repeats": times,
            "Spread": int(spread),
            "Depth": depth,
        },
        lambda: Repeat(beats, times, depth, lanes, width, spread),
        ports,
        (Signal("x", lanes, width),),
        (Signal("y", lanes, width),),
    )


def _operands(a_width: int, b_width: int, lanes: int, again: Repeats) -> Case:
    """The second operand is repeated; y holds both, a below b."""
    a_bits, b_bits = lanes * a_width, lanes * b_width
    beats, times, spread, depth = again
    ports = {port: signal for port, signal in layer_ports("ab").items() if port[0] != "y"}
    ports |= {"valid_o": "y_valid", "ready_i": "y_ready"}
    ports |= {"a_data_o": f"y_data[0 +: {a_bits}]", "b_data_o": f"y_data[{a_bits} +: {b_bits}]"}
    own = {"BBeats": beats, "BRepeats": times, "BSpread": int(spread), "BDepth": depth}
    return Case(
        "chop_operands",
        {"Lanes": lanes, "AWidth": a_width, "BWidth": b_width, **own},
        lambda: Pair(
            lambda a, b: a | b << a_bits,
            [],
            (None, Repeat(*again[:2], depth, lanes, b_width, spread)),
        ),
        ports,
        (Signal("a", lanes, a_width), Signal("b", lanes, b_width)),
        (Signal("y", 1, a_bits + b_bits),),
    )


def _pair(
    module: str,
    a: Operand,
    b: Operand,
    out: tuple[int, bool],
    exact: Callable[[int, int], int],
    *,
    stages: int = 1,
    right: int = 0,
    left: int = 0,
    rounding: int = 0,
    repeated: tuple[Repeats | None, Repeats | None] = (None, None),
    **own: int,
) -> Case:
    lanes = 2
    parameters: dict[str, int | str] = {"Lanes": lanes, **own, "Rounding": rounding}
    parameters |= {"OutWidth": out[0], "OutSigned": int(out[1]), "ShiftRight": right}
    if left:
        parameters["ShiftLeft"] = left
    for name, x, again in (("A", a, repeated[0]), ("B", b, repeated[1])):
        parameters |= {f"{name}Width": x[0], f"{name}Signed": int(x[1])}
        if stages == 1:
            parameters[f"{name}ShiftLeft"] = x[2]
        if again is not None:
            names = ("Beats", "Repeats", "Spread", "Depth")
            parameters |= {
                f"{name}{key}": int(value) for key, value in zip(names, again, strict=True)
            }

    def function(a_beat: Beat, b_beat: Beat) -> Beat:
        pairs = zip(split(a_beat, lanes, *a[:2]), split(b_beat, lanes, *b[:2]), strict=True)
        results = [exact(u << a[2], v << b[2]) for u, v in pairs]
        return pack([round_saturate(r, right, left, rounding, *out) for r in results], out[0])

    def model() -> Model:
        parts = [
            None if again is None else Repeat(*again[:2], again[3], lanes, x[0], again[2])
            for x, again in ((a, repeated[0]), (b, repeated[1]))
        ]
        return Pair(function, [None] * stages, (parts[0], parts[1]))

    sources = (Signal("a", lanes, a[0]), Signal("b", lanes, b[0]))
    y = Signal("y", lanes, out[0])
    return Case(module, parameters, model, layer_ports("ab"), sources, (y,))


def _scaled(
    a: tuple[int, bool],
    b: tuple[int, bool],
    out: tuple[int, bool],
    factors: tuple[int, int, int],
    right: int,
    *,
    rounding: int = 1,
    symmetric: bool = False,
    repeated: tuple[Repeats | None, Repeats | None] = (None, None),
) -> Case:
    """Factors of a and b, and the offset."""
    m, n, offset = factors
    lowest = -((1 << (out[0] - 1)) - 1) << right if symmetric else None

    def exact(u: int, v: int) -> int:
        total = u * m + v * n + offset
        return total if lowest is None else max(total, lowest)

    case = _pair(
        *("chop_scaled_add", (*a, 0), (*b, 0), out, exact),
        stages=2,
        right=right,
        rounding=rounding,
        repeated=repeated,
        Symmetric=int(symmetric),
    )
    words = {
        name: f"64'h{value & ((1 << 64) - 1):016x}"
        for name, value in zip(("AFactor", "BFactor", "Offset"), factors, strict=True)
    }
    return replace(case, parameters={**case.parameters, **words})


def _argmax(lanes: int, size: int, width: int, signed: bool, out_width: int) -> Case:
    parameters = {"Lanes": lanes, "Size": size, "InWidth": width, "InSigned": int(signed)}
    return Case(
        "chop_argmax",
        {**parameters, "OutWidth": out_width},
        lambda: Largest(lanes, size, lambda beat: split(beat, lanes, width, signed)),
        layer_ports(),
        (Signal("x", lanes, width),),
        (Signal("y", 1, out_width),),
    )


def _embedding(index_width: int, beats: int, lanes: int, width: int, depth: int) -> Case:
    rows = 1 << index_width
    words = [RANDOM.getrandbits(lanes * width) for _ in range(rows * beats)]
    file, roms = rom_file("e", words, lanes * width)
    parameters = {"IndexWidth": index_width, "Rows": rows, "Beats": beats, "OutLanes": lanes}
    return Case(
        "chop_embedding",
        {**parameters, "OutWidth": width, "InDepth": depth, "TableFile": file},
        lambda: Looked(words, beats, depth),
        layer_ports(),
        (Signal("x", 1, index_width),),
        (Signal("y", lanes, width),),
        roms=roms,
    )


def _product(u: int, v: int) -> int:
    return u * v


CASES = (
    _repeat(2, 3, (3, 2, False, 4)),
    _repeat(1, 4, (4, 3, False, 4)),
    _repeat(2, 3, (1, 5, False, 2)),
    _repeat(3, 2, (1, 6, True, 1)),
    _repeat(2, 3, (1, 2, True, 2)),
    _repeat(1, 3, (1, 4, True, 3)),
    _operands(3, 2, 2, (2, 3, False, 3)),
    _operands(2, 3, 2, (1, 4, True, 1)),
    _embedding(3, 2, 2, 4, 1),
    _embedding(2, 1, 1, 5, 2),
    _embedding(1, 3, 2, 3, 3),
    _argmax(2, 6, 3, True, 3),
    _argmax(3, 3, 2, False, 2),
    _argmax(1, 5, 3, True, 4),
    _argmax(5, 10, 4, False, 4),
    _argmax(1, 1, 4, True, 1),
    _pair("chop_extreme", (5, True, 0), (5, True, 0), (5, True), max),
    _pair("chop_extreme", (5, True, 2), (6, False, 0), (6, True), min, right=1, Minimum=1),
    _pair("chop_extreme", (5, False, 0), (4, True, 1), (8, True), max, left=2),
    _pair(
        *("chop_extreme", (4, True, 1), (5, False, 0), (4, True), min),
        right=2,
        rounding=2,
        repeated=((2, 3, False, 3), None),
        Minimum=1,
    ),
    _pair("chop_multiply", (5, True, 0), (4, True, 0), (9, True), _product, stages=2),
    _pair("chop_multiply", (5, False, 0), (4, True, 0), (6, True), _product, stages=2, right=2),
    _pair(
        *("chop_multiply", (4, False, 0), (4, False, 0), (8, False), _product),
        stages=2,
        rounding=1,
        right=1,
        repeated=(None, (1, 4, True, 2)),
    ),
    _pair(
        *("chop_multiply", (3, True, 0), (4, True, 0), (8, True), _product),
        stages=2,
        left=1,
        repeated=((1, 6, True, 1), (3, 2, False, 5)),
    ),
    _scaled((4, True), (5, False), (6, True), (13, -21, 40), 4),
    _scaled((5, False), (3, True), (5, False), (-3, 7, -9), 2, rounding=1),
    _scaled((4, True), (4, True), (4, True), (5, 3, 0), 3, rounding=2, symmetric=True),
    _scaled((3, True), (4, True), (6, True), (9, 2, 1), 1, repeated=(None, (2, 3, False, 2))),
    _pair(
        *("chop_add", (5, True, 1), (5, False, 0), (6, True), lambda u, v: u - v),
        right=1,
        repeated=(None, (2, 4, False, 2)),
        BNegate=1,
    ),
)
