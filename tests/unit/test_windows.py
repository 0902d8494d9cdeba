"""Windows: geometry and reference against PyTorch, timing against the cycle model of the RTL."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from chop.errors import ShapeError
from chop.ops.windows import WindowOrder, WindowShape, least_depth, windows_flow, windows_of
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
) -> tuple[list[int], list[int], list[int]]:
    """Returns when input beats were taken, when output beats were valid, and what these held.

    Input beat k holds k. Stops where nothing moves any more.
    """
    shape, lanes, order, samples = case
    model = window_case(shape, lanes, order, depth, element_width=20).model()
    taken: list[int] = []
    given: list[int] = []
    held: list[int] = []
    wanted = samples * shape.out[0] * shape.out[1] * _beats_a_window(shape, lanes, order)
    cycle = 0
    while len(given) < wanted or len(taken) < len(valid):
        offered = len(taken) < len(valid) and valid[len(taken)] <= cycle
        inputs = {"x_valid": offered, "x_data": len(taken), "y_ready": 1}
        out = model.cycle(inputs)
        if out["x_ready"] and offered:
            taken.append(cycle)
        if out["y_valid"]:
            given.append(cycle)
            held.append(int(out["y_data"] or 0))
        last = max([*valid, *taken[-1:], *given[-1:]])
        if cycle > last + 100:
            break
        cycle += 1
    return taken, given, held


def _beats_a_window(shape: WindowShape, lanes: int, order: WindowOrder) -> int:
    taps = 1 if order is WindowOrder.PARALLEL else shape.kernel[0] * shape.kernel[1]
    return shape.beats(lanes) * taps


def _times(rng: np.random.Generator, count: int) -> list[int]:
    """Returns arrivals of beats: a beat a cycle, or with gaps, or with long ones."""
    gaps = rng.integers(1, rng.choice([2, 3, 9]), count)
    gaps += (rng.random(count) < rng.choice([0, 0.05])) * rng.integers(1, 60, count)
    return list(itertools.accumulate(gaps.tolist(), initial=0))[:count]


@settings(deadline=None, max_examples=150)
@given(cases(), st.integers(0, 2**32))
def test_the_flow_is_what_the_model_does(
    case: tuple[WindowShape, int, WindowOrder, int], seed: int
) -> None:
    shape, lanes, order, samples = case
    valid = _times(
        np.random.default_rng(seed), samples * shape.height * shape.width * shape.beats(lanes)
    )
    flow = windows_flow(np.array(valid), samples, shape, lanes, order)
    taken, given, _ = _simulated(case, valid, len(valid) * 4 + least_depth(shape, lanes, order))
    assert given == flow.valid.tolist()
    assert [taken] == [t.tolist() for t in flow.taken]
    taken, given, _ = _simulated(case, valid, flow.in_depth)
    assert given == flow.valid.tolist()
    assert taken == valid
    if flow.in_depth > least_depth(shape, lanes, order):
        assert _simulated(case, valid, flow.in_depth - 1)[0] != valid


def _moves_back(shape: WindowShape) -> bool:
    """Returns whether V ever does: where padding exceeds the kernel's reach."""
    rows, columns = shape.moving
    row_end = (columns - 1) * shape.stride[1]
    frame_end = (rows - 1) * shape.stride[0] * shape.width + row_end
    return row_end > shape.stride[0] * shape.width or frame_end > shape.height * shape.width


@settings(deadline=None, max_examples=150)
@given(cases())
def test_a_patient_sender_loses_nothing(case: tuple[WindowShape, int, WindowOrder, int]) -> None:
    shape, lanes, order, samples = case
    valid = list(range(samples * shape.height * shape.width * shape.beats(lanes)))
    flow = windows_flow(np.array(valid), samples, shape, lanes, order)
    assert flow.patient_depth <= flow.in_depth
    assert _simulated(case, valid, flow.patient_depth)[1] == flow.valid.tolist()
    if flow.patient_depth > least_depth(shape, lanes, order) and not _moves_back(shape):
        assert _simulated(case, valid, flow.patient_depth - 1)[1] != flow.valid.tolist()
