"""chop_window: its cycle-exact model, written from its header, and its cases."""

from __future__ import annotations

from dataclasses import dataclass, field

from chop.ops.windows import WindowOrder, WindowShape, least_depth
from tests.rtl.rtl_case import Case, Signal, layer_ports
from tests.rtl.rtl_models import Beat, Expected, Model, Values

Place = tuple[int, int]


@dataclass
class _Window(Model):
    """What both kinds share: every beat ever accepted, how far V is, the output register."""

    shape: WindowShape
    beats: int
    width: int
    pad: Beat
    depth: int
    stored: list[Beat] = field(default_factory=list)
    held: Beat | None = None

    def lowest(self) -> int:
        """Returns V."""
        raise NotImplementedError

    def advance(self, stored: int) -> Beat | None:
        """Takes a step if it may, with so many beats stored; returns the beat that it gives."""
        raise NotImplementedError

    def cycle(self, inputs: Values) -> Expected:
        stored, ready = len(self.stored), len(self.stored) < self.lowest() + self.depth
        out: Expected = {"x_ready": ready, "y_valid": self.held is not None, "y_data": self.held}
        if self.held is None or inputs["y_ready"]:
            self.held = self.advance(stored)
        if ready and inputs["x_valid"]:
            self.stored.append(inputs["x_data"])
        return out

    def number(self, frame: int, row: int, column: int) -> int:
        """Returns the beat of the first channels of a pixel, in a frame without edges."""
        return ((frame * self.shape.height + row) * self.shape.width + column) * self.beats

    def inside(self, row: int, column: int) -> bool:
        return 0 <= row < self.shape.height and 0 <= column < self.shape.width

    def corner(self, window: Place) -> Place:
        """Returns the place of a window's first pixel."""
        row, column = (
            w * s - p for w, s, p in zip(window, self.shape.stride, self.shape.padding, strict=True)
        )
        return row, column

    def tap(self, window: Place, kernel: Place) -> Place:
        """Returns the place of a pixel of a window."""
        row, column = (
            c + k * d
            for c, k, d in zip(self.corner(window), kernel, self.shape.dilation, strict=True)
        )
        return row, column


@dataclass
class SerialWindow(_Window):
    """One beat of one pixel at a time."""

    channel_outer: bool = False
    frame: int = 0
    window: Place = (0, 0)
    step: int = 0

    def lowest(self) -> int:
        shape = self.shape
        rows = [r for r in range(self.window[0] + 1) if self.corner((r, 0))[0] < shape.height]
        below = len(rows) <= self.window[0]
        columns = range(shape.out[1] if below else self.window[1] + 1)
        column = max(c for c in columns if self.corner((0, c))[1] < shape.width)
        return self.number(self.frame, *self.corner((rows[-1], column)))

    def advance(self, stored: int) -> Beat | None:
        height, width = self.shape.kernel
        if self.channel_outer:
            beat, tap = divmod(self.step, height * width)
        else:
            tap, beat = divmod(self.step, self.beats)
        place = self.tap(self.window, divmod(tap, width))
        number = self.number(self.frame, *place) + beat
        if (self.window, self.step) == ((0, 0), 0) and self.number(self.frame, 0, 0) >= stored:
            return None
        if self.inside(*place):
            if number >= stored:
                return None
            assert number >= self.lowest(), "read after it was freed"
            given = self.stored[number]
        else:
            given = self.pad
        self.step = (self.step + 1) % (height * width * self.beats)
        if self.step == 0:
            self._next_window()
        return given

    def _next_window(self) -> None:
        row, column = self.window
        if column + 1 < self.shape.out[1]:
            self.window = row, column + 1
        elif row + 1 < self.shape.out[0]:
            self.window = row + 1, 0
        else:
            self.window, self.frame = (0, 0), self.frame + 1


@dataclass
class ParallelWindow(_Window):
    """A whole window of some channels at a time: loads of columns, and positions that use them.

    `row`, `load_row` count rows of windows through all frames; `loaded` are the beats of columns
    that were loaded for `load_row`.
    """

    row: int = 0
    position: int = 0
    beat: int = 0
    merging: bool = False
    load_row: int = 0
    loaded: int = 0

    def __post_init__(self) -> None:
        self.position = self.begin

    @property
    def first(self) -> int:
        return self.shape.reach[1] - self.shape.padding[1]

    @property
    def end(self) -> int:
        return self.first + (self.shape.out[1] - 1) * self.shape.stride[1]

    @property
    def begin(self) -> int:
        return min(self.first, 0)

    @property
    def columns(self) -> int:
        return min(self.shape.width, self.end + 1)

    @property
    def merge(self) -> int:
        ahead = max(0, min(self.first, self.columns))
        return min(self.end + 1 - self.columns, ahead)

    def lowest(self) -> int:
        shape = self.shape
        frame, row = divmod(self.load_row, shape.out[0])
        moving = max(r for r in range(row + 1) if self.corner((r, 0))[0] < shape.height)
        if moving < row:
            return self.number(frame, self.corner((moving, 0))[0], self.columns) - 1
        return self.number(frame, self.corner((row, 0))[0], 0) + self.loaded

    def _waits_for(self, row: int, load: int) -> int:
        frame, out_row = divmod(row, self.shape.out[0])
        tops = [self.corner((r, 0))[0] for r in range(out_row + 1)]
        bottom = max(top for top in tops if top < self.shape.height) + self.shape.reach[0]
        return self.number(frame, max(0, min(bottom, self.shape.height - 1)), 0) + load

    def advance(self, stored: int) -> Beat | None:
        wanted = 0 <= self.position < self.columns
        starts = self.position == self.begin and self.beat == 0
        if (wanted or starts) and self._waits_for(self.load_row, self.loaded) >= stored:
            return None
        if self.position == self.end - self.merge + 1 and self.beat == 0:
            last = self.merge * self.beats - 1
            self.merging = self._waits_for(self.row + 1, last) < stored
        given = None
        offset, phase = divmod(self.position - self.first, self.shape.stride[1])
        if self.position >= self.first and phase == 0:
            given = self._window(offset)
        if wanted or self.merging:
            self.loaded += 1
            if self.loaded == self.columns * self.beats:
                self.load_row, self.loaded = self.load_row + 1, 0
        self._next_step()
        return given

    def _next_step(self) -> None:
        self.beat = (self.beat + 1) % self.beats
        if self.beat == 0 and self.position < self.end:
            self.position += 1
        elif self.beat == 0:
            self.position = self.merge if self.merging else self.begin
            self.row += 1
            self.merging = False

    def _window(self, column: int) -> Beat:
        frame, row = divmod(self.row, self.shape.out[0])
        height, width = self.shape.kernel
        word = 0
        for k in range(height * width):
            place = self.tap((row, column), divmod(k, width))
            number = self.number(frame, *place) + self.beat
            value = self.stored[number] if self.inside(*place) else self.pad
            word |= value << (k * self.width)
        return word


