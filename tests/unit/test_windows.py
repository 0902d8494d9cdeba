"""Windows: geometry and reference against PyTorch, timing against the cycle model of the RTL."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from chop.errors import ShapeError
from chop.ops.windows import (
    WindowOrder,
    WindowShape,
    cycles_per_frame,
    keeps_pace,
    least_depth,
    windows_flow,
    windows_of,
)
from tests.rtl.rtl_windows import window_case

ORDERS = tuple(WindowOrder)


@st.composite
def shapes(draw: st.DrawFn) -> WindowShape:
    """Every kind of window: paddings beyond the kernel, holes, cropped ends, one pixel."""
    height, width = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    pairs = [(draw(st.integers(1, n)), draw(st.integers(1, n))) for n in (4, 3, 2)]
    top, bottom, left, right = (draw(st.integers(0, 4)) for _ in range(4))
    size, padding = (draw(st.integers(1, 4)), height, width), (top, bottom, left, right)
    try:
        return WindowShape.of(
            size, pairs[0], pairs[1], pairs[2], padding, ceil_mode=draw(st.booleans())
        )
    except ShapeError:
        assume(False)
        raise


@st.composite
def cases(draw: st.DrawFn) -> tuple[WindowShape, int, WindowOrder, int]:
    """Returns a shape, lanes, an order and samples."""
    shape = draw(shapes())
    lanes = draw(st.sampled_from([n for n in range(1, 5) if shape.channels % n == 0]))
    return shape, lanes, draw(st.sampled_from(ORDERS)), draw(st.integers(1, 3))


def _simulated(
    case: tuple[WindowShape, int, WindowOrder, int], valid: Sequence[int], depth: int
) -> tuple[list[int], list[int]]:
    """Returns when input beats were taken and output beats valid, until nothing moves any more."""
    shape, lanes, order, samples = case
    model = window_case(shape, lanes, order, depth, element_width=20).model()
    taken: list[int] = []
    given: list[int] = []
    wanted = samples * shape.out[0] * shape.out[1] * _beats_a_window(shape, lanes, order)
    cycle = 0
    while len(given) < wanted or len(taken) < len(valid):
        offered = len(taken) < len(valid) and valid[len(taken)] <= cycle
        inputs = {"x_valid": int(offered), "x_data": 0, "y_ready": 1}
        out = model.cycle(inputs)
        if out["x_ready"] and offered:
            taken.append(cycle)
        if out["y_valid"]:
            given.append(cycle)
        last = max([*valid, *taken[-1:], *given[-1:]])
        if cycle > last + 100:
            break
        cycle += 1
    return taken, given


def _beats_a_window(shape: WindowShape, lanes: int, order: WindowOrder) -> int:
    taps = 1 if order is WindowOrder.PARALLEL else shape.kernel[0] * shape.kernel[1]
    return shape.beats(lanes) * taps


def _times(rng: np.random.Generator, count: int) -> list[int]:
    """Returns arrivals of beats: a beat a cycle, or with gaps, or with long ones."""
    gaps = rng.integers(1, rng.choice([2, 3, 9]), count)
    gaps += (rng.random(count) < rng.choice([0, 0.05])) * rng.integers(1, 60, count)
    return list(itertools.accumulate(gaps.tolist(), initial=0))[:count]


@settings(deadline=None, max_examples=100)
@given(cases(), st.integers(0, 2**32))
def test_the_flow_is_what_the_model_does(
    case: tuple[WindowShape, int, WindowOrder, int], seed: int
) -> None:
    shape, lanes, order, samples = case
    valid = _times(
        np.random.default_rng(seed), samples * shape.height * shape.width * shape.beats(lanes)
    )
    flow = windows_flow(np.array(valid), samples, shape, lanes, order)
    taken, given = _simulated(case, valid, 100_000)
    assert given == flow.valid.tolist()
    assert [taken] == [t.tolist() for t in flow.taken]
    taken, given = _simulated(case, valid, flow.in_depth)
    assert given == flow.valid.tolist()
    assert taken == valid
    if flow.in_depth > least_depth(shape, lanes, order):
        assert _simulated(case, valid, flow.in_depth - 1)[0] != valid


@settings(deadline=None, max_examples=100)
@given(cases())
def test_the_least_depth_never_blocks(case: tuple[WindowShape, int, WindowOrder, int]) -> None:
    shape, lanes, order, samples = case
    valid = list(range(samples * shape.height * shape.width * shape.beats(lanes)))
    given = _simulated(case, valid, least_depth(shape, lanes, order))[1]
    windows = shape.out[0] * shape.out[1]
    assert len(given) == samples * windows * _beats_a_window(shape, lanes, order)


def _moves_back(shape: WindowShape) -> bool:
    """Returns whether V ever does: where padding exceeds the kernel's reach."""
    rows, columns = shape.moving
    row_end = (columns - 1) * shape.stride[1]
    frame_end = (rows - 1) * shape.stride[0] * shape.width + row_end
    return row_end > shape.stride[0] * shape.width or frame_end > shape.height * shape.width


