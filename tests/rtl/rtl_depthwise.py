"""chop_depthwise: its cycle-exact model, written from its header, and its cases."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from chop.ops.windows import WindowOrder, WindowShape, least_depth
from tests.rtl.rtl_case import Case, Signal, element, layer_ports, rom_file
from tests.rtl.rtl_linear import Weights
from tests.rtl.rtl_models import Beat, Expected, Model, Values, pack, split
from tests.rtl.rtl_windows import ParallelWindow, SerialWindow


@dataclass(frozen=True)
class Sums:
    """What is computed of windows; weight [output][tap], bias [output] or None."""

    weight: Sequence[Sequence[int]]
    bias: Sequence[int] | None
    multiplier: int
    lanes: int
    x_width: int
    signed: bool
    signs: bool
    out_width: int
    shift: int
    out_depth: int
    latency: int


@dataclass
class Depthwise(Model):
    """Steps, credits and latency of the header; the windows are those of chop_window."""

    sums: Sums
    window: SerialWindow | ParallelWindow
    now: int = 0
    # Beats of the present sum, and which output beat of a window it is.
    taken: list[Beat] = field(default_factory=list)
    beat: int = 0
    credits: int = -1
    queue: deque[tuple[int, Beat]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.credits = self.sums.out_depth

    def _output(self) -> Beat:
        s = self.sums
        elements = [
            value
            for word in self.taken
            for value in split(word, word_lanes(s, self.window), s.x_width, s.signed)
        ]
        if s.signs:
            elements = [-1 if value < 0 else 1 for value in elements]
        out_lanes = s.lanes * s.multiplier
        found = []
        for lane in range(out_lanes):
            row = self.beat * out_lanes + lane
            taps = elements[lane // s.multiplier :: s.lanes]
            total = sum(w * x for w, x in zip(s.weight[row], taps, strict=True)) << s.shift
            found.append(total + (s.bias[row] if s.bias else 0))
        return pack(found, s.out_width)

    def cycle(self, inputs: Values) -> Expected:
        s = self.sums
        steps = 1 if isinstance(self.window, ParallelWindow) else len(s.weight[0])
        completes = len(self.taken) == steps - 1
        held = self.window.held
        step = held is not None and (not completes or self.credits > 0)
        inner = self.window.cycle({**inputs, "y_ready": int(step)})
        valid = bool(self.queue) and self.queue[0][0] <= self.now
        out: Expected = {
            "x_ready": inner["x_ready"],
            "y_valid": valid,
            "y_data": self.queue[0][1] if valid else None,
        }
        if step:
            assert held is not None
            self.taken.append(held)
            if completes:
                self.credits -= 1
                self.queue.append((self.now + s.latency, self._output()))
                self.taken = []
                self.beat = (self.beat + 1) % (len(s.weight) // (s.lanes * s.multiplier))
        if valid and inputs["y_ready"]:
            self.queue.popleft()
            self.credits += 1
        self.now += 1
        return out


def word_lanes(sums: Sums, window: SerialWindow | ParallelWindow) -> int:
    """Returns the elements of a beat of the windows."""
    return sums.lanes * (len(sums.weight[0]) if isinstance(window, ParallelWindow) else 1)


def _depthwise(
    shape: WindowShape,
    lanes: int,
    *,
    parallel: bool = False,
    multiplier: int = 1,
    weights: Weights | None = None,
    widths: tuple[int, int, int] = (4, 8, 12),
    signed: bool = True,
    bias: bool = True,
    shift: int = 0,
    rom: int = 1,
    levels: int = 1,
    out_depth: int | None = None,
    depth: int = 0,
) -> Case:
    """Widths of x, bias and y; `depth` is what the windows have beyond the least."""
    weights = weights or Weights(width=4)
    order = WindowOrder.PARALLEL if parallel else WindowOrder.CHANNELS
    x_width, bias_width, y_width = widths
    taps, xnor = shape.kernel[0] * shape.kernel[1], weights.kind == "xnor"
    tap_lanes, out_lanes = taps if parallel else 1, lanes * multiplier
    latency = rom + 2 - (-(tap_lanes - 1).bit_length() // levels) + weights.latency
    outputs = shape.channels * multiplier
    codes = [[weights.draw() for _ in range(taps)] for _ in range(outputs)]
    biases = [element(bias_width, True) for _ in range(outputs)] if bias else None
    starts = [
        b + (weights.left_out(row, False) << shift)
        for b, row in zip(biases or [0] * outputs, codes, strict=True)
    ]
    words = [
        pack([c for row in codes[o : o + out_lanes] for c in row[t : t + tap_lanes]], weights.width)
        for o in range(0, outputs, out_lanes)
        for t in range(0, taps, tap_lanes)
    ]
    weight_file, roms = rom_file("w", words, out_lanes * tap_lanes * weights.width)
    window = shape.parameters(lanes, order, least_depth(shape, lanes, order) + depth)
    del window["ChannelOuter"]
    params: dict[str, int | str] = {
        **window,
        "Multiplier": multiplier,
        "InWidth": x_width,
        "InSigned": int(signed),
        "WeightKind": weights.kind,
        "WeightWidth": weights.width,
        "MantissaWidth": weights.mantissa,
        "FullWidth": weights.product_width(x_width),
        "BiasWidth": y_width if weights.kind != "integer" else bias_width,
        "SumWidth": y_width,
        "ProductShift": shift + xnor,
        "OutDepth": out_depth or latency + 1,
        "LevelsPerStage": levels,
        "RomLatency": rom,
        "WeightFile": weight_file,
        "HasBias": int(bias or any(starts)),
    }
    if params["HasBias"]:
        width = int(params["BiasWidth"])
        rows = [pack(starts[o : o + out_lanes], width) for o in range(0, outputs, out_lanes)]
        params["BiasFile"], more = rom_file("b", rows, out_lanes * width)
        roms |= more
    sums = Sums(
        [[weights.value(c) for c in row] for row in codes],
        biases,
        multiplier,
        lanes,
        x_width,
        signed,
        xnor,
        y_width,
        shift,
        int(params["OutDepth"]),
        latency,
    )

    def model() -> Model:
        common = (shape, shape.beats(lanes), lanes * x_width, 0, int(window["Depth"]))
        inner = ParallelWindow(*common) if parallel else SerialWindow(*common, channel_outer=True)
        return Depthwise(sums, inner)

    x, y = Signal("x", lanes, x_width), Signal("y", out_lanes, y_width)
    return Case("chop_depthwise", params, model, layer_ports(), (x,), (y,), roms=roms)


_SAME = WindowShape.of((4, 4, 3), (3, 3), padding=(1, 1, 1, 1))
_STRIDE = WindowShape.of((2, 5, 6), (2, 3), (2, 2), (1, 2))
_LINE = WindowShape.of((3, 1, 7), (1, 2), padding=(0, 0, 1, 0))
_PIXEL = WindowShape.of((4, 3, 2), (1, 1))
_ONE = WindowShape.of((1, 3, 3), (2, 2))

CASES = (
    _depthwise(_SAME, 2),
    _depthwise(_SAME, 1, multiplier=2, depth=5),
    _depthwise(_SAME, 4, parallel=True, levels=2),
    _depthwise(_SAME, 2, parallel=True, multiplier=3, rom=2, out_depth=1),
    _depthwise(_STRIDE, 1, signed=False, rom=2),
    _depthwise(_STRIDE, 2, parallel=True, shift=2, bias=False),
    _depthwise(_LINE, 3, out_depth=2),
    _depthwise(_LINE, 1, parallel=True, widths=(4, 7, 7)),
    _depthwise(_PIXEL, 2, bias=False),
    _depthwise(_PIXEL, 4),
    _depthwise(_ONE, 1, parallel=True, multiplier=2),
    _depthwise(_SAME, 2, weights=Weights("ternary", 2)),
    _depthwise(_STRIDE, 2, weights=Weights("minifloat", 5, 2), widths=(4, 6, 16)),
    _depthwise(_STRIDE, 1, parallel=True, weights=Weights("log", 4), widths=(4, 6, 16)),
    # Without padding every number is +1 or -1.
    _depthwise(_STRIDE, 2, weights=Weights("xnor", 1), widths=(2, 3, 6)),
    _depthwise(_STRIDE, 2, parallel=True, weights=Weights("xnor", 1), widths=(2, 3, 6), shift=1),
)