def window_case(
    shape: WindowShape,
    lanes: int,
    order: WindowOrder,
    depth: int | None = None,
    *,
    element_width: int = 3,
    pad: int = 0,
    inner: bool = False,
) -> Case:
    """Returns a case of chop_window, or of the module inside it; `depth` if not the least."""
    depth = depth or least_depth(shape, lanes, order)
    beats, parallel = shape.beats(lanes), order is WindowOrder.PARALLEL
    taps = shape.kernel[0] * shape.kernel[1]
    params: dict[str, int | str] = {
        "ElementWidth": element_width,
        "PadValue": f"64'h{pad:x}",
        **shape.parameters(lanes, order, depth),
    }
    module = "chop_window"
    if inner:
        del params["Parallel"], params["Channels"]
        params["Beats"] = beats
        module = "chop_window_parallel" if parallel else "chop_window_serial"
        if parallel:
            del params["ChannelOuter"]
    padding = sum(pad << (lane * element_width) for lane in range(lanes))

    def model() -> Model:
        common = (shape, beats, lanes * element_width, padding, depth)
        if parallel:
            return ParallelWindow(*common)
        return SerialWindow(*common, channel_outer=order is WindowOrder.CHANNELS)

    x = Signal("x", lanes, element_width)
    y = Signal("y", lanes * taps if parallel else lanes, element_width)
    return Case(module, params, model, layer_ports(), (x,), (y,))


@dataclass
class Loop(Model):
    """chop_loop: `step` moves it."""

    count: int
    index: int = 0

    def cycle(self, inputs: Values) -> Expected:
        out: Expected = {"first": self.index == 0, "last": self.index == self.count - 1}
        self.index = (self.index + inputs["step"]) % self.count
        return out


def _loop(count: int) -> Case:
    return Case(
        "chop_loop",
        {"Count": count},
        lambda: Loop(count),
        {"step_i": "step", "first_o": "first", "last_o": "last"},
        randoms=(Signal("step"),),
        wires=(Signal("first"), Signal("last")),
    )


_TAPS, _CHANNELS, _PARALLEL = WindowOrder.TAPS, WindowOrder.CHANNELS, WindowOrder.PARALLEL
_SAME = WindowShape.of((4, 4, 5), (3, 3), padding=(1, 1, 1, 1))
_POOL = WindowShape.of((2, 6, 7), (3, 2), (2, 2), ceil_mode=True)
_HOLES = WindowShape.of((2, 7, 5), (2, 2), (3, 1), (2, 3), (1, 2, 2, 2))
_FULL = WindowShape.of((2, 3, 3), (3, 3), padding=(2, 2, 2, 2))
# Windows that hold no pixel on every side, and a frame of one pixel.
_WIDE = WindowShape.of((1, 3, 4), (2, 1), (1, 2), padding=(3, 3, 2, 3))
_POINT = WindowShape.of((2, 1, 1), (3, 3), padding=(1, 1, 1, 1))
_LINE = WindowShape.of((2, 1, 9), (1, 3), (1, 2), padding=(0, 0, 1, 1))
_TALL = WindowShape.of((2, 9, 1), (3, 1), (2, 1), padding=(1, 1, 0, 0))
_PIXEL = WindowShape.of((2, 4, 5), (1, 1), (2, 3))

CASES = (
    *(_loop(count) for count in (1, 2, 5)),
    window_case(_SAME, 2, _TAPS, pad=5),
    window_case(_SAME, 2, _CHANNELS),
    window_case(_SAME, 2, _PARALLEL, 21),
    window_case(_POOL, 1, _TAPS),
    window_case(_POOL, 2, _PARALLEL),
    window_case(_HOLES, 1, _TAPS, 64),
    window_case(_HOLES, 1, _PARALLEL, pad=5),
    window_case(_FULL, 1, _CHANNELS),
    window_case(_FULL, 2, _PARALLEL),
    window_case(_WIDE, 1, _TAPS, inner=True),
    window_case(_WIDE, 1, _PARALLEL, inner=True),
    window_case(_POINT, 1, _TAPS),
    window_case(_POINT, 2, _PARALLEL),
    window_case(_LINE, 2, _PARALLEL, 3),
    window_case(_TALL, 1, _PARALLEL),
    window_case(_PIXEL, 2, _TAPS),
    window_case(_PIXEL, 1, _PARALLEL),
)