@settings(deadline=None, max_examples=100)
@given(cases())
def test_a_patient_sender_loses_nothing(case: tuple[WindowShape, int, WindowOrder, int]) -> None:
    shape, lanes, order, samples = case
    valid = list(range(samples * shape.height * shape.width * shape.beats(lanes)))
    flow = windows_flow(np.array(valid), samples, shape, lanes, order)
    assert flow.patient_depth <= flow.in_depth
    assert _simulated(case, valid, flow.patient_depth)[1] == flow.valid.tolist()
    bound = order is WindowOrder.PARALLEL or _moves_back(shape)
    if flow.patient_depth > least_depth(shape, lanes, order) and not bound:
        assert _simulated(case, valid, flow.patient_depth - 1)[1] != flow.valid.tolist()


@settings(deadline=None, max_examples=100)
@given(shapes(), st.data())
def test_windows_hold_what_they_say(shape: WindowShape, data: st.DataObject) -> None:
    """Every element by its definition."""
    lanes = data.draw(st.sampled_from([n for n in range(1, 5) if shape.channels % n == 0]))
    numbers = np.arange(2 * shape.channels * shape.height * shape.width, dtype=np.int64)
    x = numbers.reshape(2, shape.channels, shape.height, shape.width)
    rows, columns = shape.kernel
    for order in ORDERS:
        got = windows_of(x, shape, lanes, order, pad_value=-7)
        got = got.reshape(2, *shape.out, -1)
        assert got.shape[-1] == rows * columns * shape.channels
        for sample, oh, ow in np.ndindex(2, *shape.out):
            want = []
            for beat, kh, kw in np.ndindex(shape.beats(lanes), rows, columns):
                r = oh * shape.stride[0] + kh * shape.dilation[0] - shape.padding[0]
                c = ow * shape.stride[1] + kw * shape.dilation[1] - shape.padding[1]
                inside = 0 <= r < shape.height and 0 <= c < shape.width
                channels = range(beat * lanes, (beat + 1) * lanes)
                place = (kh, kw, beat) if order is WindowOrder.TAPS else (beat, kh, kw)
                want.append((place, [x[sample, k, r, c] if inside else -7 for k in channels]))
            flat = [value for _, values in sorted(want, key=lambda w: w[0]) for value in values]
            assert got[sample, oh, ow].tolist() == flat


