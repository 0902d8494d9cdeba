"""The windows of a convolution or pool over a streamed frame: geometry, reference, exact timing.

A stream carries [C, H, W] as H, W, C. A *beat* is `lanes` channels of one pixel, so that beats are
numbered through a frame, and through all frames, in raster order. The hardware is
`hw/stream/chop_window.sv`, whose words are used here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import numpy as np

from chop.errors import ShapeError
from chop.formats.rounding import Ints
from chop.ops.timing import Flow, serial

__all__ = [
    "WindowOrder",
    "WindowShape",
    "cycles_per_frame",
    "keeps_pace",
    "least_depth",
    "windows_begin",
    "windows_flow",
    "windows_of",
    "windows_wait",
]

Pair = tuple[int, int]
# Later than any cycle: the deadline of a beat that nobody waits for.
_NEVER = np.int64(1) << 60
_EVER = -_NEVER
# How many frames show whether they take turns.
_PACED_FRAMES = 12


class WindowOrder(StrEnum):
    """What a beat holds and which comes first; T = KernelHeight * KernelWidth, B = C / lanes.

    TAPS: one tap, channels innermost: T * B beats a window, ordered (kh, kw, beat).
    CHANNELS: one tap, channels outermost: T * B beats a window, ordered (beat, kh, kw).
    PARALLEL: all taps of `lanes` channels, (kh, kw, lane): B beats a window.
    """

    TAPS = "taps"
    CHANNELS = "channels"
    PARALLEL = "parallel"


def _taps_inside(size: int, kernel: int, stride: int, dilation: int, pad: int, out: int) -> bool:
    starts = np.arange(out)[:, None] * stride - pad
    places = starts + np.arange(kernel)[None, :] * dilation
    return bool(((places >= 0) & (places < size)).any())


@dataclass(frozen=True, slots=True)
class WindowShape:
    """Windows over frames of [channels, height, width]; pairs are (vertical, horizontal).

    `padding` is top and left; bottom and right padding, or what is cropped there, follow from
    `out`, the number of windows. Use `of` to compute `out` as PyTorch does. Raises ShapeError where
    no window fits, or where no window holds a pixel of the frame.
    """

    channels: int
    height: int
    width: int
    kernel: Pair
    stride: Pair
    dilation: Pair
    padding: Pair
    out: Pair

    def __post_init__(self) -> None:
        positive = (self.channels, self.height, self.width)
        for value in (*positive, *self.kernel, *self.stride, *self.dilation):
            if value < 1:
                raise ShapeError(f"window: sizes, strides and dilations are >= 1, got {self}")
        if min(self.padding) < 0:
            raise ShapeError(f"window: padding is >= 0, got {self.padding}; crop before")
        for axis, (name, size) in enumerate((("height", self.height), ("width", self.width))):
            if self.out[axis] < 1:
                raise ShapeError(
                    f"window: the kernel must fit the padded frame, got {name} {size} for kernel "
                    f"{self.kernel[axis]}, dilation {self.dilation[axis]}; pad more or use a "
                    "smaller kernel"
                )
            steps = (self.kernel[axis], self.stride[axis], self.dilation[axis])
            if not _taps_inside(size, *steps, self.padding[axis], self.out[axis]):
                raise ShapeError(
                    f"window: some window must hold a pixel, got {name} {size} with all windows "
                    f"in the padding of {self.padding[axis]}; pad less"
                )

    @staticmethod
    def of(
        size: tuple[int, int, int],
        kernel: Pair,
        stride: Pair = (1, 1),
        dilation: Pair = (1, 1),
        padding: tuple[int, int, int, int] = (0, 0, 0, 0),
        ceil_mode: bool = False,
    ) -> WindowShape:
        """Returns the windows of a frame [C, H, W] with padding (top, bottom, left, right).

        `ceil_mode`, as in PyTorch's pools: a last window that begins inside the frame or its left
        or top padding counts although it goes past the padded frame.
        """
        channels, height, width = size
        top, bottom, left, right = padding
        out = []
        for axis, (length, before, after) in enumerate(
            ((height, top, bottom), (width, left, right))
        ):
            room = length + before + after - dilation[axis] * (kernel[axis] - 1) - 1
            # A stride below 1 is refused with the rest.
            step = max(stride[axis], 1)
            count = room // step + 1
            if ceil_mode:
                count = -(-room // step) + 1
                if (count - 1) * step >= length + before:
                    count -= 1
            out.append(max(count, 0))
        places = (kernel, stride, dilation, (top, left))
        return WindowShape(channels, height, width, *places, (out[0], out[1]))

    @property
    def reach(self) -> Pair:
        """Rows and columns from a window's first pixel to its last."""
        return (
            (self.kernel[0] - 1) * self.dilation[0],
            (self.kernel[1] - 1) * self.dilation[1],
        )

    @property
    def moving(self) -> Pair:
        """Rows and columns of windows that begin inside the frame or before it."""
        return (
            min(self.out[0], -(-(self.height + self.padding[0]) // self.stride[0])),
            min(self.out[1], -(-(self.width + self.padding[1]) // self.stride[1])),
        )

    def beats(self, lanes: int) -> int:
        """Returns the beats of a pixel. Raises ShapeError where lanes does not divide C."""
        if lanes < 1 or self.channels % lanes:
            raise ShapeError(f"window: lanes must divide {self.channels} channels, got {lanes}")
        return self.channels // lanes

    def parameters(self, lanes: int, order: WindowOrder, depth: int) -> dict[str, int]:
        """Returns the parameters of chop_window but for the elements."""
        return {
            "Channels": self.channels,
            "Lanes": lanes,
            "Height": self.height,
            "Width": self.width,
            "KernelHeight": self.kernel[0],
            "KernelWidth": self.kernel[1],
            "StrideHeight": self.stride[0],
            "StrideWidth": self.stride[1],
            "DilationHeight": self.dilation[0],
            "DilationWidth": self.dilation[1],
            "PadTop": self.padding[0],
            "PadLeft": self.padding[1],
            "OutHeight": self.out[0],
            "OutWidth": self.out[1],
            "Parallel": int(order is WindowOrder.PARALLEL),
            "ChannelOuter": int(order is WindowOrder.CHANNELS),
            "Depth": depth,
        }


def least_depth(shape: WindowShape, lanes: int, order: WindowOrder) -> int:
    """Returns the least Depth, in beats, that chop_window accepts."""
    beats = shape.beats(lanes)
    (rows, columns), (top, left) = shape.reach, shape.padding
    if order is WindowOrder.PARALLEL:
        return max(rows, top) * shape.width * beats + 1
    # The first window begins before the frame, whose first beat its first step waits for.
    reach, before = rows * shape.width + columns, top * shape.width + left
    return max((reach + 1) * beats, before * beats + 1)


# ---- What the windows hold ----


def windows_of(
    x: Ints, shape: WindowShape, lanes: int, order: WindowOrder, pad_value: int = 0
) -> Ints:
    """Returns the windows of frames [N, C, H, W] as [N, OutHeight * OutWidth, T * C].

    The last axis is in the order in which the stream carries a window.
    """
    (rows, columns), (top, left) = shape.reach, shape.padding
    bottom = (shape.out[0] - 1) * shape.stride[0] + rows + 1 - top - shape.height
    right = (shape.out[1] - 1) * shape.stride[1] + columns + 1 - left - shape.width
    pads = ((0, 0), (0, 0), (top, max(bottom, 0)), (left, max(right, 0)))
    padded = np.pad(x, pads, constant_values=pad_value)
    view = np.lib.stride_tricks.sliding_window_view(padded, (rows + 1, columns + 1), (2, 3))
    view = view[
        :, :, :: shape.stride[0], :: shape.stride[1], :: shape.dilation[0], :: shape.dilation[1]
    ]
    view = view[:, :, : shape.out[0], : shape.out[1]]
    count, beats, taps = shape.out[0] * shape.out[1], shape.beats(lanes), shape.kernel
    split = view.reshape(len(x), beats, lanes, count, *taps)
    if order is WindowOrder.TAPS:
        split = split.transpose(0, 3, 4, 5, 1, 2)
    else:
        split = split.transpose(0, 3, 1, 4, 5, 2)
    return split.reshape(len(x), count, taps[0] * taps[1] * shape.channels)


# ---- When beats move ----


def cycles_per_frame(shape: WindowShape, lanes: int, order: WindowOrder) -> int:
    """Returns the interval of frames: the input beats or the steps of a frame, whichever is more.

    In parallel, a row of windows takes a step for every column and channel beat, and for padding
    only where more windows than columns want it: as many steps as windows or columns, where the
    stride is 1 and padding at either side is not beyond the kernel.
    """
    beats = shape.beats(lanes)
    if order is WindowOrder.PARALLEL:
        places = _Positions.of(shape)
        steps = shape.out[0] * (places.end - places.begin + 1 - places.merge) * beats
    else:
        steps = shape.out[0] * shape.out[1] * shape.kernel[0] * shape.kernel[1] * beats
    return max(steps, shape.height * shape.width * beats)


@lru_cache(maxsize=256)
def keeps_pace(shape: WindowShape, lanes: int) -> bool:
    """Returns whether parallel windows of frames in their interval come in every frame alike.

    Where rows or columns are skipped, the loads of the next row may come in time for one frame and
    too late for the next: then frames take turns, one early and one late.
    """
    if shape.stride == (1, 1):
        return True
    cycles = cycles_per_frame(shape, lanes, WindowOrder.PARALLEL)
    frames = np.arange(_PACED_FRAMES, dtype=np.int64)[:, None] * cycles
    beats = np.arange(shape.height * shape.width * shape.beats(lanes), dtype=np.int64)
    valid = (frames + beats).reshape(-1)
    run = _parallel(valid, _PACED_FRAMES, shape, lanes, None)
    ends = run.valid.reshape(_PACED_FRAMES, -1)[_PACED_FRAMES // 2 :]
    return bool((np.diff(ends, axis=0) == cycles).all())


def windows_flow(
    valid: Ints,
    samples: int,
    shape: WindowShape,
    lanes: int,
    order: WindowOrder,
    left: Ints | None = None,
    offered: Ints | None = None,
) -> Flow:
    """Returns the movement of beats through chop_window, given when its input beats are valid.

    `valid` has samples * H * W * B cycles. Exact for a consumer that takes every beat at once, or
    in the cycles `left` where those are given; then `offered`, if given, are those from which it
    has a place for them. `in_depth` is the least Depth with which no beat is taken later than it is
    valid, and no less than `least_depth`. `patient_depth` is one that gives the same output where
    the sender can wait; by taps or channels it is the least one, unless V moves back (padding
    beyond the kernel).
    """
    if order is WindowOrder.PARALLEL:
        run = _parallel(valid, samples, shape, lanes, left)
    else:
        run = _serial(valid, samples, shape, lanes, order, left, offered)
    least = least_depth(shape, lanes, order)
    beats = np.arange(1, len(valid) + 1, dtype=np.int64)
    # Beat k is needed by its deadline, and the ones after it a cycle each later.
    latest = np.minimum.accumulate((run.deadlines - beats)[::-1])[::-1] + beats
    depth, patient = (
        max(least, int((beats - run.free[np.searchsorted(run.freed, times)]).max()))
        for times in (valid, latest)
    )
    patient = min(depth, patient)
    # A beat has its place once V is past the beat that many before it.
    past = np.searchsorted(np.maximum.accumulate(run.free), beats - patient)
    cycles = np.concatenate([[_EVER], run.freed + 1, [_NEVER]])
    places = cycles[np.minimum(past, len(run.freed) + 1)]

    def wait(taken: Ints, offered: Ints, narrow: int) -> Flow:
        frames, left = len(taken) // period, offered + narrow - 1
        return windows_flow(taken, frames, shape, lanes, order, left, offered)

    period = len(valid) // samples
    steps = _steps(shape, lanes, order, samples)
    return Flow((valid,), run.valid, depth, patient, None, latest, places, steps, wait)


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """Output times; the last cycle in which each input beat may be taken; V: `free[i]` until
    and in cycle `freed[i]`, the last entry of `free` thereafter.
    """

    valid: Ints
    deadlines: Ints
    free: Ints
    freed: Ints


def _steps(shape: WindowShape, lanes: int, order: WindowOrder, samples: int) -> Ints:
    """Returns the numbers of the steps that give beats, where no step is made in vain."""
    beats = shape.beats(lanes)
    if order is not WindowOrder.PARALLEL:
        taps = shape.kernel[0] * shape.kernel[1]
        return np.arange(samples * shape.out[0] * shape.out[1] * taps * beats, dtype=np.int64)
    places = _Positions.of(shape)
    positions = np.repeat(np.arange(places.begin, places.end + 1), beats)
    gives = (positions >= places.first) & ((positions - places.first) % shape.stride[1] == 0)
    rows = np.arange(samples * shape.out[0], dtype=np.int64)[:, None]
    steps: Ints = rows * (len(positions) - places.merge * beats) + np.flatnonzero(gives)
    return steps.reshape(-1)


def _through(frames: Ints, samples: int, period: int) -> Ints:
    """Returns beat numbers of one frame for all frames, and the first of the frame after."""
    starts = np.arange(samples + 1, dtype=np.int64) * period
    numbers = (starts[:, None] + frames.reshape(1, -1)).reshape(-1)
    return numbers[: samples * frames.size + 1]


def _pixels(shape: WindowShape) -> Ints:
    """Returns the pixel of each tap, -1 in the padding: [OutHeight * OutWidth, T]."""
    places = []
    for axis, size in enumerate((shape.height, shape.width)):
        starts = np.arange(shape.out[axis], dtype=np.int64) * shape.stride[axis]
        taps = np.arange(shape.kernel[axis], dtype=np.int64) * shape.dilation[axis]
        place = starts[:, None] - shape.padding[axis] + taps[None, :]
        places.append(np.where((place >= 0) & (place < size), place, -1))
    rows, columns = places[0][:, None, :, None], places[1][None, :, None, :]
    pixels = np.where((rows >= 0) & (columns >= 0), rows * shape.width + columns, -1)
    return pixels.reshape(shape.out[0] * shape.out[1], -1)


def windows_wait(shape: WindowShape, beats: int, order: WindowOrder) -> tuple[Ints, Ints]:
    """Returns the steps of a frame that wait for a beat later than all before, and those beats.

    Step 0 is among them: it waits for the frame's first beat even if its own pixel is padding.
    """
    pixels = _pixels(shape)
    taps = pixels.shape[1]
    newest = np.maximum.accumulate(pixels.reshape(-1))
    places = np.flatnonzero(np.diff(newest, prepend=-1))
    pixels = newest[places]
    inner = np.arange(beats, dtype=np.int64)
    if order is WindowOrder.TAPS:
        steps = (places[:, None] * beats + inner).reshape(-1)
        needed = (pixels[:, None] * beats + inner).reshape(-1)
    else:
        # Behind a window's first channel beat, only its last new pixel brings a later beat.
        windows, tap = np.divmod(places, taps)
        last = np.append(np.diff(windows) > 0, True)
        first = windows * taps * beats + tap
        later = first[last, None] + inner[1:] * taps
        steps = np.concatenate([first, later.reshape(-1)])
        needed = np.concatenate(
            [pixels * beats, (pixels[last, None] * beats + inner[1:]).reshape(-1)]
        )
        rank = np.argsort(steps)
        steps, needed = steps[rank], needed[rank]
    if steps[0] > 0:
        steps, needed = np.insert(steps, 0, 0), np.insert(needed, 0, 0)
    return steps, needed


def _serial(
    valid: Ints,
    samples: int,
    shape: WindowShape,
    lanes: int,
    order: WindowOrder,
    left: Ints | None,
    offered: Ints | None,
) -> _Run:
    beats = shape.beats(lanes)
    period = shape.height * shape.width * beats
    windows, per_window = shape.out[0] * shape.out[1], shape.kernel[0] * shape.kernel[1] * beats
    frame_steps, frame_needed = windows_wait(shape, beats, order)
    steps = _through(frame_steps, samples, windows * per_window)[:-1]
    needed = _through(frame_needed, samples, period)[:-1]
    # A step is one cycle behind the one before; between the waits nothing else holds it.
    delays = np.maximum(np.maximum.accumulate(valid[needed] + 1 - steps), 0)
    total = samples * windows * per_window
    counts = np.diff(steps, append=total)
    times = np.arange(total, dtype=np.int64) + np.repeat(delays, counts)
    if left is not None:
        # A step needs the output register; the beat before has left it.
        times[1:] = np.maximum(times[1:], left[:-1])
    deadlines = np.full(len(valid), _NEVER)
    # The last of equal indices counts: a frame's first beat has its first step's deadline.
    latest = times[steps]
    if offered is not None:
        latest = np.maximum(latest, offered[steps] - 1)
    deadlines[needed[::-1]] = (latest - 1)[::-1]
    free = _through(windows_begin(shape) * beats, samples, period)
    return _Run(times + 1, deadlines, free, times[per_window - 1 :: per_window])


def windows_begin(shape: WindowShape) -> Ints:
    """Returns the pixel that V is at, by taps or channels: [OutHeight, OutWidth]."""
    rows, columns = (np.arange(count, dtype=np.int64) for count in shape.out)
    places: Ints = np.minimum(columns, shape.moving[1] - 1) * shape.stride[1] - shape.padding[1]
    begins: Ints = _begins(shape, rows)[:, None] + places
    begins[rows >= shape.moving[0]] = begins[shape.moving[0] - 1, -1]
    return begins


def _begins(shape: WindowShape, rows: Ints) -> Ints:
    """Returns the pixel at the left end of the first row of each row of windows."""
    moving = np.minimum(rows, shape.moving[0] - 1)
    return (moving * shape.stride[0] - shape.padding[0]) * shape.width


@dataclass(frozen=True, slots=True)
class _Positions:
    """A row of windows of chop_window_parallel: its positions, `begin` to `end`."""

    first: int
    begin: int
    end: int
    columns: int
    merge: int

    @staticmethod
    def of(shape: WindowShape) -> _Positions:
        first = shape.reach[1] - shape.padding[1]
        last = first + (shape.out[1] - 1) * shape.stride[1]
        columns, begin = min(last + 1, shape.width), min(first, 0)
        merge = min(last + 1 - columns, max(0, min(first, columns)))
        return _Positions(first, begin, last, columns, merge)


def _parallel(valid: Ints, samples: int, shape: WindowShape, lanes: int, left: Ints | None) -> _Run:
    beats, places = shape.beats(lanes), _Positions.of(shape)
    row_beats = shape.width * beats
    period, loads = shape.height * row_beats, places.columns * beats
    rows = np.arange(shape.out[0], dtype=np.int64)
    # Windows that begin below the frame wait for nothing new.
    moving = np.minimum(rows, shape.moving[0] - 1)
    bottom = moving * shape.stride[0] - shape.padding[0] + shape.reach[0]
    bottoms = _through(np.clip(bottom, 0, shape.height - 1) * row_beats, samples, period)
    positions = np.repeat(np.arange(places.begin, places.end + 1), beats)
    gives = (positions >= places.first) & ((positions - places.first) % shape.stride[1] == 0)
    reads = (positions >= 0) & (positions < places.columns)
    merged_steps, ahead = len(positions) - places.merge * beats, 0
    deadlines = np.full(len(valid), _NEVER)
    given, loaded, free, count = [], [], 0, 0
    for row in range(samples * shape.out[0]):
        # The first `ahead` loads were made with the row before.
        steps, waits = positions[ahead:], reads[ahead:]
        earliest = np.zeros(len(steps), dtype=np.int64)
        needed = bottoms[row] + np.arange(ahead, loads)
        earliest[waits] = valid[needed] + 1
        if ahead == 0:
            earliest[0] = valid[needed[0]] + 1
        if left is not None:
            # A step needs the output register; the beat before has left it.
            before = count + np.cumsum(gives[ahead:]) - gives[ahead:]
            earliest = np.maximum(earliest, np.where(before > 0, left[before - 1], 0))
            count += int(gives[ahead:].sum())
        times = serial(earliest, 1, free)
        loaded.append(times[waits])
        given.append(times[gives[ahead:]])
        deadlines[needed] = np.minimum(deadlines[needed], times[waits] - 1)
        if ahead == 0:
            deadlines[needed[0]] = min(deadlines[needed[0]], times[0] - 1)
        free, start = int(times[-1]) + 1, merged_steps - ahead
        ahead = 0
        if places.merge and row + 1 < samples * shape.out[0]:
            last = int(bottoms[row + 1]) + places.merge * beats - 1
            if valid[last] < times[start]:
                loaded.append(times[start:])
                ahead = places.merge * beats
                deadlines[last] = min(deadlines[last], times[start] - 1)
    frees = _begins(shape, rows)[:, None] * beats + np.arange(loads)
    frees[rows >= shape.moving[0]] = frees[shape.moving[0] - 1, -1]
    return _Run(
        np.concatenate(given) + 1,
        deadlines,
        _through(frees, samples, period),
        np.concatenate(loaded),
    )
