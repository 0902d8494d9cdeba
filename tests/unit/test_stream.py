"""Streams: the order of a tensor's elements, and beats as hexadecimal text."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chop.ir.stream import beats_to_hex, hex_to_beats, stream_order, tensor_order
from chop.ir.tensor_type import stream_permutation


@st.composite
def beats(draw: st.DrawFn) -> tuple[npt.NDArray[np.int64], int, bool]:
    width, signed = draw(st.integers(1, 62)), draw(st.booleans())
    low, high = (-(1 << (width - 1)), (1 << (width - 1)) - 1) if signed else (0, (1 << width) - 1)
    lanes, count = draw(st.integers(1, 9)), draw(st.integers(1, 6))
    value = st.integers(low, high)
    rows = draw(
        st.lists(st.lists(value, min_size=lanes, max_size=lanes), min_size=count, max_size=count)
    )
    return np.array(rows, np.int64), width, signed


@given(beats())
def test_text_round_trip(case: tuple[npt.NDArray[np.int64], int, bool]) -> None:
    values, width, signed = case
    text = beats_to_hex(values, width)
    assert np.array_equal(hex_to_beats(text, values.shape[1], width, signed), values)


@given(beats())
def test_a_line_is_the_beat_with_lane_0_in_the_low_bits(
    case: tuple[npt.NDArray[np.int64], int, bool],
) -> None:
    values, width, _ = case
    lines = beats_to_hex(values, width).splitlines()
    assert len(lines) == len(values)
    for line, beat in zip(lines, values.tolist(), strict=True):
        word = sum((v & ((1 << width) - 1)) << (lane * width) for lane, v in enumerate(beat))
        assert int(line, 16) == word
        assert len(line) == 2 * -(-len(beat) * width // 8)


def test_long_streams_are_packed_in_parts() -> None:
    # 3 lanes of 62 bits: more beats than one part of 2^25 bits holds.
    values = np.random.default_rng(0).integers(-(1 << 61), 1 << 61, (200_000, 3))
    assert np.array_equal(hex_to_beats(beats_to_hex(values, 62), 3, 62, True), values)


def test_text_without_leading_zeros_is_read() -> None:
    assert hex_to_beats("1f\n0\n", 2, 12, True).tolist() == [[31, 0], [0, 0]]


@pytest.mark.parametrize("text", ["xx\n", "0z\n"])
def test_an_unknown_digit_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="non-hexadecimal number found"):
        hex_to_beats(text, 1, 8, False)


def test_channels_are_innermost() -> None:
    # Two channels of two rows of three columns: h, w, then c.
    tensor = np.arange(12).reshape(1, 2, 2, 3)
    expected = [tensor[0, c, h, w] for h in range(2) for w in range(3) for c in range(2)]
    assert stream_order(tensor, (2, 2, 3)).tolist() == [expected]


def test_without_a_layout_the_order_is_row_major() -> None:
    tensor = np.arange(24).reshape(2, 3, 4)
    assert stream_order(tensor, None).tolist() == [list(range(12)), list(range(12, 24))]


@given(st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)), st.booleans())
def test_tensor_order_undoes_stream_order(layout: tuple[int, int, int], given_layout: bool) -> None:
    chosen = layout if given_layout else None
    tensor = np.random.default_rng(1).integers(-99, 99, (3, *layout))
    assert np.array_equal(tensor_order(stream_order(tensor, chosen), layout, chosen), tensor)


def test_permutation_maps_stream_positions_to_row_major_indices() -> None:
    tensor = np.arange(30).reshape(1, 5, 3, 2) * 7
    order = stream_permutation(30, (5, 3, 2))
    assert (tensor.reshape(-1)[order] == stream_order(tensor, (5, 3, 2))[0]).all()