def _pair(rng: np.random.Generator, low: int, stop: tuple[int, int]) -> tuple[int, int]:
    return int(rng.integers(low, stop[0])), int(rng.integers(low, stop[1]))


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**32))
def test_pools_have_as_many_windows_as_in_pytorch(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size, kernel, stride, dilation = (_pair(rng, 1, (top, top)) for top in (9, 5, 4, 3))
    padding = _pair(rng, 0, (kernel[0] // 2 + 1, kernel[1] // 2 + 1))
    ceil_mode = bool(rng.integers(0, 2))
    pool = torch.nn.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=ceil_mode)
    sides = (padding[0], padding[0], padding[1], padding[1])
    x = torch.from_numpy(rng.integers(-99, 100, (2, 3, *size)).astype(np.float32))
    try:
        want: torch.Tensor | None = pool(x)
    except RuntimeError:
        want = None
    if want is None or bool(torch.isinf(want).all()):
        with pytest.raises(ShapeError):
            WindowShape.of((3, *size), kernel, stride, dilation, sides, ceil_mode)
        return
    shape = WindowShape.of((3, *size), kernel, stride, dilation, sides, ceil_mode)
    lowest = -(2**40)
    ints = x.numpy().astype(np.int64)
    windows = windows_of(ints, shape, 3, WindowOrder.CHANNELS, pad_value=lowest)
    best = windows.reshape(2, *shape.out, -1, 3).max(axis=3).transpose(0, 3, 1, 2)
    # PyTorch pads with minus infinity.
    assert (best == want.clamp(min=lowest).numpy()).all()


def test_a_convolution_is_windows_times_weights() -> None:
    rng = np.random.default_rng(5)
    x, w = rng.integers(-8, 8, (2, 4, 6, 7)), rng.integers(-8, 8, (5, 4, 3, 2))
    shape = WindowShape.of((4, 6, 7), (3, 2), (2, 1), (1, 2), (1, 1, 2, 2))
    want = torch.conv2d(
        torch.from_numpy(x), torch.from_numpy(w), stride=(2, 1), padding=(1, 2), dilation=(1, 2)
    )
    columns = w.transpose(0, 2, 3, 1).reshape(5, -1)
    got = windows_of(x, shape, 2, WindowOrder.TAPS) @ columns.T
    assert (got.transpose(0, 2, 1).reshape(2, 5, *shape.out) == want.numpy()).all()


@settings(deadline=None, max_examples=60)
@given(cases())
def test_frames_follow_in_the_interval(case: tuple[WindowShape, int, WindowOrder, int]) -> None:
    shape, lanes, order, _ = case
    # Where frames take turns, no folding is parallel.
    assume(order is not WindowOrder.PARALLEL or keeps_pace(shape, lanes))
    valid = np.arange(8 * shape.height * shape.width * shape.beats(lanes))
    ends = windows_flow(valid, 8, shape, lanes, order).valid.reshape(8, -1)[:, -1]
    assert ends[7] - ends[3] == 4 * cycles_per_frame(shape, lanes, order)


def test_a_same_convolution_takes_a_cycle_a_pixel_and_two_rows() -> None:
    """3x3, padding 1, fully unrolled: 64 cycles a frame of 8x8, no gap between frames."""
    shape = WindowShape.of((4, 8, 8), (3, 3), padding=(1, 1, 1, 1))
    flow = windows_flow(np.arange(5 * 64), 5, shape, 4, WindowOrder.PARALLEL)
    # The first window waits for pixel (1, 1), the tenth.
    assert flow.valid.tolist() == list(range(9 + 2, 9 + 2 + 5 * 64))
    assert (flow.in_depth, flow.patient_depth) == (18, 18)
    # Folded, 36 steps a window: two rows and three pixels, in beats.
    flow = windows_flow(np.arange(5 * 256), 5, shape, 1, WindowOrder.TAPS)
    frames = flow.valid.reshape(5, -1)[:, -1]
    assert np.diff(frames).tolist() == [64 * 36] * 4
    assert flow.patient_depth == least_depth(shape, 1, WindowOrder.TAPS) == (2 * 8 + 3) * 4


def _bad(**changes: object) -> str:
    """Returns the message for a 3x3 window over 2 x 6 x 6 with these arguments of `of`."""
    given: dict[str, object] = {"size": (2, 6, 6), "kernel": (3, 3)}
    with pytest.raises(ShapeError) as error:
        WindowShape.of(**(given | changes))  # type: ignore[arg-type]
    return str(error.value)


def test_what_does_not_fit_is_refused() -> None:
    assert _bad(size=(2, 6, 4), kernel=(3, 3), dilation=(1, 2)) == (
        "window: the kernel must fit the padded frame, got width 4 for kernel 3, dilation 2; pad "
        "more or use a smaller kernel"
    )
    assert _bad(size=(2, 1, 6), kernel=(2, 2), dilation=(2, 1), padding=(1, 1, 0, 0)) == (
        "window: some window must hold a pixel, got height 1 with all windows in the padding of 1; "
        "pad less"
    )
    assert _bad(padding=(0, 0, -1, 0)) == "window: padding is >= 0, got (0, -1); crop before"
    assert _bad(stride=(0, 1)).startswith("window: sizes, strides and dilations are >= 1, got ")
    with pytest.raises(ShapeError, match=re.escape("lanes must divide 2 channels, got 3")):
        WindowShape.of((2, 6, 6), (3, 3)).beats(3)
